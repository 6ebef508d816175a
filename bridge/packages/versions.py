"""Which of two versions of a package is the later one.

Debian's: deb-version(7). Epoch, upstream version and revision, each compared in stretches of
non-digits, in which letters sort before all else and `~` before even the end, and of digits, as
numbers. RPM's: rpm-version(7). Epoch, version and release, in stretches of letters or of digits,
whatever stands between them; `~` is before the end, `^` behind it, but before anything else.
"""

from __future__ import annotations

import re

_DEB_STRETCHES = re.compile(r"([^0-9]*)([0-9]*)")
_RPM_STRETCHES = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")
_EPOCH = re.compile(r"(?:([0-9]+):)?(.*)", re.DOTALL)
_END = (0, "", 0)


def compare(kind: str, one: str, other: str) -> int:
    """Return a number below, at or above 0 as `one` is earlier than `other`, as good as equal, or
    later. `kind` is a package's, `deb` or `rpm`."""
    keys = (_deb_key, _rpm_key)[kind == "rpm"]
    before, after = keys(one), keys(other)
    return (before > after) - (before < after)


def _split(version: str) -> tuple[int, str, str]:
    found = _EPOCH.fullmatch(version)
    assert found is not None  # it takes anything
    main, _, last = found[2].rpartition("-")
    return _number(found[1] or ""), main or last, last if main else ""


def _number(digits: str) -> int:
    # Of thousands of digits nobody makes an int.
    return int(digits[:4000] or "0")


def _deb_key(version: str) -> tuple[object, ...]:
    epoch, upstream, revision = _split(version)
    return epoch, _deb_part(upstream), _deb_part(revision or "0")


def _deb_part(text: str) -> list[tuple[tuple[int, ...], int]]:
    return [
        # The end of a stretch (0) is behind `~` and before letters.
        ((*map(_deb_order, words), 0), _number(digits))
        for words, digits in _DEB_STRETCHES.findall(text)
        if words or digits
    ] + [((0,), 0)]


def _deb_order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) + (0 if character.isalpha() else 0x110000)


def _rpm_key(version: str) -> tuple[object, ...]:
    epoch, main, release = _split(version)
    return epoch, _rpm_part(main), _rpm_part(release)


def _rpm_part(text: str) -> list[tuple[int, str, int]]:
    found: list[tuple[int, str, int]] = []
    for stretch in _RPM_STRETCHES.findall(text):
        if stretch == "~":
            found.append((-1, "", 0))
        elif stretch == "^":
            found.append((1, "", 0))
        elif stretch.isdigit():
            found.append((3, "", _number(stretch)))
        else:
            found.append((2, stretch, 0))
    return [*found, _END]
