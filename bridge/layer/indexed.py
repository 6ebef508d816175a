"""Which index a layer's blob has, and reading it: zstd:chunked, eStargz."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import zstandard

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import estargz, toc, zstd_chunked
from bridge.layer.blob_index import BlobIndex, File
from bridge.layer.compression import decompress
from bridge.layer.estargz import EstargzLocation
from bridge.layer.facts import Facts
from bridge.layer.tar_split import read_tar_split
from bridge.layer.zstd_chunked import ChunkedLocation

_TOGETHER = 64 * 1024
"""Bytes of headers that are compressed at once."""

Location = ChunkedLocation | EstargzLocation


class MoreNeeded(Exception):
    """More of the blob's end is needed than was given: from `start` on."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


def locate(annotations: Mapping[str, str], blob_size: int, compression: str) -> Location | None:
    """Return where the manifest says that a layer's index is; None where it has none.

    Raises `MalformedImage` where it says so, and it cannot be, or does not do for fetching parts.
    """
    if estargz.ANNOTATION in annotations and any(
        prefix + zstd_chunked.TOC_DIGEST in annotations
        for prefix in (zstd_chunked.PREFIX, zstd_chunked.OLD_PREFIX)
    ):
        raise MalformedImage("its annotations say that it is zstd:chunked, and eStargz as well")
    if compression == "zstd":
        return zstd_chunked.locate(annotations, blob_size)
    if compression == "gzip":
        return estargz.locate(annotations, blob_size)
    return None


def read(location: Location, tail: bytes, most: int = limits.TOC_ENTRIES_MAX) -> BlobIndex:
    """Return the index of a blob, given its bytes from `location.start` on; `most` is how much it
    may hold.

    Raises `MalformedImage` where it is not the one that the manifest means, or makes no sense:
    the blob can still be fetched whole. `MoreNeeded` where `tail` has to be longer.
    """
    if isinstance(location, EstargzLocation):
        return _read_estargz(location, tail, most)
    return _read_chunked(location, tail, most)


def compare(index: BlobIndex, head: Callable[[int], bytes]) -> None:
    """Hold headers that were made of a table of contents to those of the blob, of which `head`
    returns as many of the first bytes; `MalformedImage` where they are others.

    Those of a tar-split were not made: then there is nothing to do.
    """
    if index.compression == "gzip":
        estargz.compare(index.skeleton(), head(min(index.end, limits.ESTARGZ_HEAD)))


def _read_chunked(location: ChunkedLocation, tail: bytes, most: int) -> BlobIndex:
    packed_toc, packed_split = zstd_chunked.split(location, tail)
    found = toc.parse_toc(_unpacked(packed_toc, location.toc.size), location.start, most)
    if found.tar_split_digest != hashlib.sha256(packed_split).digest():
        raise MalformedImage("its tar-split has not the digest that its table of contents gives")
    skeleton = _Skeleton()
    for part in read_tar_split(_unpacked(packed_split, location.tar_split.size)):
        if isinstance(part, bytes):
            skeleton.add(part)
            continue
        name = part.name
        content = found.files.pop(name, None)
        if content is None or content.size != part.size:
            raise MalformedImage(
                f"its tar-split and its table of contents disagree on {name!r:.300}"
            )
        skeleton.file(File(*content, skeleton.offset))
    for lacking in found.files:
        raise MalformedImage(f"its tar-split lacks {lacking!r:.300}")
    return skeleton.index("zstd", location.start, found.held, found.entries)


def _read_estargz(location: EstargzLocation, tail: bytes, most: int) -> BlobIndex:
    end, footer = estargz.parse_footer(tail)
    start = location.blob_size - len(tail)
    if not 0 < end < location.blob_size - footer or location.blob_size - end > limits.TOC_MAX:
        raise MalformedImage("its table of contents is not where its footer says")
    if end < start:
        raise MoreNeeded(end)
    table = estargz.Table(tail[end - start : -footer], location.toc_digest)
    skeleton = _Skeleton()
    contents = estargz.Contents(table, end, most, skeleton.add, skeleton.content)
    skeleton.files = contents.files
    return skeleton.index("gzip", end, contents.held, contents.entries, estargz.TOC_NAME)


class _Skeleton:
    """The bytes between files, compressed: headers, which take next to nothing so, and are quicker
    to have again than from a tar-split."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.offset = 0
        """Bytes of the tar stream so far."""
        self._before = array("Q")  # of the bytes before each file
        self._size = 0
        self._compressor: Any = zstandard.ZstdCompressor(1).compressobj()
        self._packed: list[bytes] = []
        self._waiting: list[bytes] = []
        self._waits = 0

    def add(self, data: bytes) -> None:
        size = len(data)
        self._size += size
        self.offset += size
        self._waiting.append(data)
        self._waits += size
        if self._waits >= _TOGETHER:
            self._pack()

    def _pack(self) -> None:
        if packed := self._compressor.compress(b"".join(self._waiting)):
            self._packed.append(packed)
        self._waiting.clear()
        self._waits = 0

    def file(self, file: File) -> None:
        self.files.append(file)
        self.content(file.size)

    def content(self, size: int) -> int:
        """Take that content of a file follows, which is added to `files` later; return where."""
        at = self.offset
        self._before.append(self._size)
        self._size = 0
        self.offset += size
        return at

    def index(
        self,
        compression: Literal["zstd", "gzip"],
        end: int,
        held: int,
        entries: Mapping[str, Facts],
        own: str = "",
    ) -> BlobIndex:
        """Take that there is no more, and return all of it with what a table says."""
        if self.offset > limits.CONTENT_MAX:
            raise MalformedImage(
                f"it holds more than {limits.CONTENT_MAX} bytes, which is the limit"
            )
        self._pack()
        self._packed.append(self._compressor.flush())
        return BlobIndex(
            compression,
            tuple(self.files),
            self._before,
            self._packed,
            self.offset,
            end,
            held,
            entries,
            own,
        )


def _unpacked(packed: memoryview, size: int) -> Iterable[bytes]:
    """Yield what a compressed document unpacks to, which must be `size` bytes."""
    left = size
    step = limits.BLOB_BUFFER
    parts = (bytes(packed[at : at + step]) for at in range(0, len(packed), step))
    for chunk in decompress(parts, "zstd"):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise MalformedImage("its index is not of the size that the manifest gives")
