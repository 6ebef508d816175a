"""What an upgrade has to move at the least, by the tables of contents of zstd:chunked layers.

Independent of the planner that is measured with it: plain JSON, plain zstd, sets of digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard

_POSITION = "io.github.containers.zstd-chunked.manifest-position"
_FRAME_HEADER = 8


@dataclass(frozen=True)
class Chunk:
    """A piece of a file, compressed at `offset` of its blob in `packed` bytes."""

    digest: str
    offset: int
    packed: int
    zeros: bool


@dataclass(frozen=True)
class Contents:
    """What a layer's table of contents says, and how long the blob's end from it on is."""

    files: dict[str, list[Chunk]]
    """By name."""
    digests: dict[str, str]
    """The files' own, by name."""
    tail: int


@dataclass(frozen=True)
class Floor:
    """Bytes of blobs that are new, and nothing else."""

    layers: int
    """Layers that are not there as a whole: their blobs."""
    files: int
    """Files that no layer before had."""
    chunks: int
    """Chunks that no layer before had, once each."""
    tails: int
    """Tables of contents, tar-splits and footers of the layers."""


def contents(blob: BinaryIO, descriptor: dict[str, Any]) -> Contents:
    """Reads the table of contents of a layer whose blob is `blob`."""
    offset, packed, _size, _kind = map(int, descriptor["annotations"][_POSITION].split(":"))
    blob.seek(offset)
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(blob.read(packed))
    files: dict[str, list[Chunk]] = {}
    digests: dict[str, str] = {}
    for name, entries in _files(json.loads(raw)["entries"]):
        first = entries[0]
        digests[name] = first["digest"]
        ends = [each["offset"] for each in entries[1:]] + [first["endOffset"]]
        files[name] = [
            Chunk(
                each.get("chunkDigest") or first["digest"],
                each.get("offset", 0),
                end - each.get("offset", 0),
                each.get("chunkType") == "zeros",
            )
            for each, end in zip(entries, ends, strict=True)
        ]
    return Contents(files, digests, descriptor["size"] - offset + _FRAME_HEADER)


def floor(before: Iterable[Contents], new: Iterable[tuple[int, Contents]]) -> Floor:
    """The least for `new` layers, each with its blob's size, where those `before` are there."""
    there: set[str] = set()
    for layer in before:
        there |= set(layer.digests.values())
        there |= {chunk.digest for chunks in layer.files.values() for chunk in chunks}
    wanted = list(new)
    seen_files, seen_chunks = set(there), set(there)
    file_bytes = chunk_bytes = 0
    for _, layer in wanted:
        for name, chunks in layer.files.items():
            digest = layer.digests[name]
            if digest in seen_files:
                continue
            seen_files.add(digest)
            file_bytes += sum(chunk.packed for chunk in chunks if not chunk.zeros)
            for chunk in chunks:
                if not chunk.zeros and chunk.digest not in seen_chunks:
                    seen_chunks.add(chunk.digest)
                    chunk_bytes += chunk.packed
    return Floor(
        sum(size for size, _ in wanted),
        file_bytes,
        chunk_bytes,
        sum(layer.tail for _, layer in wanted),
    )


def _files(entries: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Regular files with content, each with the entries of its further chunks."""
    current: list[dict[str, Any]] = []
    for entry in [*entries, {"type": "end"}]:
        if entry["type"] == "chunk":
            current.append(entry)
            continue
        if current:
            yield current[0]["name"], current
        current = [entry] if entry["type"] == "reg" and entry.get("size") else []
