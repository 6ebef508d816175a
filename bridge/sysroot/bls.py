"""Entries of the Boot Loader Specification, as libostree writes and reads them.

Format: https://uapi-group.org/specifications/specs/boot_loader_specification/ (type #1). One
`key value` per line; the order in which libostree writes the keys is part of what we reproduce.
Keys that we do not know, and further `initrd` lines, are kept.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from bridge.errors import BridgeError

_ORDER = ("title", "version", "options", "devicetree", "linux", "initrd")
_DIGITS = "0123456789"
_NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One boot entry: its keys and values in the order of the file. Only `initrd` may repeat."""

    fields: tuple[tuple[str, str], ...] = ()

    def get(self, key: str) -> str | None:
        """Return the first value of `key`."""
        return next((value for name, value in self.fields if name == key), None)

    def get_all(self, key: str) -> tuple[str, ...]:
        """Return every value of `key`."""
        return tuple(value for name, value in self.fields if name == key)

    def replace(self, key: str, *values: str) -> Entry:
        """Return the entry with exactly these values of `key`; without any, it is left out."""
        others = tuple(field for field in self.fields if field[0] != key)
        return Entry((*others, *((key, value) for value in values)))

    @property
    def unknown(self) -> tuple[tuple[str, str], ...]:
        """The fields that libostree does not write itself."""
        return tuple(field for field in self.fields if field[0] not in _ORDER)


def parse(text: str) -> Entry:
    """Parse an entry. Never fails: comments and lines without a value are passed over.

    A key other than `initrd` that is given twice keeps its last value, as in libostree.
    """
    fields: list[tuple[str, str]] = []
    seen: set[str] = set()
    for line in reversed(text.split("\n")):
        parts = line.split(None, 1)
        if len(parts) != 2 or not (line[0].isascii() and line[0].isalpha()):
            continue
        key, value = parts[0], parts[1].rstrip()
        if key == "initrd" or key not in seen:
            fields.append((key, value))
        seen.add(key)
    return Entry(tuple(reversed(fields)))


def render(entry: Entry) -> str:
    """Return the text of an entry: libostree's keys in libostree's order, then the others.

    Raises `BridgeError` for a value that would begin another line, or end the file to a reader.
    """
    for key, value in entry.fields:
        if "\n" in value or "\0" in value:
            raise BridgeError(f"a boot entry cannot have a line break in {key}: {value!r:.200}")
    ordered = [(key, value) for key in _ORDER for value in entry.get_all(key)]
    return "".join(f"{key} {value}\n" for key, value in (*ordered, *entry.unknown))


def _compare(one: str | None, other: str | None) -> int:
    """Compare as strverscmp(3), which libostree and GRUB sort by; `None` is below everything."""
    if one is None or other is None:
        return (one is not None) - (other is not None)
    pairs = enumerate(zip(one, other, strict=False))
    differs = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    start = len(one[:differs].rstrip(_DIGITS))  # of the number that the difference is in, if any
    left, right = (_NUMBER.match(each, start) for each in (one, other))
    if left and right:
        if "0" not in (one[start], other[start]):
            if len(left[0]) != len(right[0]):
                return len(left[0]) - len(right[0])
        elif differs > start and not one[start:differs].strip("0"):
            # Zeros in front are decimals: 000, 00, 01, 010, 09, 0.
            ends = left.end() == differs, right.end() == differs
            if ends[0] != ends[1]:
                return ends[0] - ends[1]
    return (one > other) - (one < other)


version_key = functools.cmp_to_key(_compare)
"""A sort key for versions, which are texts or None."""


def file_name(version: int) -> str:
    """Return the name of the entry of this version: `ostree-N.conf`.

    libostree's naming since 2024.5: GRUB sorts by file name and passes over the `version` key, so
    a stateroot in the name would change the boot order. Older names are read all the same.
    """
    return f"ostree-{version}.conf"


def is_entry_name(name: str) -> bool:
    """Tell whether a file of this name is one of OSTree's entries, by old or new naming."""
    return name.startswith("ostree-") and name.endswith(".conf")
