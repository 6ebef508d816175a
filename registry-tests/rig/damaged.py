"""zstd:chunked blobs taken apart and put together again, wrong in one thing.

Offsets and digests are made right again where the damage is to get past them. Written from the
format's description (containers/storage, pkg/chunked), not with the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import zstandard

PREFIX = "io.github.containers.zstd-chunked."
_SKIPPABLE = 0x184D2A50
_HEADER = 8
_MODE, _CHECKSUM = slice(100, 108), slice(148, 156)


@dataclass(frozen=True)
class Chunked:
    """A layer's blob with the annotations that its descriptor has."""

    blob: bytes
    annotations: dict[str, str]

    def numbers(self, key: str) -> list[int]:
        return [int(each) for each in self.annotations[PREFIX + key].split(":")]

    @property
    def frames(self) -> bytes:
        """All that stands before the table of contents."""
        return self.blob[: self.numbers("manifest-position")[0] - _HEADER]

    @property
    def toc(self) -> dict[str, Any]:
        offset, packed, *_ = self.numbers("manifest-position")
        document: dict[str, Any] = json.loads(_unpack(self.blob[offset : offset + packed]))
        return document

    @property
    def tar_split(self) -> list[dict[str, Any]]:
        offset, packed, _ = self.numbers("tarsplit-position")
        return [
            json.loads(line) for line in _unpack(self.blob[offset : offset + packed]).splitlines()
        ]

    def entry(self, name: str) -> dict[str, Any]:
        """What the table of contents has of the file `name`, without its further chunks."""
        (found,) = (e for e in self.toc["entries"] if e["name"] == name and e["type"] != "chunk")
        return dict(found)

    def flip(self, at: int) -> Chunked:
        """One bit of the blob's byte `at` is wrong, and no digest inside is made right."""
        changed = bytearray(self.blob)
        changed[at] ^= 1
        return replace(self, blob=bytes(changed))

    def annotate(self, key: str, value: str) -> Chunked:
        return replace(self, annotations={**self.annotations, PREFIX + key: value})

    def edit(
        self,
        toc: Callable[[dict[str, Any]], None] = lambda toc: None,
        tar_split: Callable[[list[dict[str, Any]]], None] = lambda lines: None,
    ) -> Chunked:
        """The documents after the functions had their way; all digests and places fit again."""
        frames, document, lines = self.frames, self.toc, self.tar_split
        tar_split(lines)
        split = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        packed_split = zstandard.compress(split)
        document["tarSplitDigest"] = _digest(packed_split)
        toc(document)
        raw = json.dumps(document).encode()
        packed = zstandard.compress(raw)
        place = [len(frames) + _HEADER, len(packed), len(raw), 1]
        split_place = [place[0] + len(packed) + _HEADER, len(packed_split), len(split)]
        footer = struct.pack("<7Q8s", *place, *split_place, b"GNUlInUx")
        tail = b"".join(map(_skippable, (packed, packed_split, footer)))
        return Chunked(
            frames + tail,
            {
                **self.annotations,
                PREFIX + "manifest-checksum": _digest(packed),
                PREFIX + "manifest-position": ":".join(map(str, place)),
                PREFIX + "tarsplit-position": ":".join(map(str, split_place)),
            },
        )


def change_mode(lines: list[dict[str, Any]], name: str, mode: int) -> None:
    """Gives `name` another mode in its tar header, whose checksum is right again."""
    for line in lines:
        data = bytearray(base64.b64decode(line.get("payload") or ""))
        at = data.find(name.encode() + b"\0")
        if line["type"] == 2 and at >= 0:
            header = data[at : at + 512]
            header[_MODE] = b"%07o\0" % mode
            header[_CHECKSUM] = b" " * 8
            header[_CHECKSUM] = b"%06o\0 " % sum(header)
            data[at : at + 512] = header
            line["payload"] = base64.b64encode(data).decode()
            return
    raise AssertionError(f"no header of {name}")


def _unpack(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _skippable(data: bytes) -> bytes:
    return struct.pack("<II", _SKIPPABLE, len(data)) + data
