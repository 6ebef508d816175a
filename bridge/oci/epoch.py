"""SOURCE_DATE_EPOCH: the time that a build says it is, whatever the clock says.

Source: https://reproducible-builds.org/specs/source-date-epoch/
"""

from __future__ import annotations

import os

from bridge.errors import UsageError

_DIGITS = 11
"""Of the seconds until the year 5138: what every date in here can hold."""


def source_date_epoch() -> int | None:
    """Return what the environment has, in seconds since 1970; None where it is not set.

    `UsageError` where it says anything else.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise UsageError(f"SOURCE_DATE_EPOCH={text!r:.50} is no number of seconds since 1970")
    return int(text)
