"""The order of tags that "the newest N" goes by: versions above other names, each by its numbers.

A tag that begins with numbers (`42`, `v1.10`, `2.4.58.1`, `41.20250101.0`) is a version, whatever
follows after `-` or `+`: as with semver.org, `1.2-rc1` is below `1.2`, and so is `1.2-alpine`.
Unlike there, digits count as numbers wherever they stand: `rc2` is below `rc11`. Names that are no
versions (`jammy-20240101`, `latest`) are below all that are, in the same natural order.
"""

from __future__ import annotations

import re

_VERSION = re.compile(r"[vV]?([0-9]+(?:\.[0-9]+)*)(?:-([^+]*))?(?:\+.*)?")
_PIECE = re.compile(r"([0-9]+)|([^0-9]+)")

Key = tuple[object, ...]


def key(tag: str) -> Key:
    """Return what tags are sorted by, the oldest first; different tags have different keys."""
    matched = _VERSION.fullmatch(tag)
    if matched is None:
        return (0, (), False, _natural(tag), tag)
    numbers = [_number(digits) for digits in matched[1].split(".")]
    while numbers and numbers[-1] == _number("0"):
        numbers.pop()
    pre = matched[2] or ""
    # Of tags that say the same, the one that says more is above: `1.0.0` of `1.0`.
    return (1, tuple(numbers), not pre, _natural(pre), (len(tag), tag))


def _number(digits: str) -> tuple[int, str]:
    """Return what numbers are compared by: there may be more digits than `int` takes."""
    digits = digits.lstrip("0")
    return len(digits), digits


def _natural(text: str) -> tuple[tuple[bool, int, str], ...]:
    return tuple(
        (False, *_number(digits)) if digits else (True, 0, other)
        for digits, other in _PIECE.findall(text)
    )
