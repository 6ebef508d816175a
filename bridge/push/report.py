"""What a push did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.push.compress import Packed
from bridge.registry.outcome import Outcome


@dataclass(frozen=True, slots=True)
class PushedLayer:
    """A layer of the image as it is at the destination."""

    diff_id: Digest
    blob: Packed
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PushReport:
    """An image that was written out. Bytes are those of blobs; requests are counted on the way."""

    reference: str
    destination: str
    compression: str
    digest: Digest
    """Of the manifest."""
    config: Digest
    layers: tuple[PushedLayer, ...]
    requests: int
    retries: int
    seconds: float

    def bytes_of(self, outcome: Outcome) -> int:
        """Return the bytes of the different layers' blobs that came to be there in that way."""
        blobs = {
            each.blob.digest: each.blob.size for each in self.layers if each.outcome is outcome
        }
        return sum(blobs.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as its JSON form has it."""
        return {
            "apiVersion": "bootc-py/v1",
            "kind": "PushReport",
            "image": {"reference": self.reference, "configDigest": self.config},
            "destination": {"reference": self.destination, "digest": self.digest},
            "compression": self.compression,
            "transfer": {
                **{f"{way.value}Bytes": self.bytes_of(way) for way in Outcome},
                "requests": self.requests,
                "retries": self.retries,
            },
            "layers": [
                {
                    "diffId": each.diff_id,
                    "digest": each.blob.digest,
                    "mediaType": each.blob.media_type,
                    "size": each.blob.size,
                    "outcome": each.outcome.value,
                }
                for each in self.layers
            ],
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class CopiedBlob:
    """A blob of an image that was copied, and how it came to be at the destination."""

    blob: Descriptor
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        """Return the blob as reports have it."""
        return {
            "digest": self.blob.digest,
            "mediaType": self.blob.media_type,
            "size": self.blob.size,
            "outcome": self.outcome.value,
        }


def bytes_by_outcome(blobs: Iterable[CopiedBlob]) -> dict[str, int]:
    """Return the bytes of the blobs by how they came to be there, as reports have them."""
    found = {f"{way.value}Bytes": 0 for way in Outcome}
    for each in blobs:
        found[f"{each.outcome.value}Bytes"] += each.blob.size
    return found


@dataclass(frozen=True, slots=True)
class CopyReport:
    """An image that was copied as it is. `received` are the bytes that came from its source over a
    network, requests and retries those of both ends."""

    source: str
    destination: str
    digest: Digest
    media_type: str
    documents: tuple[Digest, ...]
    """Manifests and indexes, the topmost one last."""
    blobs: tuple[CopiedBlob, ...]
    received: int
    requests: int
    retries: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as its JSON form has it."""
        return {
            "apiVersion": "bootc-py/v1",
            "kind": "CopyReport",
            "image": {"reference": self.source, "digest": self.digest},
            "destination": {"reference": self.destination, "digest": self.digest},
            "transfer": {
                **bytes_by_outcome(self.blobs),
                "receivedBytes": self.received,
                "requests": self.requests,
                "retries": self.retries,
            },
            "manifests": list(self.documents),
            "blobs": [each.to_json() for each in self.blobs],
            "seconds": round(self.seconds, 3),
        }
