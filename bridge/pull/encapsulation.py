"""What an image says of an OSTree commit in it: which of its layers are the commit's.

Labels and order: ostree-ext, `container/encapsulate.rs` and `container/store.rs`. The first layer
has the commit, its trees and what content is nowhere else; those after it, up to the one that the
label `ostree.final-diffid` names, have content; any others lie on top, and are ordinary ones.
"""

from __future__ import annotations

import enum

from bridge.errors import MalformedImage, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, ImageConfig, Manifest

FINAL_LABEL = "ostree.final-diffid"
COMMIT_LABEL = "ostree.commit"


class Role(enum.Enum):
    """What a layer is to the image."""

    FILES = "files"
    """Ordinary: files, put on top of what is below."""
    COMMIT = "commit"
    """The commit, and all of its metadata objects."""
    OBJECTS = "objects"
    """Content objects of that commit."""


def roles(config: ImageConfig) -> tuple[Role, ...]:
    """Return the role of each layer, by its DiffID's place in `config`.

    All are ordinary where no label speaks of a commit, and where the one that does names no layer
    of the image: it was inherited by one whose layers were made anew, which still has every file
    under its own name. `MalformedImage` where it names several, or a layer is in two roles.
    """
    diff_ids = config.diff_ids
    final = config.labels.get(FINAL_LABEL)
    count = sum(str(each) == final for each in diff_ids)
    if not count:
        return (Role.FILES,) * len(diff_ids)
    if count > 1:
        raise MalformedImage(
            f"the label {FINAL_LABEL} names {final!r:.100}, which is several layers"
        )
    last = [str(each) for each in diff_ids].index(str(final))
    found = (Role.COMMIT, *(Role.OBJECTS,) * last, *(Role.FILES,) * (len(diff_ids) - last - 1))
    known: dict[Digest, Role] = {}
    for diff_id, role in zip(diff_ids, found, strict=True):
        if known.setdefault(diff_id, role) is not role:
            raise MalformedImage(f"layer {diff_id} is both {known[diff_id].value} and {role.value}")
    return found


def image_layers(manifest: Manifest, config: ImageConfig) -> list[tuple[Descriptor, Digest, Role]]:
    """Return the layers of an image that was imported, as far as its documents have them; none
    where it cannot have been."""
    try:
        return list(zip(manifest.layers, config.diff_ids, roles(config), strict=False))
    except MalformedImage:
        return []


def check_commit(config: ImageConfig, commit: str) -> None:
    """Raise `VerificationFailed` unless `commit` is the one that the image says it has."""
    said = config.labels.get(COMMIT_LABEL)
    if said is not None and said != commit:
        raise VerificationFailed(
            f"the image's label {COMMIT_LABEL} says {said!r:.100}, but its first layer holds"
            f" commit {commit}"
        )
