"""How a blob came to be where it was to be."""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """As reports have it."""

    PUSHED = "pushed"
    SKIPPED = "skipped"
    """It was there."""
    MOUNTED = "mounted"
    """Another repository of the registry had it."""
