"""Entries of the Boot Loader Specification, as libostree writes and reads them.

Format: https://uapi-group.org/specifications/specs/boot_loader_specification/ (type #1). One
`key value` per line; the order in which libostree writes the keys is part of what we reproduce.
Keys that we do not know, and further `initrd` lines, are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ORDER = ("title", "version", "options", "devicetree", "linux", "initrd")
_DIGITS = re.compile("([0-9]+)")


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
    for line in text.split("\n"):
        parts = line.split(None, 1)
        if len(parts) != 2 or not (line[0].isascii() and line[0].isalpha()):
            continue
        key, value = parts[0], parts[1].rstrip()
        if key != "initrd":
            fields = [field for field in fields if field[0] != key]
        fields.append((key, value))
    return Entry(tuple(fields))


def render(entry: Entry) -> str:
    """Return the text of an entry: libostree's keys in libostree's order, then the others."""
    ordered = [(key, value) for key in _ORDER for value in entry.get_all(key)]
    return "".join(f"{key} {value}\n" for key, value in (*ordered, *entry.unknown))


def version_key(version: str | None) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which versions compare as by strverscmp; `None` sorts lowest."""
    if version is None:
        return ()
    parts = _DIGITS.split(version)
    # Every second part is a number; those in between may be empty, and sort before numbers.
    return tuple(
        (1, int(part), "") if place % 2 else (0, 0, part) for place, part in enumerate(parts)
    )


def file_name(version: int) -> str:
    """Return the name of the entry of this version: `ostree-N.conf`.

    libostree's naming since 2024.5: GRUB sorts by file name and passes over the `version` key, so
    a stateroot in the name would change the boot order. Older names are read all the same.
    """
    return f"ostree-{version}.conf"


def is_entry_name(name: str) -> bool:
    """Tell whether a file of this name is one of OSTree's entries, by old or new naming."""
    return name.startswith("ostree-") and name.endswith(".conf")
