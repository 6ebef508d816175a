"""chunkah's way to put components into layers, as we read it: what ours is held against.

Source: `src/packing.rs` of https://github.com/coreos/chunkah, described in its words at the top.
Large outliers (by median and median deviation) are alone, up to four fifths of the layers; the
others are parted by how stable they are (mean and standard deviation) and put into layers by the
hash of their names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, pstdev

from bridge.build.packing import Group, Item

_OUTLIER = 1.5
_ALONE = 0.8
_PERIOD = 7 / 365
"""A week: the stability of a component is the chance that it does not change within it."""


def pack(items: Sequence[Item], budget: int) -> list[Group]:
    """Put the items into at most `budget` groups."""
    if len(items) <= budget:
        return [(each,) for each in items]
    middle = median(each.size for each in items)
    deviation = median(abs(each.size - middle) for each in items)
    if deviation < middle * 0.01:
        deviation = middle
    large = [each for each in items if each.size >= middle + _OUTLIER * deviation]
    large.sort(key=lambda each: -each.size)
    cap = int((budget - (len(large) < len(items))) * _ALONE)
    alone = large[:cap]
    rest = [each for each in items if each not in set(alone)]
    return [(each,) for each in alone] + _binned(rest, budget - len(alone))


def _binned(items: list[Item], budget: int) -> list[Group]:
    if len(items) <= budget:
        return [(each,) for each in items]
    stable = {each.name: math.exp(-each.rate * _PERIOD) for each in items}
    middle, spread = mean(stable.values()), pstdev(stable.values())
    tiers: list[list[Item]] = [[], [], []]
    for each in items:
        value = stable[each.name]
        tiers[0 if value >= middle + spread else 2 if value <= middle - spread else 1].append(each)
    there = [tier for tier in tiers if tier]
    if budget < len(there):
        return _hashed(items, budget)
    groups: list[Group] = []
    left = budget
    for number, tier in enumerate(there, 1):
        after = len(there) - number
        share = left if not after else max(1, round(len(tier) / len(items) * budget))
        share = min(share, left - after)
        left -= share
        groups += _hashed(tier, share)
    return groups


def _hashed(items: list[Item], count: int) -> list[Group]:
    bins: list[list[Item]] = [[] for _ in range(count)]
    for each in items:
        bins[_fnv(each.name.encode() + b"\xff") % count].append(each)
    return [tuple(each) for each in bins if each]


def _fnv(data: bytes) -> int:
    """FNV-1a of 64 bits; a string is hashed with 0xff at its end."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found
