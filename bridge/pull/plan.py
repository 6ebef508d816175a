"""The planner: how each layer is to be had, cheapest first.

A layer is here already when its blob's ref is, or when another blob that gave the same DiffID is:
recompressed images move nothing. Only DiffIDs that this program computed itself count.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bridge.errors import DamagedRepository, MalformedImage
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, ImageConfig, Manifest, layer_compression
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.pull.layer import diff_id_of
from bridge.pull.refnames import LAYERS


class Mode(enum.Enum):
    """Where a layer's bytes come from."""

    PRESENT = "present"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer of the image, in the manifest's order."""

    layer: Descriptor
    diff_id: Digest
    mode: Mode
    commit: str | None = None
    """The layer's commit, when it is here. A layer that the image has twice moves once: the
    second one is present with no commit yet."""

    @property
    def transfer_bytes(self) -> int:
        """Blob bytes that are going to be moved."""
        return self.layer.size if self.mode is Mode.WHOLE else 0


def plan(repo: Repository, manifest: Manifest, config: ImageConfig) -> list[LayerPlan]:
    """Return what to do for each layer; `MalformedImage` where manifest and config disagree."""
    if len(manifest.layers) != len(config.diff_ids):
        raise MalformedImage(
            f"manifest {manifest.digest} has {len(manifest.layers)} layers, but its config has "
            f"{len(config.diff_ids)} DiffIDs"
        )
    stored = _stored(repo)
    plans: list[LayerPlan] = []
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        layer_compression(layer.media_type)  # refuse what cannot be read before anything moves
        commit = stored.get(diff_id)
        here = commit is not None or any(each.diff_id == diff_id for each in plans)
        plans.append(LayerPlan(layer, diff_id, Mode.PRESENT if here else Mode.WHOLE, commit))
    return plans


def _stored(repo: Repository) -> dict[str, str]:
    """Return the commits of the layers in the store by the DiffIDs they were verified against."""
    found: dict[str, str] = {}
    for commit in set(refs.listing(repo, LAYERS).values()):
        try:
            diff_id = diff_id_of(repo.read_commit(commit))
        except DamagedRepository:
            continue  # as good as not here: it is fetched again
        if diff_id is not None:
            found[diff_id] = commit
    return found
