"""Which index a layer's blob has, and reading it: zstd:chunked, eStargz."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import zstandard

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import estargz, toc, zstd_chunked
from bridge.layer.blob_index import BlobIndex, File
from bridge.layer.compression import decompress
from bridge.layer.estargz import EstargzLocation
from bridge.layer.tar import Entry
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


def read(
    location: Location,
    tail: bytes,
    head: Callable[[int], bytes] | None = None,
    most: int = limits.TOC_ENTRIES_MAX,
) -> BlobIndex:
    """Return the index of a blob, given its bytes from `location.start` on; `most` is how much it
    may hold.

    `head` returns as many of the blob's first bytes; without it, an eStargz layer's headers are
    not compared with those that were made of its table of contents.

    Raises `MalformedImage` where it is not the one that the manifest means, or makes no sense:
    the blob can still be fetched whole. `MoreNeeded` where `tail` has to be longer.
    """
    if isinstance(location, EstargzLocation):
        return _read_estargz(location, tail, head, most)
    return _read_chunked(location, tail, most)


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
    if skeleton.offset > limits.CONTENT_MAX:
        raise MalformedImage(f"it holds more than {limits.CONTENT_MAX} bytes, which is the limit")
    skeleton.end()

    def check() -> Callable[[Entry | None], None]:
        return toc.checker(found.entries)

    return BlobIndex(
        "zstd",
        tuple(skeleton.files),
        skeleton.parts,
        skeleton.offset,
        location.start,
        found.held,
        check,
        skeleton.packed,
    )


def _read_estargz(
    location: EstargzLocation,
    tail: bytes,
    head: Callable[[int], bytes] | None,
    most: int,
) -> BlobIndex:
    end, footer = estargz.parse_footer(tail)
    start = location.blob_size - len(tail)
    if not 0 < end < location.blob_size - footer or location.blob_size - end > limits.TOC_MAX:
        raise MalformedImage("its table of contents is not where its footer says")
    if end < start:
        raise MoreNeeded(end)
    table = estargz.Table(tail[end - start : -footer], location.toc_digest)
    skeleton = _Skeleton()
    contents = estargz.Contents(table, end, most, skeleton.add, skeleton.content)
    if skeleton.offset > limits.CONTENT_MAX:
        raise MalformedImage(f"it holds more than {limits.CONTENT_MAX} bytes, which is the limit")
    skeleton.files = contents.files
    skeleton.end()
    if head is not None:
        estargz.compare(skeleton.parts(), head(min(end, limits.ESTARGZ_HEAD)))
    return BlobIndex(
        "gzip",
        tuple(skeleton.files),
        skeleton.parts,
        skeleton.offset,
        end,
        contents.held,
        contents.checker,
        skeleton.packed,
    )


class _Skeleton:
    """The bytes between files, compressed: headers, which take next to nothing so, and are quicker
    to have again than from a tar-split."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.offset = 0
        """Bytes of the tar stream so far."""
        self._sizes = array("Q")  # of the bytes before each file
        self._size = 0
        self._compressor: Any = zstandard.ZstdCompressor(1).compressobj()
        self.packed: list[bytes] = []
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
            self.packed.append(packed)
        self._waiting.clear()
        self._waits = 0

    def file(self, file: File) -> None:
        self.files.append(file)
        self.content(file.size)

    def content(self, size: int) -> int:
        """Take that content of a file follows, which is added to `files` later; return where."""
        at = self.offset
        self._sizes.append(self._size)
        self._size = 0
        self.offset += size
        return at

    def end(self) -> None:
        self._pack()
        self.packed.append(self._compressor.flush())

    def parts(self) -> Iterator[bytes | File]:
        chunks = decompress(self.packed, "zstd")
        data, at = b"", 0
        for file, size in zip(self.files, self._sizes, strict=True):
            while size > len(data) - at:
                if at < len(data):
                    yield data[at:]
                    size -= len(data) - at
                data, at = next(chunks), 0
            if size:
                yield data[at : at + size]
                at += size
            yield file
        yield data[at:]
        yield from chunks


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
