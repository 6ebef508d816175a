"""Ranges of versions in regsync's dialect, which differs from the one that skopeo reads.

A version has any number of numbers; one before a release is a version like others, and in what it
calls itself, digits count as numbers wherever they stand (`rc2` is before `rc11`). Comparisons
hold together; there is no `||`, for several ranges are a list. Source of the format:
regclient's `internal/semver`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from itertools import zip_longest

from bridge.errors import UsageError

_NUMBER = re.compile(r"[0-9]+")
_NUMBER_BOUND = 2**63
_TEXT_LENGTH = 256
_PIECES = re.compile(r"([^0-9]*)([0-9]*)")
_OPERATORS = (">=", "<=", ">", "<", "=")


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version. Numbers that are not there are 0."""

    numbers: tuple[int, ...]
    pre: str = ""

    def compare(self, other: Version) -> int:
        """Return what is below, at or above 0, as this is below, at or above the other."""
        for mine, others in zip_longest(self.numbers, other.numbers, fillvalue=0):
            if mine != others:
                return -1 if mine < others else 1
        if bool(self.pre) != bool(other.pre):
            return -1 if self.pre else 1
        return _compare_pre(self.pre, other.pre) if self.pre != other.pre else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.compare(other) == 0

    def __lt__(self, other: Version) -> bool:
        return self.compare(other) < 0

    def __hash__(self) -> int:
        return hash(self.numbers[:1])


def parse(text: str) -> Version | None:
    """Return the version of a tag; None if it is none."""
    if len(text) > _TEXT_LENGTH:
        return None
    text, _, _ = text.removeprefix("v").partition("+")
    numbers, _, pre = text.partition("-")
    parts = numbers.split(".")
    if not all(_NUMBER.fullmatch(part) and int(part) < _NUMBER_BOUND for part in parts):
        return None
    return Version(tuple(int(part) for part in parts), pre)


def _compare_pre(one: str, other: str) -> int:
    ones, others = one.split("."), other.split(".")
    for mine, yours in zip(ones, others, strict=False):
        while mine and yours:
            my_head, my_number, mine = _first(mine)
            your_head, your_number, yours = _first(yours)
            if my_head != your_head:
                return -1 if my_head < your_head else 1
            if my_number is None or your_number is None:
                if my_number is None and your_number is None:
                    return 0
                return -1 if my_number is None else 1
            if my_number != your_number:
                return -1 if my_number < your_number else 1
        if mine or yours:
            return 1 if mine else -1
    return (len(ones) > len(others)) - (len(ones) < len(others))


def _first(text: str) -> tuple[str, int | None, str]:
    """Return what is before the first number, the number, and the rest."""
    matched = _PIECES.match(text)
    assert matched is not None
    number = int(matched[2]) if matched[2] and int(matched[2]) < _NUMBER_BOUND else None
    return matched[1], number, text[matched.end() :]


@dataclass(frozen=True, slots=True)
class Range:
    """A matcher of tags (`model.Matcher`): those that are a version in the range."""

    expression: str
    _parts: tuple[tuple[str, Version], ...] = field(repr=False, compare=False)

    def __call__(self, name: str, /) -> bool:
        version = parse(name)
        return version is not None and all(
            _holds(operator, version.compare(bound)) for operator, bound in self._parts
        )


def _holds(operator: str, compared: int) -> bool:
    if compared == 0:
        return "=" in operator
    return (">" if compared > 0 else "<") in operator


def parse_range(expression: str) -> Range:
    """Parse `>=1.0.0 <2.0.0`, `^1.2`, `~1.2.3` or `1.2.3`; raises `UsageError`."""
    parts: list[tuple[str, Version]] = []
    for text in expression.split():
        mark = text[0] if text[0] in "^~" else ""
        operator = next((each for each in _OPERATORS if text.startswith(each)), "")
        version = parse(text[1:] if mark else text.removeprefix(operator))
        if version is None:
            raise UsageError(
                f"{text!r:.100} is not a comparison with a version as regsync has them, such as "
                ">=1.2.0 (without a space after the sign)"
            )
        if mark:
            parts += [(">=", version), ("<", _end(mark, version))]
        else:
            parts.append((operator or "=", version))
    if not parts:
        raise UsageError("an empty range of versions")
    return Range(expression, tuple(parts))


def _end(mark: str, version: Version) -> Version:
    """Return the version that is above all that `^` and `~` mean."""
    major, minor, patch = (*version.numbers, 0, 0)[:3]
    if mark == "~":
        return Version((major, minor + 1, 0))
    if major > 0:
        return Version((major + 1, 0, 0))
    return Version((0, minor + 1, 0)) if minor > 0 else Version((0, 0, patch + 1))
