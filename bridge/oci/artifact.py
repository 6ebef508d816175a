"""Artifacts that refer to an image: signatures, bills of materials, deltas.

A manifest whose `subject` is the image's descriptor. Registries list such by what they call the
referrers API; where one does not have it, an index under a tag made from the subject's digest does
the same. In a layout they stand in `index.json` without a tag.
Sources: https://github.com/opencontainers/image-spec/blob/main/manifest.md and
https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.oci.digest import Digest
from bridge.oci.layout import ImageLayout
from bridge.oci.model import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    parse_document,
)

EMPTY = b"{}"
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


def artifact(
    artifact_type: str,
    subject: Descriptor,
    blobs: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return the manifest of an artifact that refers to `subject`; its configuration is `EMPTY`.

    The same arguments give the same bytes. `ValueError` for what is no media type.
    """
    if not _MEDIA_TYPE.fullmatch(artifact_type):
        raise ValueError(f"{artifact_type!r:.200} is not a media type")
    empty = Descriptor(OCI_EMPTY, Digest.of(EMPTY), len(EMPTY))
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": described(empty),
        "layers": [described(each) for each in blobs or [empty]],
        "subject": {
            "mediaType": subject.media_type,
            "digest": subject.digest,
            "size": subject.size,
        },
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    return dumps(document)


def described(descriptor: Descriptor) -> dict[str, Any]:
    """Return a descriptor's JSON form (without a platform, which none of ours has)."""
    found: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.artifact_type:
        found["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        found["annotations"] = dict(descriptor.annotations)
    return found


def dumps(document: object) -> bytes:
    """Return a document's bytes, the same each time."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def descriptor_of(document: Manifest | Index) -> Descriptor:
    """Return how a list of referrers describes a manifest: with its type and its annotations."""
    kind = document.artifact_type
    if not kind and isinstance(document, Manifest):
        kind = document.config.media_type
    return Descriptor(
        document.media_type,
        document.digest,
        len(document.raw),
        document.annotations,
        artifact_type=kind,
    )


def fallback_tag(subject: Digest) -> str:
    """Return the tag under which referrers are listed where the registry does not list them."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def with_referrer(
    listed: Mapping[str, Any] | None,
    added: Iterable[Mapping[str, Any]],
    without: Collection[str] = (),
) -> bytes:
    """Return the index of a fallback tag with more descriptors in it, all that it had included but
    for those `without` which it is to be.

    `listed` is the index that is there, as JSON has it. `MalformedImage` where it gets too large.
    """
    index = dict(listed or {"schemaVersion": 2}) | {"mediaType": OCI_INDEX}
    entries: dict[str, Mapping[str, Any]] = {}
    for each in (*index.get("manifests", ()), *added):
        if each["digest"] not in without:
            entries.setdefault(each["digest"], each)
    index["manifests"] = list(entries.values())
    raw = dumps(index)
    if len(entries) > limits.INDEX_ENTRIES_MAX or len(raw) > limits.MANIFEST_MAX:
        raise MalformedImage(f"the index of referrers would have {len(entries)} entries, too many")
    return raw


def chosen(listed: Iterable[Descriptor], artifact_type: str | None) -> tuple[Descriptor, ...]:
    """Return the descriptors of one type, of each manifest one; all types where that is None."""
    found: dict[Digest, Descriptor] = {}
    for each in listed:
        if each.media_type in MANIFEST_TYPES + INDEX_TYPES and (
            artifact_type is None or each.artifact_type == artifact_type
        ):
            found.setdefault(each.digest, each)
    return tuple(found.values())


def require_subject(document: Manifest | Index, subject: Digest) -> None:
    """Raise `MalformedImage` unless a manifest that was listed does refer to `subject`.

    A list is whatever a registry says; the manifest's own word is covered by its digest.
    """
    if document.subject is None or document.subject.digest != subject:
        raise MalformedImage(f"manifest {document.digest} does not refer to {subject}")


def in_layout(
    layout: ImageLayout, subject: Digest, artifact_type: str | None = None
) -> tuple[Descriptor, ...]:
    """Return the manifests in a layout's `index.json` that refer to `subject`."""
    return chosen(_referring(layout, subject), artifact_type)


def _referring(layout: ImageLayout, subject: Digest) -> Iterator[Descriptor]:
    for entry in layout.index().manifests:
        if entry.media_type in MANIFEST_TYPES + INDEX_TYPES:
            document = parse_document(layout.read_blob(entry), entry.media_type)
            if document.subject is not None and document.subject.digest == subject:
                yield descriptor_of(document)
