"""The manifest of an image whose layers were packed anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.layer import zstd_chunked
from bridge.oci.artifact import described, dumps
from bridge.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from bridge.push.compress import Packed

_OF_COMPRESSION = (
    zstd_chunked.PREFIX,
    zstd_chunked.OLD_PREFIX,
    "containerd.io/snapshot/stargz/",
    "io.containers.estargz.",
)
"""What layers' annotations begin with that speak of the blob, not of what is in it."""


def packed_manifest(stored: Manifest, blobs: Sequence[Packed]) -> bytes:
    """Return the manifest of the image with its layers packed as they are now.

    Annotations are kept, but for those that speak of how a layer was packed.
    """
    layers = []
    for layer, blob in zip(stored.layers, blobs, strict=True):
        kept = {
            key: value
            for key, value in layer.annotations.items()
            if not key.startswith(_OF_COMPRESSION)
        }
        annotations = kept | dict(blob.annotations)
        layers.append(Descriptor(blob.media_type, blob.digest, blob.size, annotations))
    config = stored.config
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(Descriptor(OCI_CONFIG, config.digest, config.size, config.annotations)),
        "layers": [described(each) for each in layers],
    }
    if stored.annotations:
        document["annotations"] = dict(stored.annotations)
    return dumps(document)
