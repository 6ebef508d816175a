"""What a store that has the one image moves to get the other, as the planner of pulls has it.

There is no second planner: this gives `bridge.pull.plan` a set in the place of a store's index.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.compare.layer import LayerFacts
from bridge.pull.coalesce import Link
from bridge.pull.content_index import Place
from bridge.pull.encapsulation import Role
from bridge.pull.plan import Depth, LayerPlan, Lookup, Mode, to_depth

_SOMEWHERE = Place("", 0, 0)


class Strategy(enum.Enum):
    """What a client can do."""

    LAYERS = "layers"
    """It moves whole layers only: podman with gzip, or `image pull --partial never`."""
    FILES = "files"
    """It leaves out files that it has: podman with zstd:chunked, or `--partial files`."""
    CHUNKS = "chunks"
    """It leaves out pieces of files too: `image pull` as it is."""

    @property
    def depth(self) -> Depth:
        """What the planner calls it."""
        return _DEPTHS[self]


_DEPTHS = {
    Strategy.LAYERS: Depth.NEVER,
    Strategy.FILES: Depth.FILES,
    Strategy.CHUNKS: Depth.CHUNKS,
}


class Held:
    """The content of layers, as the index of a store that has them and nothing else."""

    def __init__(self, layers: Iterable[tuple[LayerFacts, Role]]) -> None:
        self._sets = [facts.held_as(role) for facts, role in layers]

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """Return a place, which is nowhere, for each of the digests that is held."""
        found = set().union(*(each.intersection(digests) for each in self._sets))
        return dict.fromkeys(found, _SOMEWHERE)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one strategy moves."""

    plans: tuple[LayerPlan, ...]
    document_bytes: int
    """Manifest and configuration, and the index over several platforms."""

    @property
    def layer_bytes(self) -> int:
        return sum(each.transfer_bytes for each in self.plans)

    @property
    def bytes(self) -> int:
        """All bytes that come over the network."""
        return self.layer_bytes + self.document_bytes

    @property
    def requests(self) -> int:
        """Requests for the layers, where none fails."""
        return sum(each.transfer_requests for each in self.plans)


def estimates(
    looked: Sequence[LayerPlan], held: Lookup | None, link: Link, document_bytes: int
) -> dict[Strategy, Estimate | None]:
    """Return what each strategy moves, given plans that say what is inside the layers; None where
    that depends on what is in the store, and `held` is not known."""
    found: dict[Strategy, Estimate | None] = {}
    for strategy in Strategy:
        plans: Sequence[LayerPlan] | None = looked
        if strategy is Strategy.LAYERS:
            plans = [replace(each, inside=None) for each in looked]
        elif any(each.mode is Mode.WHOLE and each.inside is not None for each in looked):
            plans = None if held is None else to_depth(looked, held, strategy.depth, link)
        found[strategy] = None if plans is None else Estimate(tuple(plans), document_bytes)
    return found
