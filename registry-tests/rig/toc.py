"""zstd:chunked blobs taken apart and put together again, with nothing of bootc-py in it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import requests
import zstandard

from rig.registry import Registry

PREFIX = "io.github.containers.zstd-chunked."
_CHECKSUM, _POSITION = PREFIX + "manifest-checksum", PREFIX + "manifest-position"
_SPLIT_POSITION = PREFIX + "tarsplit-position"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_SKIPPABLE = 0x184D2A50
_MAGIC = b"GNUlInUx"

Entries = list[dict[str, Any]]


class Chunk(NamedTuple):
    """A run of a file's content: the digest of it, and what it takes in the blob."""

    digest: str
    packed: int
    zeros: bool


def manifest(registry: Registry, name: str) -> dict[str, Any]:
    """The manifest of REPOSITORY:TAG."""
    repository, _, tag = name.rpartition(":")
    answer = requests.get(
        f"{registry.url}/v2/{repository}/manifests/{tag}", headers={"Accept": _MANIFEST}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@dataclass
class Chunked:
    """A blob: the frames of the content, the table of contents, the unpacked tar-split."""

    frames: bytes
    toc: dict[str, Any]
    tar_split: bytes

    @property
    def entries(self) -> Entries:
        entries: Entries = self.toc["entries"]
        return entries

    def entry(self, name: str) -> dict[str, Any]:
        """The table's entry of a file."""
        return next(each for each in self.entries if each["name"].removeprefix("./") == name)

    def files(self) -> Iterator[tuple[dict[str, Any], list[Chunk]]]:
        """Each file with content, and its chunks."""
        parts: Entries = []
        for entry in [*self.entries, {"type": "end"}]:
            if entry["type"] == "chunk":
                parts.append(entry)
                continue
            if parts:
                yield parts[0], _chunks(parts)
            parts = [entry] if entry["type"] == "reg" and entry.get("size") else []

    def render(self) -> tuple[bytes, dict[str, str]]:
        """The blob, with right digests all along, and the annotations that go with it."""
        split = zstandard.compress(self.tar_split)
        document = self.toc | {"tarSplitDigest": f"sha256:{hashlib.sha256(split).hexdigest()}"}
        plain = json.dumps(document).encode()
        toc = zstandard.compress(plain)
        toc_at = len(self.frames) + 8
        split_at = toc_at + len(toc) + 8
        places = (toc_at, len(toc), len(plain), 1), (split_at, len(split), len(self.tar_split))
        footer = struct.pack("<7Q8s", *places[0], *places[1], _MAGIC)
        blob = self.frames + b"".join(map(_skippable, (toc, split, footer)))
        return blob, {
            _CHECKSUM: f"sha256:{hashlib.sha256(toc).hexdigest()}",
            _POSITION: ":".join(map(str, places[0])),
            _SPLIT_POSITION: ":".join(map(str, places[1])),
        }


def parse(blob: bytes, annotations: Mapping[str, str]) -> Chunked:
    """Takes a blob apart where its annotations say."""
    at, packed = toc_place(annotations)
    split_at, split_packed, _ = map(int, annotations[_SPLIT_POSITION].split(":"))
    return Chunked(
        blob[: at - 8],
        json.loads(unpack(blob[at : at + packed])),
        unpack(blob[split_at : split_at + split_packed]),
    )


def toc_place(annotations: Mapping[str, str]) -> tuple[int, int]:
    """Where in the blob the compressed table of contents is, and how long."""
    at, packed, _, _ = map(int, annotations[_POSITION].split(":"))
    return at, packed


def split_place(annotations: Mapping[str, str]) -> tuple[int, int]:
    """The same for the tar-split."""
    at, packed, _ = map(int, annotations[_SPLIT_POSITION].split(":"))
    return at, packed


def unpack(data: bytes) -> bytes:
    """All frames of `data`."""
    decoder = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    unpacked: bytes = decoder.decompress(data)
    return unpacked


@dataclass(frozen=True)
class Least:
    """What an upgrade has to move at least, in compressed bytes."""

    chunks: int
    """Of content that the old image has nowhere, each once."""
    tails: int
    """Tables of contents and tar-splits of the layers that are not the old image's."""

    @property
    def bytes(self) -> int:
        return self.chunks + self.tails


def least(registry: Registry, before: str, after: str) -> Least:
    """The least for the image `after` (REPOSITORY:TAG) where `before` is there."""
    old = manifest(registry, before)["layers"]
    known = {layer["digest"] for layer in old}
    here: set[str] = set()
    for layer in old:
        for entry, chunks in _read(registry, layer).files():
            here.update((entry["digest"], *(chunk.digest for chunk in chunks)))
    new = tails = 0
    for layer in manifest(registry, after)["layers"]:
        if layer["digest"] in known:
            continue
        tails += layer["size"] - toc_place(layer["annotations"])[0]
        for entry, chunks in _read(registry, layer).files():
            if entry["digest"] in here:
                continue
            for chunk in chunks:
                if not chunk.zeros and chunk.digest not in here:
                    here.add(chunk.digest)
                    new += chunk.packed
            here.add(entry["digest"])
    return Least(new, tails)


def _read(registry: Registry, layer: Mapping[str, Any]) -> Chunked:
    blob = registry.blob_file(layer["digest"]).read_bytes()
    return parse(blob, layer["annotations"])


def _chunks(parts: Entries) -> list[Chunk]:
    ends = [*(each["offset"] for each in parts[1:]), parts[0]["endOffset"]]
    return [
        Chunk(
            each.get("chunkDigest") or each["digest"],
            end - each["offset"],
            each.get("chunkType") == "zeros",
        )
        for each, end in zip(parts, ends, strict=True)
    ]


def _skippable(data: bytes) -> bytes:
    return struct.pack("<II", _SKIPPABLE, len(data)) + data
