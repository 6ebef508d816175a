"""Where files go that are needed for a while, and may be as large as an image."""

from __future__ import annotations

import os


def spool_directory() -> str:
    """Return the directory: TMPDIR, else `/var/tmp`, for `/tmp` may be in memory."""
    return os.environ.get("TMPDIR") or "/var/tmp"
