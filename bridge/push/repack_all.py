"""Copying whatever a name leads to with layers packed in another way: an image, or an index.

An index of images that became others is made anew: the same entries in the same order, with all
that it says of them. What is no image, a bill of materials say, is copied as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.oci.artifact import dumps
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_INDEX, OCI_MANIFEST, Descriptor, Index, Manifest
from bridge.pull.progress import Progress
from bridge.push.compress import Compression
from bridge.push.copy import Part, move
from bridge.push.destination import Destination
from bridge.push.origin import Origin
from bridge.push.repack import Known, is_image, repack
from bridge.push.report import CopiedBlob

_OF_IMAGE = "vnd.docker.reference.digest"
"""Annotation of an entry that speaks of another one of the same index: BuildKit's attestations."""


@dataclass(frozen=True, slots=True)
class Repacked:
    """What came of a document: the caller puts it there under its names."""

    document: bytes
    media_type: str
    blobs: tuple[CopiedBlob, ...]
    changed: bool

    @property
    def digest(self) -> Digest:
        return Digest.of(self.document)


@dataclass(frozen=True, slots=True)
class Repacking:
    """How documents are packed anew."""

    source: Origin
    place: Destination
    compression: Compression
    level: int | None
    progress: Progress
    known: Known | None = None
    part: Part = field(default_factory=Part)
    image: Callable[[Manifest], Repacked | None] | None = None
    """What is done with an image in place of `repack`; None from it: it is copied as it is."""

    def run(self, top: Manifest | Index) -> Repacked:
        """Have all that belongs to a document at the place, but for the document itself. Raises
        what `repack` and `move` raise."""
        return self._document(top, 0)

    def _document(self, document: Manifest | Index, depth: int) -> Repacked:
        if isinstance(document, Index):
            return self._index(document, depth)
        made = (self.image or self.repacked)(document) if is_image(document) else None
        if made is None:
            moved = move(self.source, document, self.place, self.progress, self.part)
            return Repacked(document.raw, document.media_type, moved.blobs, changed=False)
        return made

    def repacked(self, image: Manifest) -> Repacked | None:
        """Have an image's layers packed anew at the place, as `repack` does."""
        packed = repack(
            self.source, image, self.place, self.compression, self.level, self.progress, self.known
        )
        if packed is None:
            return None
        blobs = {
            each.blob.digest: CopiedBlob(
                Descriptor(each.blob.media_type, each.blob.digest, each.blob.size), each.outcome
            )
            for each in packed.layers
        }
        return Repacked(packed.manifest, OCI_MANIFEST, tuple(blobs.values()), changed=True)

    def _index(self, index: Index, depth: int) -> Repacked:
        if depth >= limits.INDEX_DEPTH_MAX:
            raise MalformedImage(f"index {index.digest}: indexes in indexes, too deep")
        made: dict[Digest, Repacked] = {}
        for entry in filter(self.part.wants, index.manifests):
            one = self._document(self.source.document(entry), depth + 1)
            self.place.write(one.document, one.media_type)
            made[entry.digest] = one
        blobs = tuple(blob for one in made.values() for blob in one.blobs)
        whole = len(made) == len({each.digest for each in index.manifests})
        if whole and not any(one.changed for one in made.values()):
            return Repacked(index.raw, index.media_type, blobs, changed=False)
        return Repacked(_made_anew(index, made), OCI_INDEX, blobs, changed=True)


def _made_anew(index: Index, made: dict[Digest, Repacked]) -> bytes:
    document: dict[str, Any] = json.loads(index.raw)
    document["mediaType"] = OCI_INDEX
    entries = []
    for entry in document["manifests"]:
        one = made.get(Digest(entry["digest"]))
        if one is None:
            continue
        said = {"mediaType": one.media_type, "digest": one.digest, "size": len(one.document)}
        annotations = dict(entry.get("annotations") or {})
        image = made.get(Digest(annotations.get(_OF_IMAGE, "")))
        if image is not None:
            annotations[_OF_IMAGE] = image.digest
        entries.append(entry | said | ({"annotations": annotations} if annotations else {}))
    document["manifests"] = entries
    return dumps(document)
