"""Which index a layer's blob has, and reading it: zstd:chunked, eStargz."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import estargz, toc, zstd_chunked
from bridge.layer.blob_index import BlobIndex
from bridge.layer.compression import document
from bridge.layer.estargz import EstargzLocation
from bridge.layer.tar_split import PackedTarSplit
from bridge.layer.toc import Toc
from bridge.layer.zstd_chunked import ChunkedLocation

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
    packed_toc, tar_split = zstd_chunked.split(location, tail)
    found = toc.parse_toc(document(_steps(packed_toc), location.toc.size), location.start, most)
    if found.tar_split_digest != hashlib.sha256(tar_split).digest():
        raise MalformedImage("its tar-split has not the digest that its table of contents gives")
    split = list(_steps(tar_split)), location.tar_split.size
    return _index("zstd", found, split, location.start)


def _read_estargz(location: EstargzLocation, tail: bytes, most: int) -> BlobIndex:
    end, footer = estargz.parse_footer(tail)
    start = location.blob_size - len(tail)
    if not 0 < end < location.blob_size - footer or location.blob_size - end > limits.TOC_MAX:
        raise MalformedImage("its table of contents is not where its footer says")
    if end < start:
        raise MoreNeeded(end)
    table = estargz.Table(tail[end - start : -footer], location.toc_digest)
    split = PackedTarSplit()
    found = estargz.contents(table, end, most, split)
    return _index("gzip", found, split.finish(), end, estargz.TOC_NAME)


def _index(
    compression: Literal["zstd", "gzip"],
    found: Toc,
    split: tuple[list[bytes], int],
    end: int,
    own: str = "",
) -> BlobIndex:
    files = tuple(found.files)
    index = BlobIndex(compression, files, *split, end, found.held, found.entries, own)
    if index.least_size > limits.CONTENT_MAX:
        raise MalformedImage(f"it holds more than {limits.CONTENT_MAX} bytes, which is the limit")
    return index


def _steps(packed: memoryview) -> Iterator[bytes]:
    step = limits.BLOB_BUFFER
    return (bytes(packed[at : at + step]) for at in range(0, len(packed), step))
