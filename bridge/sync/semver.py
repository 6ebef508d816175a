"""Semantic versions, strict and as tags are, and ranges of them in the dialect that skopeo reads.

Format: https://semver.org, and for what is looser, and for ranges, the documentation of
github.com/Masterminds/semver v3, which is the library that skopeo uses. regsync's ranges are
another dialect: `bridge.sync.regsync_ranges`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.errors import UsageError

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_TAIL = rf"(?:-(?P<pre>{_IDENTIFIERS}))?(?:\+(?P<build>{_IDENTIFIERS}))?"
_LOOSE = re.compile(rf"v?(?P<major>[0-9]+)(?:\.(?P<minor>[0-9]+))?(?:\.(?P<patch>[0-9]+))?{_TAIL}")
_STRICT = re.compile(r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)")
_NUMBER_BOUND = 2**64
_TEXT_LENGTH = 256
"""Tags have 128 characters at most; a number of thousands of digits takes time to be read."""

_SPACE = " \t\n\f\r"
_X = r"[0-9xX*]+"
_RANGE_VERSION = rf"v?{_X}(?:\.{_X})?(?:\.{_X})?(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?"
_OPERATORS = ("<=", "=<", ">=", "=>", "!=", "~>", "=", "<", ">", "~", "^")
_PART = re.compile(
    rf"(?P<operator>{'|'.join(re.escape(each) for each in _OPERATORS)}|)[{_SPACE}]*"
    rf"v?(?P<major>{_X})(?:\.(?P<minor>{_X}))?(?:\.(?P<patch>{_X}))?{_TAIL}"
)
_HYPHEN = re.compile(
    rf"[{_SPACE}]*({_RANGE_VERSION})[{_SPACE}]+-[{_SPACE}]+({_RANGE_VERSION})[{_SPACE}]*"
)


@functools.total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version; two are equal, and neither is less, if they differ in the build alone."""

    major: int
    minor: int = 0
    patch: int = 0
    pre: str = ""
    build: str = field(default="", compare=False)

    def __lt__(self, other: Version) -> bool:
        return self.precedence < other.precedence

    @property
    def precedence(self) -> tuple[object, ...]:
        """What versions are ordered by: semver.org, item 11."""
        return (self.major, self.minor, self.patch, not self.pre, _precedence(self.pre))

    def __str__(self) -> str:
        pre = f"-{self.pre}" if self.pre else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}" + (
            f"+{self.build}" if self.build else ""
        )


def _precedence(pre: str) -> tuple[tuple[bool, int, str], ...]:
    """Identifiers that are numbers are below others; of two lists, the longer one is above."""
    if not pre:
        return ()
    return tuple(
        (False, int(each), "") if each.isdigit() else (True, 0, each) for each in pre.split(".")
    )


def loose(text: str) -> Version | None:
    """Return the version of a tag such as `v1.2`, `1` or `1.02.3-rc.1+5`; None if it is none."""
    matched = _LOOSE.fullmatch(text) if len(text) <= _TEXT_LENGTH else None
    return None if matched is None else _version(matched)


def strict(text: str) -> Version | None:
    """Return the version of a text that is one by the letter of semver.org; None if it is not."""
    numbers = re.split(r"[-+]", text, maxsplit=1)[0]
    version = loose(text) if _STRICT.fullmatch(numbers) else None
    if version is not None and any(
        each.isdigit() and each != "0" and each.startswith("0") for each in version.pre.split(".")
    ):
        return None
    return version


def _version(matched: re.Match[str]) -> Version | None:
    major, minor, patch = (int(matched[name] or "0") for name in ("major", "minor", "patch"))
    pre = matched["pre"] or ""
    if max(major, minor, patch) >= _NUMBER_BOUND:
        return None
    # What comes before the numbers may have zeros in front; an identifier may not.
    if any(each.isdigit() and len(each) > 1 and each[0] == "0" for each in pre.split(".")):
        return None
    return Version(major, minor, patch, pre, matched["build"] or "")


@dataclass(frozen=True, slots=True)
class _Part:
    """One comparison. `given` is how many numbers of the version are not left open."""

    operator: str
    version: Version
    given: int

    def holds(self, version: Version, with_pre: bool) -> bool:
        if version.pre and not with_pre:
            return False
        return _COMPARISONS[self.operator](version, self)


def _tilde(version: Version, part: _Part) -> bool:
    bound = part.version
    if version < bound:
        return False
    if part.given == 0:
        return True
    if part.given == 3 and (bound.major, bound.minor, bound.patch) == (0, 0, 0):
        return True  # the library's exception
    if version.major != bound.major:
        return False
    return part.given == 1 or version.minor == bound.minor


def _equal(version: Version, part: _Part) -> bool:
    return version == part.version if part.given == 3 else _tilde(version, part)


def _unequal(version: Version, part: _Part) -> bool:
    bound = part.version
    if part.given == 3:
        return version != bound
    if version.major != bound.major:
        return True
    if part.given == 1:
        return False
    if version.minor != bound.minor:
        return True
    if part.given == 2:
        return version.pre != bound.pre
    return version != bound


def _greater(version: Version, part: _Part) -> bool:
    bound = part.version
    if part.given in (0, 3) or version.major != bound.major:
        return version > bound if part.given in (0, 3) else version.major > bound.major
    return part.given == 2 and version.minor > bound.minor


def _at_most(version: Version, part: _Part) -> bool:
    bound = part.version
    if part.given == 3:
        return version <= bound
    if version.major > bound.major:
        return False
    return version.major < bound.major or part.given == 1 or version.minor <= bound.minor


def _caret(version: Version, part: _Part) -> bool:
    bound = part.version
    if version < bound:
        return False
    if bound.major > 0 or part.given == 1:
        return version.major == bound.major
    if version.major > 0:
        return False
    if bound.minor > 0 or part.given == 2:
        return version.minor == bound.minor
    return version.minor == 0 and version.patch == bound.patch


_COMPARISONS: dict[str, Callable[[Version, _Part], bool]] = {
    "": _equal,
    "=": _equal,
    "!=": _unequal,
    ">": _greater,
    "<": lambda version, part: version < part.version,
    ">=": lambda version, part: version >= part.version,
    "=>": lambda version, part: version >= part.version,
    "<=": _at_most,
    "=<": _at_most,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}


@dataclass(frozen=True, slots=True)
class Range:
    """A matcher of tags (`model.Matcher`): those that are a version in the range.

    A version before a release is in it only where the range names such a one itself.
    """

    expression: str
    _alternatives: tuple[tuple[_Part, ...], ...] = field(repr=False, compare=False)

    def __call__(self, name: str, /) -> bool:
        version = loose(name)
        return version is not None and self.has(version)

    def has(self, version: Version) -> bool:
        """Tell whether a version is in the range."""
        for parts in self._alternatives:
            with_pre = any(part.version.pre for part in parts)
            if all(part.holds(version, with_pre) for part in parts):
                return True
        return False


def parse_range(expression: str) -> Range:
    """Parse `>= 1.2, < 3 || ~4.1 || ^0.2.3 || 1.x || 1.2 - 2.3.4`; raises `UsageError`.

    Comparisons with spaces or commas between them hold together; those around `||` each alone.
    """
    if len(expression) > _TEXT_LENGTH * 16:
        raise UsageError("a range of versions that is too long")
    rewritten = _HYPHEN.sub(r">= \1, <= \2 ", expression)
    alternatives = []
    for text in rewritten.split("||"):
        parts = _parts(text)
        if parts is None:
            raise UsageError(
                f"{expression!r:.100} is not a range of versions such as '>= 1.2, < 3' or ~1.4"
            )
        alternatives.append(parts)
    return Range(expression, tuple(alternatives))


def _parts(text: str) -> tuple[_Part, ...] | None:
    """Return the comparisons of one alternative; None if there is something else in it."""
    parts: list[_Part] = []
    position = _skipped(text, 0)
    while position < len(text):
        matched = _PART.match(text, position)
        part = None if matched is None else _part(matched)
        if matched is None or part is None:
            return None
        parts.append(part)
        end = matched.end()
        position = _skipped(text, end)
        if position < len(text) and text[position] == ",":
            position = _skipped(text, position + 1)
            if position == len(text):
                return None
        elif position == end and position < len(text):
            return None
    return tuple(parts) or None


def _skipped(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _part(matched: re.Match[str]) -> _Part | None:
    numbers: list[str] = []
    for name in ("major", "minor", "patch"):
        number = matched[name]
        if number is None or number in ("x", "X", "*"):
            break
        if not number.isdigit():
            return None
        numbers.append(number)
    # What follows an open number is open, too, whatever stands there.
    given = len(numbers)
    numbers += ["0"] * (3 - given)
    pre = matched["pre"] or ""
    tail = (f"-{pre}" if pre else "") + (f"+{matched['build']}" if matched["build"] else "")
    version = loose(".".join(numbers) + tail)
    return None if version is None else _Part(matched["operator"], version, given)
