"""rpm's headers: what its database holds of each package.

Two counts of 32 bits, that of the index entries and that of the bytes behind them; then the
entries, 16 bytes each: tag, type, offset and count; then those bytes, the store, which offsets
count from. All numbers have their highest byte first. An entry of the region tag in front says that
what follows it is as it was signed; what was added when the package was installed stands behind
that, and counts where a tag is there twice.
Source: https://rpm-software-management.github.io/rpm/manual/format_header.html
"""

from __future__ import annotations

import struct
from typing import Self

from bridge import limits
from bridge.errors import MalformedImage

NAME, VERSION, RELEASE, EPOCH = 1000, 1001, 1002, 1003
LICENSE, ARCHITECTURE, SOURCE = 1014, 1022, 1044
OLD_FILE_NAMES, FILE_STATES = 1027, 1029
CHANGE_TIMES = 1080
DIRECTORY_INDEXES, BASE_NAMES, DIRECTORY_NAMES = 1116, 1117, 1118

_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">IIiI")
_NUMBERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q"}
"""How `struct` has the types CHAR, INT8, INT16, INT32 and INT64."""
_TEXTS = (6, 8, 9)
"""STRING, STRING_ARRAY and I18NSTRING: each text ends with a NUL."""


class Header:
    """The entries of a header by tag; what an entry stands for is looked at when it is asked for.

    Texts are UTF-8; what is not comes as surrogate escapes.
    """

    def __init__(self, entries: dict[int, tuple[int, int, int]], store: memoryview) -> None:
        self._entries = entries
        self._store = store

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the header that `raw` is, all of it; `MalformedImage` where it is none."""
        if len(raw) > limits.RPM_HEADER_MAX:
            raise _malformed(f"{len(raw)} bytes; the limit is {limits.RPM_HEADER_MAX}")
        if len(raw) < _COUNTS.size:
            raise _malformed(f"{len(raw)} bytes")
        count, size = _COUNTS.unpack_from(raw)
        begin = _COUNTS.size + count * _ENTRY.size
        if begin + size != len(raw):
            raise _malformed(f"{count} entries and {size} bytes do not make {len(raw)}")
        entries = {
            tag: (kind, offset, number)
            for tag, kind, offset, number in _ENTRY.iter_unpack(raw[_COUNTS.size : begin])
        }
        return cls(entries, memoryview(raw)[begin:])

    def text(self, tag: int) -> str:
        """Return the text of a tag; empty where the header does not have it."""
        found = self.texts(tag)
        return found[0] if found else ""

    def texts(self, tag: int) -> list[str]:
        """Return all texts of a tag; none where the header does not have it."""
        entry = self._entries.get(tag)
        if entry is None:
            return []
        kind, offset, count = entry
        if kind not in _TEXTS or (kind == _TEXTS[0] and count != 1):
            raise _malformed(f"tag {tag} has {count} of type {kind}, not texts")
        if not 0 <= offset <= len(self._store) or count > len(self._store) - offset:
            raise _malformed(f"tag {tag} goes beyond its end")
        parts = bytes(self._store[offset:]).split(b"\0", count) if count else []
        if len(parts) <= count and count:
            raise _malformed(f"tag {tag}: a text without an end")
        return [part.decode("utf-8", "surrogateescape") for part in parts[:count]]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the numbers of a tag; none where the header does not have it."""
        entry = self._entries.get(tag)
        if entry is None:
            return ()
        kind, offset, count = entry
        if kind not in _NUMBERS:
            raise _malformed(f"tag {tag} is of type {kind}, not numbers")
        layout = struct.Struct(f">{min(count, len(self._store) + 1)}{_NUMBERS[kind]}")
        if not 0 <= offset <= len(self._store) - layout.size:
            raise _malformed(f"tag {tag} goes beyond its end")
        return layout.unpack_from(self._store, offset)


def _malformed(what: str) -> MalformedImage:
    return MalformedImage(f"a header in rpm's database: {what}")
