"""Blobs of zstd:chunked: of a tar stream by our own writer, or with whatever documents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import zstandard

from bridge.layer import indexed, zstd_chunked, zstd_chunked_writer
from bridge.layer.blob_index import BlobIndex
from bridge.layer.pieces import unpack
from bridge.layer.zstd_chunked import FRAME_HEADER, Extent, Footer, as_annotations, skippable
from support.images import MEDIA_TYPES, Image, dumps


@dataclass(frozen=True)
class Blob:
    """A layer's blob, and what its descriptor says of its inside."""

    data: bytes
    annotations: Mapping[str, str]

    @property
    def location(self) -> zstd_chunked.ChunkedLocation:
        found = zstd_chunked.locate(self.annotations, len(self.data))
        assert found is not None
        return found

    @property
    def tail(self) -> bytes:
        return self.data[self.location.start :]

    @property
    def index(self) -> BlobIndex:
        return indexed.read(self.location, self.tail)

    @property
    def toc(self) -> dict[str, Any]:
        """The table of contents, as a JSON reader has it."""
        packed, _ = zstd_chunked.split(self.location, self.tail)
        document: dict[str, Any] = json.loads(zstandard.decompress(packed, 1 << 24))
        return document

    @property
    def tar_split(self) -> list[dict[str, Any]]:
        """The lines of the tar-split."""
        _, packed = zstd_chunked.split(self.location, self.tail)
        lines = zstandard.decompress(packed, 1 << 24).splitlines()
        return [json.loads(line) for line in lines]

    def changed(self, change: Callable[[dict[str, Any], list[dict[str, Any]]], object]) -> Blob:
        """Return the blob with other documents: `change` gets both, to change them in place."""
        toc, split = self.toc, self.tar_split
        change(toc, split)
        return assembled(self.data[: self.location.start], toc, split)

    def rebuilt(self) -> bytes:
        """Return the tar stream, put together out of its pieces, each held to its digest."""
        return b"".join(self._parts())

    def _parts(self) -> Iterator[bytes]:
        for part in self.index.skeleton():
            if isinstance(part, bytes):
                yield part
                continue
            for piece in part.pieces:
                data = unpack(self.data[piece.start : piece.end], piece.size, "zstd")
                assert hashlib.sha256(data).digest() == piece.digest
                yield data


def chunked(tar: bytes, level: int = 3) -> Blob:
    """Return the blob of a tar stream."""
    out = bytearray()
    # The level of its documents takes 80 ms to get ready for, which hundreds of layers add up.
    with mock.patch.object(zstd_chunked_writer, "_INDEX_LEVEL", level):
        written = zstd_chunked_writer.write([tar], out.extend, level=level, threads=1)
    return Blob(bytes(out), written.annotations)


def assembled(
    content: bytes, toc: Mapping[str, Any] | bytes, split: Sequence[Mapping[str, Any]] | bytes
) -> Blob:
    """Return a blob with this content and these documents: their places and digests are right,
    the tar-split's in the table of contents too unless that is given as bytes."""
    lines = split if isinstance(split, bytes) else b"".join(dumps(each) + b"\n" for each in split)
    packed_split = compress(lines)
    if not isinstance(toc, bytes):
        digest = f"sha256:{hashlib.sha256(packed_split).hexdigest()}"
        toc = dumps({**toc, "tarSplitDigest": digest})
    return framed(content, (compress(toc), len(toc)), (packed_split, len(lines)))


def framed(content: bytes, toc: tuple[bytes, int], split: tuple[bytes, int]) -> Blob:
    """Return a blob of documents that are compressed already, each with its unpacked size."""
    toc_at = Extent(len(content) + FRAME_HEADER, len(toc[0]), toc[1])
    split_at = Extent(toc_at.end + FRAME_HEADER, len(split[0]), split[1])
    footer = zstd_chunked.render_footer(Footer(toc_at, split_at))
    data = content + skippable(toc[0]) + skippable(split[0]) + footer
    return Blob(data, as_annotations(toc_at, hashlib.sha256(toc[0]).digest(), split_at))


def grouped(entries: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the entries of a table of contents, each with the pieces that follow it."""
    groups: list[list[Mapping[str, Any]]] = []
    for each in entries:
        if each["type"] == "chunk":
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def chunked_image(image: Image, blobs: Mapping[str, Blob], compression: str = "zstd") -> Image:
    """Return an image some of whose layers, by their digests, are other blobs of the same tar
    streams."""
    manifest = image.document
    kept = dict(image.blobs)
    for layer in manifest["layers"]:
        blob = blobs.get(layer["digest"])
        if blob is None:
            continue
        digest = f"sha256:{hashlib.sha256(blob.data).hexdigest()}"
        kept[digest] = blob.data
        layer |= {
            "mediaType": MEDIA_TYPES[compression],
            "digest": digest,
            "size": len(blob.data),
            "annotations": dict(blob.annotations),
        }
    return Image(dumps(manifest), kept, image.media_type)
