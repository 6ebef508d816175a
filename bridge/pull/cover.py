"""Cover: which layers to have again so that all objects come, for the fewest bytes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def cheapest(wanted: Mapping[Name, set[str]], sizes: Mapping[Name, int]) -> dict[Name, set[str]]:
    """Choose layers (by any name) that together have all objects, and what to take of each.

    First those that alone have one of them, then whichever costs the fewest bytes for an object.
    """
    holders: dict[str, list[Name]] = {}
    for name, checksums in wanted.items():
        for each in checksums:
            holders.setdefault(each, []).append(name)
    left = set(holders)
    chosen: dict[Name, set[str]] = {}
    forced = {found[0] for found in holders.values() if len(found) == 1}
    while left:
        useful = [name for name in forced or wanted if wanted[name] & left]
        best = min(useful, key=lambda name: (sizes[name] / len(wanted[name] & left), str(name)))
        chosen[best] = wanted[best] & left
        left -= chosen[best]
        forced.discard(best)
    return chosen
