"""zstd:chunked: what a layer's annotations and its blob's end say of where its index lies.

A blob is zstd frames of the tar stream, then three skippable frames (RFC 8878, 3.1.2): the table
of contents, the tar-split, a footer. The manifest's annotations say where the first two are and
give the digest of the first, which gives that of the second. The footer says the same as the
annotations; it is never gone by alone, for nothing that was verified has its digest.
Source: containers/storage, pkg/chunked/internal/minimal/compression.go.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bridge import limits
from bridge.errors import MalformedImage

PREFIX = "io.github.containers.zstd-chunked."
OLD_PREFIX = "io.containers.zstd-chunked."
"""Of writers before containers/storage 1.44, which knew no tar-split."""
TOC_DIGEST = "manifest-checksum"
TOC_POSITION = "manifest-position"
TAR_SPLIT_POSITION = "tarsplit-position"
TOC_TYPE = 1
"""The only kind of table of contents there is, and the last number of its position."""

_SKIPPABLE = struct.Struct("<II")
_SKIPPABLE_MAGIC = 0x184D2A50
_FOOTER = struct.Struct("<7Q8s")
_OLD_FOOTER = struct.Struct("<4Q8s")
_MAGIC = b"GNUlInUx"
_OLD_MAGIC = b"GnUlInUx"
FRAME_HEADER = _SKIPPABLE.size
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Extent(NamedTuple):
    """A compressed document in the blob: where its bytes begin, how many, and how many unpacked."""

    offset: int
    packed: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.packed


class Footer(NamedTuple):
    """What the last frame of a blob says; old ones know no tar-split."""

    toc: Extent
    tar_split: Extent | None


@dataclass(frozen=True, slots=True)
class ChunkedLocation:
    """Where the manifest says that a blob of `blob_size` bytes has its index."""

    blob_size: int
    toc: Extent
    toc_digest: bytes
    tar_split: Extent

    @property
    def start(self) -> int:
        """Where the blob's content ends: what is needed of it is from here to its end."""
        return self.toc.offset - FRAME_HEADER


def locate(annotations: Mapping[str, str], blob_size: int) -> ChunkedLocation | None:
    """Return where the annotations of a layer say its index is; None where they say nothing.

    Raises `MalformedImage` where what they say cannot be, or does not do for fetching parts.
    """
    prefix = next((each for each in (PREFIX, OLD_PREFIX) if each + TOC_DIGEST in annotations), None)
    if prefix is None:
        return None
    digest = _DIGEST.fullmatch(annotations[prefix + TOC_DIGEST])
    if digest is None:
        raise MalformedImage("the annotation with the digest of its table of contents has none")
    *place, kind = _numbers(annotations, prefix + TOC_POSITION, 4)
    if kind != TOC_TYPE:
        raise MalformedImage(f"its table of contents is of the unknown kind {kind}")
    if prefix + TAR_SPLIT_POSITION not in annotations:
        raise MalformedImage("it was written without a tar-split, which its tar stream needs")
    toc = _extent("table of contents", place, limits.TOC_MAX)
    split = _numbers(annotations, prefix + TAR_SPLIT_POSITION, 3)
    tar_split = _extent("tar-split", split, limits.TAR_SPLIT_MAX)
    if not toc.offset > FRAME_HEADER or toc.end + FRAME_HEADER != tar_split.offset:
        raise MalformedImage("its tar-split is not behind its table of contents")
    if tar_split.end > blob_size:
        raise MalformedImage("its table of contents is beyond its end")
    return ChunkedLocation(blob_size, toc, bytes.fromhex(digest[1]), tar_split)


def _numbers(annotations: Mapping[str, str], key: str, count: int) -> list[int]:
    parts = annotations.get(key, "").split(":")
    if len(parts) != count or not all(_NUMBER.fullmatch(each) for each in parts):
        raise MalformedImage(f"its annotation {key} is not {count} numbers")
    return [int(each) for each in parts]


def _extent(what: str, numbers: list[int], most: int) -> Extent:
    found = Extent(*numbers)
    if not 0 < found.packed <= most or not 0 < found.size <= most:
        raise MalformedImage(f"its {what} is empty, or larger than {most} bytes")
    return found


def split(location: ChunkedLocation, tail: bytes) -> tuple[memoryview, memoryview]:
    """Return the compressed table of contents, which has its digest, and the compressed tar-split,
    which is still to be verified, given the blob's bytes from `location.start` on.

    `MalformedImage` where they are not those that the manifest means.
    """
    if len(tail) != location.blob_size - location.start:
        raise MalformedImage("its end is not of the length that it must have")
    view = memoryview(tail)
    toc = _frame(view, 0, "table of contents", location.toc)
    if hashlib.sha256(toc).digest() != location.toc_digest:
        raise MalformedImage("its table of contents has not the digest that the manifest gives")
    at = FRAME_HEADER + location.toc.packed
    tar_split = _frame(view, at, "tar-split", location.tar_split)
    rest = tail[at + FRAME_HEADER + location.tar_split.packed :]
    footer = parse_footer(rest)
    if footer is not None and footer != Footer(location.toc, location.tar_split):
        raise MalformedImage("its footer and the manifest's annotations disagree")
    return toc, tar_split


def _frame(tail: memoryview, at: int, what: str, extent: Extent) -> memoryview:
    header = tail[at : at + FRAME_HEADER]
    if len(header) == FRAME_HEADER:
        magic, size = _SKIPPABLE.unpack(header)
        if magic & ~0xF == _SKIPPABLE_MAGIC and size == extent.packed:
            data = tail[at + FRAME_HEADER : at + FRAME_HEADER + size]
            if len(data) == size:
                return data
    raise MalformedImage(f"its {what} is not where the manifest says")


def parse_footer(data: bytes) -> Footer | None:
    """Return what a blob's last frame says, given all that follows its other frames; None if that
    is no footer."""
    for form, magic in ((_FOOTER, _MAGIC), (_OLD_FOOTER, _OLD_MAGIC)):
        if len(data) != FRAME_HEADER + form.size:
            continue
        frame, size = _SKIPPABLE.unpack_from(data)
        *numbers, mark = form.unpack_from(data, FRAME_HEADER)
        if frame & ~0xF != _SKIPPABLE_MAGIC or size != form.size or mark != magic:
            return None
        if numbers[3] != TOC_TYPE:
            return None
        toc = Extent(*numbers[:3])
        return Footer(toc, Extent(*numbers[4:7]) if form is _FOOTER else None)
    return None


def render_footer(footer: Footer) -> bytes:
    """Return the frame of a current footer, which has a tar-split."""
    assert footer.tar_split is not None
    return skippable(_FOOTER.pack(*footer.toc, TOC_TYPE, *footer.tar_split, _MAGIC))


def skippable(data: bytes) -> bytes:
    """Return `data` as a frame that zstd decoders pass over."""
    return _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(data)) + data


def as_annotations(toc: Extent, toc_digest: bytes, tar_split: Extent) -> dict[str, str]:
    """Return the annotations of a layer, as current writers make them."""
    return {
        PREFIX + TOC_DIGEST: f"sha256:{toc_digest.hex()}",
        PREFIX + TOC_POSITION: ":".join(map(str, (*toc, TOC_TYPE))),
        PREFIX + TAR_SPLIT_POSITION: ":".join(map(str, tar_split)),
    }
