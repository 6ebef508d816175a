"""Which components share a layer: as few bytes as can be, at the next change, are to move again.

Without a previous image most layers are the largest components, one each; the
others go where the hash of their name says, so that neither a new component nor another size or
order moves them. What changes all the time shares a layer that does so too.

With one, layers none of whose components changed stay what they are. All others have to move
anyway: what is in them is put together anew for the least that is to be expected, from how often
each changed while it was watched, and before by its changelog. So layers become better with each
image, and it costs nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge import limits

_ALONE = 0.85
"""Part of the layers that have one component each: what does best for real updates."""
_SPARE = 8
"""One layer of so many is left free at first, for what is to be parted from what later."""
_RESTLESS = 26.0
"""Changes a year from which on a component is with others like it."""
_BUILDS = 52.0
"""Builds a year: what it takes to make a rate of changes seen in builds."""
_TRUST = 4.0
"""Builds until what was seen has as much weight as what the changelog says."""


@dataclass(frozen=True, slots=True)
class Item:
    """A component that is to be packed, or was."""

    name: str
    content: str
    """A digest of what is in it: equal for the same."""
    size: int = 0
    rate: float = 0.0
    """Changes a year, as the image itself lets expect."""
    builds: int = 0
    """Images before this one that it was in..."""
    changes: int = 0
    """...and how often it was another than in the one before."""

    @property
    def expected(self) -> float:
        """The chance that the next image has it changed."""
        rate = self.rate / _BUILDS
        seen = (self.changes + rate * _TRUST) / (self.builds + _TRUST)
        return min(0.99, max(0.001, seen))


Group = tuple[Item, ...]
_FEWEST = 2
"""Layers that there must be for anything to be parted from anything."""


def pack(
    items: Iterable[Item], budget: int, previous: Sequence[Sequence[Item]] = ()
) -> list[Group]:
    """Put the items, whose names differ, into at most `budget` groups: a layer each, what changes
    least first. `previous` is what an earlier call returned for the image before."""
    items = sorted(items, key=lambda each: each.name)
    if budget < _FEWEST:
        return [tuple(items)] if items else []
    if not previous:
        return _in_order(_by_name(items, budget))
    return _again(items, budget, previous)


# -- without a previous image ----------------------------------------------------------------


def _by_name(items: list[Item], budget: int) -> list[Group]:
    if len(items) <= budget:
        return [(each,) for each in items]
    budget -= budget // _SPARE
    restless = tuple(each for each in items if each.rate >= _RESTLESS and each.size < _LARGE)
    calm = [each for each in items if each not in restless]
    budget -= bool(restless)
    largest = sorted(calm, key=lambda each: (-each.size, each.name))[: int(budget * _ALONE)]
    groups: list[Group] = [(each,) for each in largest]
    if restless:
        groups.append(restless)
    bins: list[list[Item]] = [[] for _ in range(budget - len(largest))]
    alone = set(largest)
    for each in calm:
        if each not in alone:
            number = int.from_bytes(hashlib.sha256(each.name.encode()).digest()[:8], "big")
            bins[number % len(bins)].append(each)
    return groups + [tuple(each) for each in bins if each]


_LARGE = limits.MIB
"""What is restless and as large as this is alone, if anything is."""

# -- with one --------------------------------------------------------------------------------


def _again(items: list[Item], budget: int, previous: Sequence[Sequence[Item]]) -> list[Group]:
    before = {each.name: each for group in previous for each in group}
    now = {each.name: _watched(each, before.get(each.name)) for each in items}
    kept: list[Group] = []
    for group in previous:
        if (
            len(kept) < budget - 1
            and group
            and all(each.name in now and now[each.name].content == each.content for each in group)
        ):
            kept.append(tuple(now.pop(each.name) for each in group))
    return kept + _in_order(_together(list(now.values()), budget - len(kept)))


def _watched(item: Item, before: Item | None) -> Item:
    if before is None:
        return item
    changed = before.content != item.content
    return Item(
        item.name, item.content, item.size, item.rate,
        before.builds + 1, before.changes + changed,
    )  # fmt: skip


def _together(items: list[Item], budget: int) -> list[Group]:
    """Join groups, those first for which it costs least, until they are no more than `budget`."""
    groups: dict[int, Group] = {number: (each,) for number, each in enumerate(items)}
    weights = {number: (each.size, math.log1p(-each.expected)) for number, each in enumerate(items)}
    if len(groups) <= budget:
        return list(groups.values())

    def cost(one: int, other: int) -> float:
        (size, calm), (more, calmer) = weights[one], weights[other]
        joined = (size + more) * -math.expm1(calm + calmer)
        return joined + size * math.expm1(calm) + more * math.expm1(calmer)

    pairs = [(cost(one, other), one, other) for one in groups for other in range(one)]
    heapq.heapify(pairs)
    following = len(items)
    while len(groups) > budget:
        _, one, other = heapq.heappop(pairs)
        if one not in groups or other not in groups:
            continue
        groups[following] = groups.pop(one) + groups.pop(other)
        size, calm = weights[one]
        more, calmer = weights[other]
        weights[following] = size + more, calm + calmer
        for each in groups:
            if each != following:
                heapq.heappush(pairs, (cost(following, each), following, each))
        following += 1
    return [tuple(sorted(each, key=lambda item: item.name)) for each in groups.values()]


def _in_order(groups: list[Group]) -> list[Group]:
    """Return what changes least first: what is above a changed layer has to be put together anew
    by those who keep layers on one another."""
    return sorted(groups, key=lambda group: (sum(each.expected for each in group), group[0].name))
