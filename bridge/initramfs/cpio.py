"""Entries of an initramfs: cpio archives in a row, any of them compressed, as Linux reads them.

Format: docs.kernel.org, driver-api/early-userspace/buffer-format: archives of the new ASCII form
(magic 070701, or 070702 with checksums), each at a multiple of four bytes, with zeros between them;
a compressed archive may stand where an archive may. Microcode comes first, uncompressed.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge import limits
from bridge.errors import MalformedImage
from bridge.initramfs import unpack

_MAGICS = (b"070701", b"070702")
_HEADER = 110
_FIELDS = 13
_TRAILER = b"TRAILER!!!"


class CpioEntry(NamedTuple):
    """One member of an archive."""

    name: str
    """As it stands there; what is not UTF-8 as surrogate escapes."""
    inode: int
    mode: int
    """File type and permissions, as stat(2) has them."""
    links: int
    mtime: int
    """Seconds since 1970."""
    size: int
    device: tuple[int, int]
    """Major and minor number of the device that the file was on when it was packed."""
    uid: int = 0
    gid: int = 0
    special: tuple[int, int] = (0, 0)
    """Major and minor number of the device that it is, if it is one."""

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True)
class Segment:
    """One archive, and what it is packed in."""

    compression: str
    """`none`, `gzip`, `zstd`, `xz`, `lzma`, `bzip2` or `lz4`."""
    offset: int
    """Where it begins in the file."""
    notes: list[str] = field(default_factory=list)
    """What its compression's header has that differs from one build to the next."""


class InitramfsReader:
    """Reads an initramfs: `for segment, entry in reader: reader.payload()`.

    `chunks` are pieces of the file of any size. Everything in which it is none raises
    `MalformedImage`, as does one that unpacks to more than `limits.INITRAMFS_MAX` bytes or has
    more than `limits.INITRAMFS_ENTRIES_MAX` entries.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._file = unpack.Buffer(chunks)
        self._source = self._file
        self._left = 0
        self._entries = 0
        self._unpacked = 0

    def __iter__(self) -> Iterator[tuple[Segment, CpioEntry]]:
        """Yield the entries; the payload of one is there until the next one is asked for."""
        found = False
        while True:
            self._file.skip_zeros()
            if self._file.is_empty:
                break
            found = True
            offset = self._file.offset
            magic = self._file.peek(6)
            if magic in _MAGICS:
                self._source = self._file
                yield from self._archive(Segment("none", offset))
                continue
            compression = unpack.kind(magic)
            if compression is None:
                raise MalformedImage(f"no archive at offset {offset}: it begins with {magic!r}")
            notes: list[str] = []
            opened = unpack.opened(self._file, compression, notes)
            self._source = unpack.Buffer(self._counted(opened))
            self._source.skip_zeros()
            entries = self._entries
            while not self._source.is_empty or self._entries == entries:
                if self._source.peek(6) not in _MAGICS:
                    raise MalformedImage(f"the {compression} at offset {offset} holds no archive")
                yield from self._archive(Segment(compression, offset, notes))
                self._source.skip_zeros()
        if not found:
            raise MalformedImage("it is empty")

    def payload(self) -> Iterator[bytes]:
        """Yield the current entry's content, once."""
        while self._left:
            chunk = self._source.some(self._left)
            self._left -= len(chunk)
            yield chunk

    def read(self, limit: int) -> bytes:
        """Return the current entry's content; `MalformedImage` where it has more than `limit`."""
        if self._left > limit:
            raise MalformedImage(f"an entry of {self._left} bytes; the limit is {limit}")
        return b"".join(self.payload())

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._unpacked += len(chunk)
            if self._unpacked > limits.INITRAMFS_MAX:
                raise MalformedImage(f"it unpacks to more than {limits.INITRAMFS_MAX} bytes")
            yield chunk

    def _archive(self, segment: Segment) -> Iterator[tuple[Segment, CpioEntry]]:
        while True:
            entry = _parse(self._source.take)
            self._entries += 1
            if self._entries > limits.INITRAMFS_ENTRIES_MAX:
                raise MalformedImage(f"more than {limits.INITRAMFS_ENTRIES_MAX} entries")
            if entry is None:
                return
            self._left = entry.size
            yield segment, entry
            for _ in self.payload():
                pass
            self._source.take(-entry.size % 4)


def _parse(take: Callable[[int], bytes]) -> CpioEntry | None:
    """Take a header and the name after it; None at an archive's end."""
    header = take(_HEADER)
    if header[:6] not in _MAGICS:
        raise MalformedImage(f"an entry begins with {header[:6]!r}")
    try:
        values = [_hexadecimal(header[6 + 8 * n : 14 + 8 * n]) for n in range(_FIELDS)]
    except ValueError:
        raise MalformedImage("an entry's header has a number that is none") from None
    inode, mode, uid, gid, links, mtime, size, *device, major, minor, length, _ = values
    if not 1 < length <= limits.PATH_MAX + 1:
        raise MalformedImage(f"an entry whose name has {length} bytes")
    name = take(length + -(_HEADER + length) % 4)[:length]
    if name[-1:] != b"\0" or b"\0" in name[:-1]:
        raise MalformedImage(f"an entry's name {name!r:.100} does not end where it should")
    if name[:-1] == _TRAILER and not size:
        return None
    text = name[:-1].decode(errors="surrogateescape")
    return CpioEntry(
        text, inode, mode, links, mtime, size, (device[0], device[1]), uid, gid, (major, minor)
    )


def _hexadecimal(digits: bytes) -> int:
    # int() takes signs, spaces and underscores too.
    if digits.translate(None, b"0123456789abcdefABCDEF"):
        raise ValueError(digits)
    return int(digits, 16)
