"""RFC 3339 timestamps, normalised as bootc prints them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
)
_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):([0-5]\d|60)(?:\.(\d+))?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)


def normalise(text: str) -> str | None:
    """Return an RFC 3339 timestamp in UTC with 0, 3, 6 or 9 decimals; `None` when it is none."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        # datetime has no leap seconds.
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        if match[8]:
            offset = timedelta(hours=int(match[9]), minutes=int(match[10]))
            moment = moment - offset if match[8] == "+" else moment + offset
    except (ValueError, OverflowError):
        return None
    fraction = (match[7] or "")[:9].rstrip("0")
    if fraction:
        fraction = "." + fraction.ljust(-(-len(fraction) // 3) * 3, "0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f"{fraction}Z"


def of(seconds: float) -> str:
    """Return the normalised timestamp of a time in seconds since 1970, without decimals."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def age(text: str, now: datetime) -> str | None:
    """Return how long ago a normalised timestamp is, in its largest unit; None if it lies ahead."""
    try:
        seconds = (now - datetime.fromisoformat(without_fraction(text))).total_seconds()
    except ValueError:
        return None
    if seconds < 0:
        return None
    for unit, length in _UNITS:
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def without_fraction(text: str) -> str:
    """Return a normalised timestamp without its decimals, as for people to read."""
    return text.partition(".")[0].removesuffix("Z") + "Z"
