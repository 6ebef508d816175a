"""What a push did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.oci.digest import Digest
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
