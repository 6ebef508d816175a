"""Deleting a tag, and nothing but that: not the manifest, which other tags may name.

Registries of the distribution-spec 1.1 delete what is named. Others, docker-registry before 3.0
among them, delete manifests only, by their digests, with all tags that lead there. There the tag is
first made to lead to a placeholder, a manifest that no other tag names and that is made from the
tag's name; and that is deleted. Whether the registry deletes at all is tried with the placeholder
before the tag is touched. A process that is cut off in between leaves the tag on the placeholder:
`is_placeholder` tells.
Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#deleting-tags
"""

from __future__ import annotations

import tempfile

from bridge.errors import NetworkError
from bridge.oci.artifact import EMPTY, described, dumps
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_EMPTY, OCI_MANIFEST, Descriptor
from bridge.registry.push import Pusher

_DONE = frozenset({200, 202, 204, 404})
_NOT_SO = frozenset({400, 405, 501})
_TYPE = "application/vnd.bootc-py.deleted-tag.v1"


def delete_tag(pusher: Pusher, tag: str) -> None:
    """Delete a tag; one that is not there is deleted. Raises `NotAuthorised`, and `NetworkError`
    where the registry deletes nothing."""
    reply = pusher.send("DELETE", f"manifests/{tag}")
    if reply.status in _DONE:
        return
    if reply.status not in _NOT_SO:
        raise pusher.failure(f"deleting the tag {tag}", reply)
    raw = placeholder(pusher.endpoint.repository, tag)
    _put_empty(pusher)
    for name in (None, tag):
        pusher.push_manifest(raw, OCI_MANIFEST, name)
        reply = pusher.send("DELETE", f"manifests/{Digest.of(raw)}")
        if reply.status in _NOT_SO:
            raise NetworkError(
                f"{pusher.endpoint.host} deletes neither tags nor manifests (it answered "
                f"{reply.status}): allow it there, or leave deletion out of the job"
            )
        if reply.status not in _DONE:
            raise pusher.failure(f"deleting the tag {tag}", reply)


def is_placeholder(digest: str, repository: str, tag: str) -> bool:
    """Tell whether a tag's digest is that of the manifest that it is deleted with."""
    return digest == Digest.of(placeholder(repository, tag))


def placeholder(repository: str, tag: str) -> bytes:
    """Return the manifest that a tag is deleted with."""
    empty = described(Descriptor(OCI_EMPTY, Digest.of(EMPTY), len(EMPTY)))
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": _TYPE,
            "config": empty,
            "layers": [empty],
            "annotations": {"org.opencontainers.image.ref.name": f"{repository}:{tag}"},
        }
    )


def _put_empty(pusher: Pusher) -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(EMPTY)
        pusher.push_blob(file.fileno(), Digest.of(EMPTY), len(EMPTY))
