"""Writing a layer as zstd:chunked, as current containers tools do it.

Headers and padding go into zstd frames of their own, and so does each piece of each file, cut
where containers/storage cuts (`rollsum`), so that its pieces and ours have the same digests. Then
come the table of contents, the tar-split and the footer (`zstd_chunked`). Equal streams make equal
blobs, whatever the number of threads and the sizes of the chunks that come in.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import local
from typing import Any

import fastcrc
import zstandard

from bridge import limits
from bridge.layer import toc_entry
from bridge.layer.rollsum import Cut, Cutter
from bridge.layer.tar import Entry, EntryType, TarReader
from bridge.layer.tar_split import TarSplitWriter
from bridge.layer.toc_entry import NotHeld
from bridge.layer.zstd_chunked import (
    FRAME_HEADER,
    Extent,
    Footer,
    as_annotations,
    render_footer,
    skippable,
)

DEFAULT_LEVEL = 9
"""What makes blobs a little smaller than containers tools' default does."""
_INDEX_LEVEL = 15
"""Of table of contents and tar-split: who upgrades fetches them each time."""
_BATCH = 2 * limits.MIB
"""Bytes that a thread is given at once."""
_SEGMENT = limits.MIB
"""Bytes in one line of the tar-split."""
_MANY = 512
"""Frames at most, in a batch of small files."""

_here = local()


@dataclass(frozen=True, slots=True)
class Written:
    """A blob that was written."""

    digest: str
    """sha256:HEX of all its bytes."""
    size: int
    annotations: dict[str, str]
    """What the layer's descriptor has to say, for the blob to be fetched in parts."""


def write(
    tar: Iterable[bytes],
    out: Callable[[bytes], object],
    *,
    level: int = DEFAULT_LEVEL,
    threads: int = 2,
) -> Written:
    """Write the layer whose tar stream is `tar` to `out`, and return what its blob is.

    `level` is zstd's, 1 to 22. Raises `NotHeld` for a layer with a name twice, sparse files,
    global headers, or entries of a kind that the format does not know: then what was written is
    of no use. Raises `MalformedImage` for what is no tar stream, and what `tar` raises.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="zstd") as pool:
        one = _Writer(out, level, threads, pool)
        one.read(tar)
        return one.finish()


@dataclass(slots=True)
class _Open:
    """An entry of the table of contents that is not written yet."""

    fields: dict[str, Any]
    name: str
    digest: bytes = b""
    """Of all of a file that has several pieces."""
    pieces: list[tuple[bytes, int, bool, int]] = field(default_factory=list)
    """Digest, size, whether it is zeros, offset."""
    end: int = 0


@dataclass(slots=True)
class _Frame:
    data: bytes
    entry: _Open | None
    """None of a frame of headers."""
    zeros: bool = False


@dataclass(slots=True)
class _Large:
    """A piece that is compressed as it comes, for it may have any size: zeros, above all."""

    packer: Any
    offset: int
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class _Writer:
    def __init__(
        self, out: Callable[[bytes], object], level: int, threads: int, pool: ThreadPoolExecutor
    ) -> None:
        self._out = out
        self._level = level
        self._pool = pool
        self._most = threads + 2
        self._digest = hashlib.sha256()
        self._offset = 0
        self._toc = _Document()
        self._toc.add(b'{"version":1,"entries":[')
        self._separator = b""
        self._split = _Document()
        self._lines = TarSplitWriter()
        self._headers = bytearray()  # that are in no frame yet
        self._segment = bytearray()  # that are in no line of the tar-split yet
        self._batch: list[_Frame | _Open] = []
        self._batch_size = self._batch_frames = 0
        self._waiting: deque[tuple[list[_Frame | _Open], Future[list[_Packed]]]] = deque()
        self._current: _Open | None = None
        self._large: _Large | None = None
        self._names: set[str] = set()

    # -- reading ---------------------------------------------------------------------------

    def read(self, tar: Iterable[bytes]) -> None:
        reader = TarReader(tar, on_skeleton=self._skeleton)
        for entry in reader:
            reader.tell_skeleton()
            if reader.has_globals:
                raise NotHeld("global pax headers have no place in zstd:chunked")
            if entry.path in self._names:
                raise NotHeld(f"{entry.path!r:.300} is there twice, which zstd:chunked cannot say")
            self._names.add(entry.path)
            made = _Open(toc_entry.fields(entry, reader.block, reader.records), entry.path)
            self._flush_segment()
            self._put(made, 0)
            if entry.type is EntryType.FILE and reader.payload_offset is None:
                raise NotHeld(f"{entry.path!r:.300} is sparse, which zstd:chunked cannot say")
            if entry.type is EntryType.FILE and entry.size:
                self._content(reader, entry, made)
            else:
                self._split.add(self._lines.file(entry.path.encode(), 0, None))
        reader.drain()
        self._flush_segment()
        self._put_headers()

    def _skeleton(self, data: bytes, _payload: int) -> None:
        # Few archives have so much of it between two files, or behind the last one.
        self._headers += data
        while len(self._headers) > limits.PIECE_HELD_MAX:
            self._put_headers(limits.PIECE_HELD_MAX)
        self._segment += data
        while len(self._segment) > _SEGMENT:
            self._flush_segment(_SEGMENT)

    def _flush_segment(self, most: int | None = None) -> None:
        if self._segment:
            self._split.add(self._lines.segment(bytes(self._segment[:most])))
            del self._segment[:most]

    def _put_headers(self, most: int | None = None) -> None:
        if self._headers:
            data = bytes(self._headers[:most])
            del self._headers[:most]
            self._put(_Frame(data, None), len(data))

    def _content(self, reader: TarReader, entry: Entry, made: _Open) -> None:
        self._put_headers()
        cutter = Cutter()
        pending = bytearray()
        whole = hashlib.sha256()
        crc: int | None = None
        for chunk in reader.payload():
            data = bytes(chunk)
            crc = fastcrc.crc64.go_iso(data) if crc is None else fastcrc.crc64.go_iso(data, crc)
            pending += data
            whole.update(data)
            self._cut(cutter.feed(data), pending, made)
            if cutter.open > limits.PIECE_HELD_MAX:
                self._grow_large(cutter.open, pending)
        self._cut(cutter.finish(), pending, made)
        made.digest = whole.digest()
        self._split.add(self._lines.file(entry.path.encode(), entry.size, crc))

    def _cut(self, cuts: list[Cut], pending: bytearray, made: _Open) -> None:
        for size, zeros in cuts:
            if size > limits.PIECE_HELD_MAX:
                self._grow_large(size, pending)
                self._end_large(zeros, made)
                continue
            self._put(_Frame(bytes(pending[:size]), made, zeros), size)
            del pending[:size]

    def _grow_large(self, size: int, pending: bytearray) -> None:
        """Write what is known of a piece too large to be held: its first `size` bytes."""
        if self._large is None:
            self._send()
            while self._waiting:
                self._take()
            packer = zstandard.ZstdCompressor(self._level, write_checksum=True).compressobj()
            self._large = _Large(packer, self._offset)
        large = self._large
        data = bytes(pending[: size - large.size])
        del pending[: size - large.size]
        large.size = size
        large.digest.update(data)
        self._write(large.packer.compress(data))

    def _end_large(self, zeros: bool, made: _Open) -> None:
        assert self._large is not None
        large, self._large = self._large, None
        self._write(large.packer.flush())
        made.pieces.append((large.digest.digest(), large.size, zeros, large.offset))
        made.end = self._offset

    # -- packing ---------------------------------------------------------------------------

    def _put(self, each: _Frame | _Open, size: int) -> None:
        self._batch.append(each)
        self._batch_size += size
        self._batch_frames += 1
        if self._batch_size >= _BATCH or self._batch_frames >= _MANY:
            self._send()

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        self._batch_size = self._batch_frames = 0
        frames = [each for each in batch if isinstance(each, _Frame)]
        self._waiting.append((batch, self._pool.submit(_pack, frames, self._level)))
        while len(self._waiting) > self._most:
            self._take()

    def _take(self) -> None:
        batch, future = self._waiting.popleft()
        packed = iter(future.result())
        for each in batch:
            if isinstance(each, _Open):
                self._end_entry()
                self._current = each
                continue
            data, digest = next(packed)
            if each.entry is not None:
                each.entry.pieces.append((digest, len(each.data), each.zeros, self._offset))
                each.entry.end = self._offset + len(data)
            self._write(data)

    def _end_entry(self) -> None:
        if self._current is None:
            return
        entry, self._current = self._current, None
        for fields in toc_entry.with_content(
            entry.fields, entry.name, entry.digest, entry.pieces, entry.end
        ):
            self._toc.add(self._separator + toc_entry.render(fields))
            self._separator = b","

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._offset += len(data)
        self._out(data)

    # -- the end ---------------------------------------------------------------------------

    def finish(self) -> Written:
        self._send()
        while self._waiting:
            self._take()
        self._end_entry()
        split, split_size = self._split.finish()
        digest = hashlib.sha256(split).hexdigest()
        self._toc.add(f'],"tarSplitDigest":"sha256:{digest}"}}'.encode())
        toc, toc_size = self._toc.finish()
        toc_at = Extent(self._offset + FRAME_HEADER, len(toc), toc_size)
        split_at = Extent(toc_at.end + FRAME_HEADER, len(split), split_size)
        for frame in (skippable(toc), skippable(split), render_footer(Footer(toc_at, split_at))):
            self._write(frame)
        return Written(
            f"sha256:{self._digest.hexdigest()}",
            self._offset,
            as_annotations(toc_at, hashlib.sha256(toc).digest(), split_at),
        )


class _Document:
    """A document that is compressed as it grows."""

    def __init__(self) -> None:
        self._zstd: Any = zstandard.ZstdCompressor(_INDEX_LEVEL, write_checksum=True).compressobj()
        self._packed: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if packed := self._zstd.compress(data):
            self._packed.append(packed)

    def finish(self) -> tuple[bytes, int]:
        """Return it compressed, and its size before that."""
        return b"".join((*self._packed, self._zstd.flush())), self._size


_Packed = tuple[bytes, bytes]
"""A frame, and the sha256 of what is in it."""


def _pack(frames: list[_Frame], level: int) -> list[_Packed]:
    compressor = getattr(_here, "compressor", None)
    if compressor is None or _here.level != level:
        compressor = zstandard.ZstdCompressor(level, write_checksum=True)
        _here.compressor, _here.level = compressor, level
    return [
        (
            compressor.compress(each.data),
            b"" if each.entry is None else hashlib.sha256(each.data).digest(),
        )
        for each in frames
    ]
