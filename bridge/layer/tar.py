"""A streaming reader of tar layers: ustar, pax, GNU, star and V7, one pass, no seeking.

It says what the archive says and touches no file system: names are given as they stand, and
whoever imports them checks them. Where tar readers disagree, container tools (Go's archive/tar)
are followed, so that this reader sees what the image's publisher and scanners saw; where an
archive could mean two things to two readers (a name given twice, a pax size in a global header),
it is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, NoReturn

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import pax, sparse
from bridge.layer.header import (
    BLOCK,
    ZERO_BLOCK,
    Header,
    device_number,
    is_gnu,
    link_target,
    parse_header,
)


class EntryType(enum.Enum):
    """What an entry makes."""

    FILE = "file"
    HARDLINK = "hard link"
    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    CHAR = "character device"
    BLOCK = "block device"
    FIFO = "fifo"


_FILE, _DIRECTORY = EntryType.FILE, EntryType.DIRECTORY
_LINKS = (EntryType.HARDLINK, EntryType.SYMLINK)
_DEVICES = (EntryType.CHAR, EntryType.BLOCK)
_OLD_SPARSE = ord("S")
_TYPES = {
    0: EntryType.FILE,
    ord("0"): EntryType.FILE,
    ord("1"): EntryType.HARDLINK,
    ord("2"): EntryType.SYMLINK,
    ord("3"): EntryType.CHAR,
    ord("4"): EntryType.BLOCK,
    ord("5"): EntryType.DIRECTORY,
    ord("6"): EntryType.FIFO,
    ord("7"): EntryType.FILE,  # contiguous, which no file system here makes
    _OLD_SPARSE: EntryType.FILE,
}
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"xgLK"


class Entry(NamedTuple):
    """One member of the archive (a tuple: made three times faster than a frozen dataclass)."""

    path: str
    """As it stands in the archive: unchecked, not normalised, perhaps with a slash at the end."""
    type: EntryType
    mode: int
    """Permission bits, within 0o7777."""
    uid: int
    gid: int
    size: int
    """Bytes of the file as it will be, a sparse one's holes counted; 0 for all but files."""
    mtime: int
    """Seconds since 1970, rounded down."""
    target: str
    """What a hard or symbolic link names, else empty."""
    xattrs: tuple[tuple[bytes, bytes], ...]
    """Names and values, sorted by name."""
    device: tuple[int, int]
    """Major and minor number of a device, else (0, 0)."""


class TarReader:
    """Reads the entries of a tar stream in their order: `for entry in reader: reader.payload()`.

    `chunks` are pieces of the stream of any size. `on_bytes` gets each as it is taken, so that it
    sees the whole stream once `drain` was called; `on_hole` gets how many bytes of a sparse file
    are nowhere in the stream. `on_skeleton` gets every byte of the stream that is not handed out
    as payload, in order, and with each piece how many bytes of payload follow it: 0, or all of
    the payload that is taken next. What is stored of a sparse file belongs to the skeleton: it is
    not the file. Every way in which the stream is no tar archive raises `MalformedImage` with the
    entry's number (from 1) and offset.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        on_bytes: Callable[[bytes], None] | None = None,
        on_hole: Callable[[int], None] | None = None,
        on_skeleton: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self._chunks = iter(chunks)
        self._on_bytes = on_bytes
        self._on_hole = on_hole
        self._on_skeleton = on_skeleton
        self._told = 0  # in the chunk: from here on `on_skeleton` is to be told; below 0: nothing
        self._chunk = b""
        self._position = self._end = 0  # in the chunk
        self._base = 0  # the chunk's offset in the stream
        self._globals = pax.Pax()
        self._number = 0
        self._offset = 0  # of the current entry's first header
        self._left = 0  # bytes of the current payload that are not taken yet
        self._padding = 0  # after them
        self._map: sparse.SparseMap | None = None
        self._ended = False
        self.block = b""
        """The current entry's own header, for who needs more of it than an `Entry` has..."""
        self.records: pax.Records = []
        """...and what its pax header says."""
        self.has_globals = False
        """Whether there was a global pax header so far."""

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; the payload of one is there until the next one is asked for."""
        while not self._ended:
            try:
                entry = self._next()
            except MalformedImage as error:
                self._fail(str(error))
            if entry is None:
                self._ended = True
                return
            yield entry

    def tell_skeleton(self) -> None:
        """Have `on_skeleton` told of all that came so far: at first, to the end of the headers of
        the current entry."""
        if self._on_skeleton is not None and 0 <= self._told < self._position:
            self._on_skeleton(self._chunk[self._told : self._position], 0)
            self._told = self._position

    @property
    def payload_offset(self) -> int | None:
        """Where in the stream the current entry's payload begins, before any of it is taken; None
        where the stream does not hold it as it is, for it is sparse."""
        return self._base + self._position if self._map is None else None

    def payload(self) -> Iterator[bytes | memoryview]:
        """Yield the current entry's payload, once; views are good until the next one is taken.

        A sparse file's holes come as zeros, in pieces of at most 256 KiB.
        """
        if self._map is None:
            return self._stored(self._left, self._on_skeleton)
        filled, self._map = self._map, None
        return self._expanded(filled)

    def read_payload(self, *, stored: bool = True) -> bytes:
        """Return the rest of the current entry's payload: for files small enough to be held.

        Unless it is going to be `stored`, `on_skeleton` gets it all the same.
        """
        if self._map is not None:
            return b"".join(self.payload())
        left, self._left = self._left, 0
        telling = self._on_skeleton if left and stored else None
        if telling is not None:
            telling(self._chunk[self._told : self._position], left)
            self._told = -1
        try:
            payload = self._take(left)
        except MalformedImage as error:
            self._fail(str(error))
        if telling is not None:
            self._told = self._position
        return payload

    def drain(self) -> None:
        """Take the rest of the stream, and yield no more entries.

        What follows the end of the archive means nothing but belongs to the DiffID.
        """
        self._ended = True
        self._left = self._padding = 0
        while self._more():
            pass
        self._position = self._end

    # -- entries -----------------------------------------------------------------------------

    def _next(self) -> Entry | None:
        if self._told < 0:
            raise RuntimeError("payload that was announced, but not taken whole")
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        self._map = None
        self._number += 1
        self._offset = self._base + self._position
        extension: pax.Pax | None = None
        long_name = long_link = None
        self.records = []
        while True:
            self.block = block = self._block()
            if not block or block == ZERO_BLOCK:
                if extension is not None or long_name is not None or long_link is not None:
                    raise MalformedImage("archive ends where an extended header's entry should be")
                if block and self._block() not in (b"", ZERO_BLOCK):
                    raise MalformedImage("one block of zeros amid the archive")
                return None
            header = parse_header(block)
            kind = header.kind
            if kind in _TYPES:
                break
            if kind == _PAX and extension is None:
                self.records = pax.parse_records(self._body(header.size))
                extension = pax.interpret(self.records, self._globals)
            elif kind == _PAX_GLOBAL and (extension, long_name, long_link) == (None,) * 3:
                records = pax.parse_records(self._body(header.size))
                self._globals = pax.interpret_global(records, self._globals)
                self.has_globals = True
            elif kind == _LONG_NAME and long_name is None:
                long_name = self._long_text("long name", header.size)
            elif kind == _LONG_LINK and long_link is None:
                long_link = self._long_text("long link target", header.size)
            elif kind in b"xgLK":
                raise MalformedImage(f"two extended headers of type {chr(kind)!r} for one entry")
            else:
                raise MalformedImage(f"{header.name!r:.300} is of unknown type {chr(kind)!r}")
        if extension is None and self.has_globals:
            extension = self._globals
        if extension is not None:
            if long_name is not None and extension.path is not None:
                raise MalformedImage("entry with both a pax path and a GNU long name")
            if long_link is not None and extension.linkpath is not None:
                raise MalformedImage("entry with both a pax link target and a GNU one")
            long_name = long_name or extension.path
            long_link = long_link or extension.linkpath
        return self._entry(header, extension, long_name, long_link)

    def _entry(
        self, header: Header, extension: pax.Pax | None, path: str | None, target: str | None
    ) -> Entry:
        kind, raw_name, mode, uid, gid, size, mtime, block = header
        entry_type = _TYPES[kind]
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        pax_sparse: sparse.PaxSparse | None = None
        name = pax.decode_text("name", raw_name) if path is None else path
        if extension is not None:
            size = size if extension.size is None else extension.size
            uid = uid if extension.uid is None else extension.uid
            gid = gid if extension.gid is None else extension.gid
            mtime = mtime if extension.mtime is None else extension.mtime
            xattrs = extension.xattrs
            if extension.sparse:
                pax_sparse = sparse.parse_pax_sparse(extension.sparse)
                name = pax_sparse.name or name
        if not name:
            raise MalformedImage("entry without a name")
        if entry_type is _FILE and name[-1] == "/":
            if kind:
                raise MalformedImage(f"file {name!r:.300} with a slash at its end")
            entry_type = _DIRECTORY  # V7 had no type for directories
        if entry_type is _FILE:
            self._left, self._padding = size, -size % BLOCK
            if kind == _OLD_SPARSE or pax_sparse is not None:
                size = self._read_sparse_map(block, pax_sparse)
            return Entry(name, entry_type, mode, uid, gid, size, mtime, "", xattrs, (0, 0))
        if pax_sparse is not None:
            raise MalformedImage(f"{name!r:.300} is sparse but not a file")
        # Nothing else has a payload: some writers put the size of the file that a hard link
        # names into its header, and container tools read no body there.
        text, device = "", (0, 0)
        if entry_type in _LINKS:
            text = target if target is not None else link_target(block)
            if not text:
                raise MalformedImage(f"{name!r:.300} is a link to nothing")
        elif entry_type in _DEVICES:
            device = device_number(block)
        return Entry(name, entry_type, mode, uid, gid, 0, mtime, text, xattrs, device)

    def _read_sparse_map(self, block: bytes, pax_sparse: sparse.PaxSparse | None) -> int:
        """Set the map of the current entry up and return the file's size."""
        if pax_sparse is None:
            if not is_gnu(block):
                raise MalformedImage("sparse entry in a format other than GNU's")
            size, pieces = sparse.read_old_map(block, self._take)
        elif block[156] == _OLD_SPARSE:
            raise MalformedImage("sparse entry with two maps")
        elif pax_sparse.pieces is None:
            size = pax_sparse.size
            used, pieces = sparse.read_new_map(self._take, self._left)
            self._left -= used
        else:
            size, pieces = pax_sparse.size, pax_sparse.pieces
        self._map = sparse.check_map(size, self._left, pieces)
        if self._on_hole is not None:
            self._on_hole(size - self._left)
        return size

    def _body(self, size: int) -> bytes:
        """Take the body of an extended header, and its padding."""
        if size > limits.PAX_MAX:
            raise MalformedImage(f"extended header of {size} bytes; the limit is {limits.PAX_MAX}")
        return self._take(size + -size % BLOCK)[:size]

    def _long_text(self, what: str, size: int) -> str:
        text, _, rest = self._body(size).partition(b"\0")
        if not text or rest.strip(b"\0"):
            raise MalformedImage(f"{what} is empty or has a NUL in it")
        return pax.decode_text(what, text)

    # -- bytes -------------------------------------------------------------------------------

    def _stored(
        self, size: int, telling: Callable[[bytes, int], None] | None = None
    ) -> Iterator[bytes | memoryview]:
        """Yield the next `size` bytes of the current payload."""
        number = self._number
        if telling is not None and size:
            telling(self._chunk[self._told : self._position], size)
            self._told = -1
        while size:
            if number != self._number:
                raise RuntimeError("payload of an entry that was passed")
            if self._position == self._end and not self._more():
                self._fail("stream is cut off within a payload")
            start = self._position
            step = min(size, self._end - start)
            self._position = start + step
            self._left -= step
            size -= step
            if step == len(self._chunk):
                yield self._chunk
            else:
                yield memoryview(self._chunk)[start : start + step]
        if self._told < 0:
            self._told = self._position

    def _expanded(self, filled: sparse.SparseMap) -> Iterator[bytes | memoryview]:
        position = 0
        for offset, length in filled.pieces:
            yield from sparse.hole(offset - position)
            yield from self._stored(length)
            position = offset + length
        yield from sparse.hole(filled.size - position)

    def _block(self) -> bytes:
        """Take a block; empty when the stream ends before it."""
        if self._position == self._end and not self._more():
            return b""
        return self._take(BLOCK)

    def _take(self, size: int) -> bytes:
        """Take exactly `size` bytes."""
        start = self._position
        stop = start + size
        if stop <= self._end:
            self._position = stop
            return self._chunk[start:stop]
        parts = [self._chunk[start:]]
        size -= self._end - start
        while size:
            if not self._more():
                raise MalformedImage("stream is cut off")
            part = self._chunk[:size]
            self._position = len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size > self._end - self._position:
            size -= self._end - self._position
            if not self._more():
                raise MalformedImage("stream is cut off within a payload")
        self._position += size

    def _more(self) -> bool:
        """Go to the next chunk; False at the end of the stream."""
        telling = self._on_skeleton if self._told >= 0 else None
        if telling is not None and self._told < self._end:
            telling(self._chunk[self._told :], 0)
            self._told = self._end
        for chunk in self._chunks:
            if chunk:
                if telling is not None:
                    self._told = 0
                if self._on_bytes is not None:
                    self._on_bytes(chunk)
                self._base += self._end
                self._chunk = chunk
                self._position, self._end = 0, len(chunk)
                return True
        self._position = self._end
        return False

    def _fail(self, text: str) -> NoReturn:
        self._ended = True
        raise MalformedImage(f"tar entry {self._number} at offset {self._offset}: {text}") from None
