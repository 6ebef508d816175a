"""Times, sizes and other words of a configuration; text in, values out, `UsageError` if wrong."""

from __future__ import annotations

import re

from bridge.errors import UsageError

_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:[0-9]{1,9}[wdhms])+")
_GO_UNITS = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ns": 1e-9,
}
_GO_PART = r"(?:[0-9]{1,18}(?:\.[0-9]*)?|\.[0-9]{1,18})(?:h|ms|m|s|us|µs|μs|ns)"
_GO_DURATION = re.compile(rf"[+-]?(?:{_GO_PART})+")
_SIZES = {
    "": 1,
    "B": 1,
    "K": 1024,
    "M": 1024**2,
    "G": 1024**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)")
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[A-Za-z0-9._-]+)?")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_CENTURY = 36525 * 86400.0
_GO_LONGEST = 2**63 / 1e9
"""Seconds that Go's int64 of nanoseconds can hold."""


def duration(text: str) -> float:
    """Return the seconds of `90d`, `1h30m` and the like: weeks, days, hours, minutes, seconds."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{text!r:.100} is not a time such as 90d, 6h, 1h30m or 45s")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(.)", text))
    if seconds > _CENTURY:
        raise UsageError(f"{text!r:.100} is longer than a century")
    return seconds


def some_duration(text: str) -> float:
    """Return the seconds, which are more than none."""
    seconds = duration(text)
    if seconds <= 0:
        raise UsageError(f"{text!r:.100} is no time at all; leave the key out")
    return seconds


def go_duration(text: str) -> float:
    """Return the seconds of what Go's `time.ParseDuration` reads, or of a number of nanoseconds."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text) * 1e-9
    if not _GO_DURATION.fullmatch(text):
        raise UsageError(f"{text!r:.100} is not a time as Go has them, such as 1h30m or 90s")
    parts = re.findall(r"([0-9.]+)([a-zµμ]+)", text)
    seconds = sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
    if seconds > _GO_LONGEST:
        raise UsageError(f"{text!r:.100} is longer than Go can count")
    return -seconds if text.startswith("-") else seconds


def go_positive(text: str) -> float:
    """Return the seconds of a Go duration that is not negative."""
    seconds = go_duration(text)
    if seconds < 0:
        raise UsageError(f"{text!r:.100} is less than no time")
    return seconds


def size(text: str) -> int:
    """Return the bytes of `64MiB`, `10MB`, `1.5GB`, `512K` (of 1024) or a plain number."""
    matched = _SIZE.fullmatch(text)
    factor = _SIZES.get(matched[2].upper()) if matched else None
    if matched is None or factor is None:
        raise UsageError(f"{text!r:.100} is not a size such as 64MiB, 10MB or a number of bytes")
    found = int(float(matched[1]) * factor)
    if found < 1:
        raise UsageError(f"{text!r:.100} is less than a byte")
    return found


def rate(text: str) -> int:
    """Return the bytes per second of `20MB/s`, with or without the `/s`."""
    try:
        return size(text.removesuffix("/s"))
    except UsageError:
        raise UsageError(f"{text!r:.100} is not a rate such as 20MB/s or 5MiB/s") from None


def platform(text: str) -> str:
    """Return `os/arch[/variant]`."""
    if not _PLATFORM.fullmatch(text):
        raise UsageError(f"{text!r:.100} is not a platform such as linux/amd64 or linux/arm/v7")
    return text


def media_type(text: str) -> str:
    """Return a media type."""
    if not _MEDIA_TYPE.fullmatch(text):
        raise UsageError(f"{text!r:.100} is not a media type")
    return text
