"""The planner: how each layer is to be had, cheapest first.

A layer is here already when its blob's ref is, or when another blob that gave the same DiffID is:
recompressed images move nothing. Only DiffIDs that this program computed itself count.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bridge.errors import MalformedImage
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, ImageConfig, Manifest, layer_compression
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.pull.layer import by_diff_id
from bridge.pull.refnames import LAYERS


class Mode(enum.Enum):
    """Where a layer's bytes come from."""

    PRESENT = "present"
    WHOLE = "whole"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer of the image, in the manifest's order."""

    layer: Descriptor
    diff_id: Digest
    mode: Mode
    commit: str | None = None
    """The layer's commit, when it is here. A layer that the image has twice moves once: the
    second one is present with no commit yet."""
    only: frozenset[str] = frozenset()
    """Of a partial one: the objects that are wanted of it, all of which its tree names."""

    @property
    def transfer_bytes(self) -> int:
        """Blob bytes that are going to be moved, at most."""
        return 0 if self.mode is Mode.PRESENT else self.layer.size


def plan(repo: Repository, manifest: Manifest, config: ImageConfig) -> list[LayerPlan]:
    """Return what to do for each layer; `MalformedImage` where manifest and config disagree."""
    if len(manifest.layers) != len(config.diff_ids):
        raise MalformedImage(
            f"manifest {manifest.digest} has {len(manifest.layers)} layers, but its config has "
            f"{len(config.diff_ids)} DiffIDs"
        )
    stored = by_diff_id(repo, refs.listing(repo, LAYERS).values())
    plans: list[LayerPlan] = []
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        layer_compression(layer.media_type)  # refuse what cannot be read before anything moves
        commit = stored.get(diff_id)
        here = commit is not None or any(each.diff_id == diff_id for each in plans)
        plans.append(LayerPlan(layer, diff_id, Mode.PRESENT if here else Mode.WHOLE, commit))
    return plans
