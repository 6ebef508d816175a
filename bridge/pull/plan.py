"""The planner: how each layer is to be had, cheapest first.

A layer is here already when its blob's ref is, or when another blob that gave the same DiffID is:
recompressed images move nothing. Only DiffIDs that this program computed itself count. Of the
others those whose blobs say what is inside them are fetched in parts, where that saves enough.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bridge.errors import MalformedImage
from bridge.layer.blob_index import BlobIndex
from bridge.limits import PARTIAL_PERCENT_MAX
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, ImageConfig, Manifest, layer_compression
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.pull.coalesce import Link, Range, coalesce, cut
from bridge.pull.content_index import Place
from bridge.pull.encapsulation import Role, roles
from bridge.pull.partial_plan import PartialPlan, missing, partial_plan
from bridge.pull.refnames import LAYERS
from bridge.pull.stored_layers import stored_layers


class Mode(enum.Enum):
    """Where a layer's bytes come from."""

    PRESENT = "present"
    WHOLE = "whole"
    PARTIAL = "partial"


class Depth(enum.Enum):
    """How far down it is looked for what is here already."""

    NEVER = "never"
    FILES = "files"
    CHUNKS = "chunks"
    FASTEST = "fastest"
    """As far as chunks, but not at all where that would take longer than moving all there is."""


@dataclass(frozen=True, slots=True)
class Inside:
    """The end of a layer's blob, and what it says of the rest."""

    tail: bytes
    index: BlobIndex


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
    """In a repair: the objects that are wanted of it, all of which its tree names."""
    inside: Inside | None = None
    """What the blob says of itself, where it says anything; its end is here then."""
    parts: PartialPlan | None = None
    """What to fetch of a blob of which not all is fetched."""
    reason: str = ""
    """Why so, for the user."""
    role: Role = Role.FILES

    @property
    def transfer_bytes(self) -> int:
        """Blob bytes that are going to be moved, at most."""
        if self.mode is Mode.PRESENT:
            return 0
        if self.parts is None or self.inside is None:
            return self.layer.size
        return len(self.inside.tail) + self.parts.fetch_bytes

    @property
    def transfer_requests(self) -> int:
        """Requests for them, where none fails."""
        if self.mode is Mode.PRESENT:
            return 0
        return (self.inside is not None) + (1 if self.parts is None else len(self.parts.ranges))

    @property
    def avoided_chunk_bytes(self) -> int:
        """Blob bytes that are not moved because pieces of new files are here."""
        return 0 if self.parts is None else self.parts.chunk_bytes

    @property
    def avoided_file_bytes(self) -> int:
        """Blob bytes that are not moved because files are here, with the headers between them."""
        if self.parts is None:
            return 0
        return self.layer.size - self.transfer_bytes - self.parts.chunk_bytes

    def whole(self, reason: str) -> LayerPlan:
        """Return the plan to fetch all of the blob."""
        return replace(self, mode=Mode.WHOLE, parts=None, reason=reason)


class Lookup(Protocol):
    """What is known of the content of a store: its index, or a set that stands for one."""

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """Return a place for each of the sha256 digests that the store has."""


def plan(repo: Repository, manifest: Manifest, config: ImageConfig) -> list[LayerPlan]:
    """Return what to do for each layer, given what `repo` has; same errors as `plan_layers`."""
    stored = stored_layers(repo, refs.listing(repo, LAYERS).values())
    return plan_layers(stored, manifest, config)


def plan_layers(
    stored: Mapping[tuple[Role, str], str], manifest: Manifest, config: ImageConfig
) -> list[LayerPlan]:
    """Return what to do for each layer, whole; `MalformedImage` where manifest and config disagree.

    `stored` are the layers of a store: their commits, by what they are to an image and the DiffIDs.
    """
    if len(manifest.layers) != len(config.diff_ids):
        raise MalformedImage(
            f"manifest {manifest.digest} has {len(manifest.layers)} layers, but its config has "
            f"{len(config.diff_ids)} DiffIDs"
        )
    plans: list[LayerPlan] = []
    each_role = roles(config)
    for layer, diff_id, role in zip(manifest.layers, config.diff_ids, each_role, strict=True):
        layer_compression(layer.media_type)  # refuse what cannot be read before anything moves
        commit = stored.get((role, diff_id))
        here = commit is not None or any(each.diff_id == diff_id for each in plans)
        plans.append(
            LayerPlan(layer, diff_id, Mode.PRESENT, commit, reason="here already", role=role)
            if here
            else LayerPlan(layer, diff_id, Mode.WHOLE, role=role)
        )
    return plans


def to_depth(
    plans: Sequence[LayerPlan], contents: Lookup, depth: Depth, link: Link
) -> list[LayerPlan]:
    """Return the plans with those layers in parts whose blobs say what is inside them, where that
    is worth it: `contents` is asked for their files, and as `depth` has it, for their chunks."""
    blobs = [each.inside.index for each in plans if each.inside is not None]
    if not blobs or depth is Depth.NEVER:
        return list(plans)
    places = dict(contents.find({file.digest for blob in blobs for file in blob.files}))
    if depth is not Depth.FILES:
        places |= contents.find(
            {
                piece.digest
                for blob in blobs
                for file in blob.files
                if file.digest not in places
                for piece in file.pieces
            }
        )
    return in_parts(plans, places, link)


def in_parts(
    plans: Sequence[LayerPlan], places: Mapping[bytes, Place], link: Link
) -> list[LayerPlan]:
    """Return the plans with those layers in parts for which that is worth it.

    `places` is where the store has content, by digest; `link` the way to the registry.
    """
    able = {at: each.inside for at, each in enumerate(plans) if each.inside is not None}
    found = {at: missing(inside.index, places) for at, inside in able.items()}
    tails = {at: len(inside.tail) for at, inside in able.items()}

    def share(at: int, ranges: Sequence[Range]) -> int:
        fetched = sum(end - start for start, end in ranges) + tails[at]
        return fetched * 100 // plans[at].layer.size

    wanted: dict[int, Sequence[Range]] = {at: each.ranges for at, each in found.items()}
    whole: dict[int, int] = {}
    is_closed = False
    # A layer that is fetched whole after all is one request, which leaves more for the others.
    while True:
        shares = {at: share(at, ranges) for at, ranges in wanted.items()}
        much = {at: each for at, each in shares.items() if each > PARTIAL_PERCENT_MAX}
        if is_closed and not much:
            break
        whole |= much
        left = [at for at in found if at not in whole]
        spent = len(able) + len(whole)
        closed = coalesce([found[at].ranges for at in left], link, spent)
        wanted, is_closed = dict(zip(left, closed, strict=True)), True
    wanted = dict(zip(left, cut(closed, link, spent), strict=True))
    chosen = list(plans)
    for at, lacking in found.items():
        files = len(able[at].index.files)
        here = f"{files - lacking.files} of {files} files are here"
        if not places:
            here = "nothing of it is here"
        if at in whole:
            chosen[at] = plans[at].whole(f"{here}: in parts it would be {whole[at]} % of the blob")
        else:
            parts = partial_plan(lacking, places, wanted[at])
            chosen[at] = replace(plans[at], mode=Mode.PARTIAL, parts=parts, reason=here)
    return chosen
