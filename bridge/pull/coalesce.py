"""Which ranges of which blobs to ask for, when certain bytes of them are wanted.

Every request costs a round trip, and bytes of its own; every gap that is fetched along to save a
request costs its bytes. Only single ranges are asked for: registries that serve several in one
answer are few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridge.limits import (
    PARTS_REQUESTS_MOST,
    RANGE_CONNECTIONS,
    RANGE_CUT,
    RANGE_GAP_LEAST,
    RANGE_GAP_MOST,
    RANGE_GAPS_PERMILLE,
)

Range = tuple[int, int]
"""Where it begins, and where it ends: the offset of its last byte and one."""


@dataclass(frozen=True, slots=True)
class Link:
    """What is known of the way to a registry: seconds for a round trip, bytes per second."""

    round_trip: float | None = None
    bytes_per_second: float | None = None

    @property
    def gap(self) -> int:
        """The bytes that take as long as one more request does, others being under way."""
        if self.round_trip is None or self.bytes_per_second is None:
            return RANGE_GAP_LEAST
        worth = int(self.round_trip * self.bytes_per_second / RANGE_CONNECTIONS)
        return max(RANGE_GAP_LEAST, min(worth, RANGE_GAP_MOST))

    @property
    def under_way(self) -> int:
        """The bytes that come in the time of a round trip, 0 where that is not known."""
        return int((self.round_trip or 0.0) * (self.bytes_per_second or 0.0))


def joined(wanted: Sequence[Range]) -> list[Range]:
    """Return ascending ranges without those that touch or overlap the one before."""
    found: list[Range] = []
    for start, end in wanted:
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def coalesce(wanted: Sequence[Sequence[Range]], link: Link, spent: int = 0) -> list[list[Range]]:
    """Return the ranges to ask for, blob by blob, given the ones wanted of each (`joined`).

    The smallest gaps are closed first: all that are cheaper than a request's own bytes, then those
    worth their round trip while they add no more than `RANGE_GAPS_PERMILLE` to what is wanted, and
    then as many as it takes to keep to `PARTS_REQUESTS_MOST`, of which some may be `spent` on other
    things. With very many blobs each has two all the same.
    """
    most = max(PARTS_REQUESTS_MOST - spent, 2 * len(wanted))
    bytes_wanted = sum(end - start for ranges in wanted for start, end in ranges)
    requests = sum(len(ranges) for ranges in wanted)
    gaps = sorted(
        (ranges[at + 1][0] - ranges[at][1], blob, at)
        for blob, ranges in enumerate(wanted)
        for at in range(len(ranges) - 1)
    )
    allowed = bytes_wanted * RANGE_GAPS_PERMILLE // 1000
    closed: list[set[int]] = [set() for _ in wanted]
    added = 0
    for gap, blob, at in gaps:
        cheap = gap <= RANGE_GAP_LEAST or (gap <= link.gap and added + gap <= allowed)
        if not cheap and requests <= most:
            break
        added += gap
        requests -= 1
        closed[blob].add(at)
    return [_close(ranges, those) for ranges, those in zip(wanted, closed, strict=True)]


def cut(wanted: Sequence[Sequence[Range]], link: Link, spent: int = 0) -> list[list[Range]]:
    """Return the ranges to ask for with large ones in pieces, as far as requests are left.

    Several connections share the link. What is needed first comes at a fraction of its speed while
    the others carry what is needed last; with pieces all of them are at what is needed soon. Each
    is worth a round trip at least, and `spent` is as for `coalesce`.
    """
    left = PARTS_REQUESTS_MOST - spent - sum(len(ranges) for ranges in wanted)
    sizes = [end - start for ranges in wanted for start, end in ranges]
    most = max(sizes, default=0)
    piece = max(RANGE_CUT, link.under_way)
    while piece < most and sum((size - 1) // piece for size in sizes) > left:
        piece *= 2
    return [[part for each in ranges for part in _cut(each, piece)] for ranges in wanted]


def covered(parts: Sequence[Range], ranges: Sequence[Range]) -> int:
    """Return how many bytes of ascending, disjoint `parts` lie in ascending, disjoint `ranges`."""
    found = at = 0
    for start, end in parts:
        while at < len(ranges) and ranges[at][1] <= start:
            at += 1
        for first, last in ranges[at:]:
            if first >= end:
                break
            found += min(end, last) - max(start, first)
    return found


def _cut(whole: Range, piece: int) -> Iterator[Range]:
    start, end = whole
    for at in range(start, end, piece):
        yield at, min(at + piece, end)


def _close(ranges: Sequence[Range], closed: set[int]) -> list[Range]:
    found: list[Range] = []
    for at, (start, end) in enumerate(ranges):
        if at and at - 1 in closed:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found
