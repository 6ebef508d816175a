"""Ranges: which are asked for, given those that are wanted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.pull.coalesce import Link, Range, coalesce, covered, cut, joined

K = 1024
FAR = Link(round_trip=0.1, bytes_per_second=10e6)


@pytest.mark.parametrize(
    ("link", "gap"),
    [
        (Link(), limits.RANGE_GAP_LEAST),
        (Link(0.1, None), limits.RANGE_GAP_LEAST),
        (Link(0.001, 1e6), limits.RANGE_GAP_LEAST),
        (Link(0.02, 12.5e6), int(0.02 * 12.5e6 / limits.RANGE_CONNECTIONS)),
        (Link(0.2, 100e6), limits.RANGE_GAP_MOST),
    ],
)
def test_gap_is_what_a_round_trip_costs(link: Link, gap: int) -> None:
    assert link.gap == gap


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], []),
        ([(0, 5)], [(0, 5)]),
        ([(0, 5), (5, 9)], [(0, 9)]),
        ([(0, 5), (6, 9)], [(0, 5), (6, 9)]),
        ([(0, 9), (3, 5), (9, 10), (12, 13)], [(0, 10), (12, 13)]),
    ],
)
def test_joined(wanted: list[Range], found: list[Range]) -> None:
    assert joined(wanted) == found


@pytest.mark.parametrize(
    ("parts", "ranges", "count"),
    [
        ([], [(0, 9)], 0),
        ([(0, 9)], [], 0),
        ([(0, 10)], [(0, 10)], 10),
        ([(0, 10)], [(2, 4), (8, 20)], 4),
        ([(0, 3), (5, 6), (9, 12)], [(1, 10)], 4),
        ([(0, 3), (4, 6)], [(3, 4), (6, 9)], 0),
    ],
)
def test_covered(parts: list[Range], ranges: list[Range], count: int) -> None:
    assert covered(parts, ranges) == count


def spaced(*gaps: int, size: int = 1 << 20) -> list[Range]:
    """Return ranges of `size` bytes with these gaps between them."""
    found, at = [(0, size)], size
    for gap in gaps:
        found.append((at + gap, at + gap + size))
        at += gap + size
    return found


def test_gaps_that_cost_less_than_a_request_are_always_closed() -> None:
    assert coalesce([spaced(1, 4 * K, 4 * K + 1)], Link()) == [
        [(0, 3 * 1024 * K + 4 * K + 1), (3 * 1024 * K + 8 * K + 2, 4 * 1024 * K + 8 * K + 2)]
    ]


def test_gaps_worth_a_round_trip_are_closed_while_they_add_little() -> None:
    # 250 KB a round trip; 0.5 % of 3 MiB are 15 KiB.
    assert len(coalesce([spaced(100 * K, 200 * K)], FAR)[0]) == 3
    assert len(coalesce([spaced(100 * K, 15 * K)], FAR)[0]) == 2
    assert len(coalesce([spaced(100 * K, 15 * K)], Link())[0]) == 3


def test_there_are_never_more_ranges_than_is_good() -> None:
    many = spaced(*(10 * K + at for at in range(999)), size=100)
    found = coalesce([many], Link())[0]
    assert len(found) == limits.PARTS_REQUESTS_MOST
    kept = [b[0] - a[1] for a, b in pairwise(found)]
    assert min(kept) == 10 * K + 999 - len(kept)  # those that are left are the largest


def test_the_smallest_gaps_of_all_blobs_are_closed_first() -> None:
    small = spaced(*[5 * K] * 100, size=100)
    large = spaced(*[50 * K] * 158, size=100)
    found = coalesce([large, small], Link())
    assert [len(each) for each in found] == [159, limits.PARTS_REQUESTS_MOST - 159]


@pytest.mark.parametrize(
    ("blobs", "spent", "ranges"),
    [(1, 1, 193), (6, 6, 188), (20, 36, 158), (56, 56, 138), (64, 64, 130), (90, 90, 180)],
)
def test_what_was_spent_leaves_less(blobs: int, spent: int, ranges: int) -> None:
    found = coalesce([spaced(*[10 * K] * 500, size=100) for _ in range(blobs)], Link(), spent)
    assert sum(map(len, found)) == ranges
    assert all(found)


M = limits.RANGE_CUT
MOST = limits.PARTS_REQUESTS_MOST


@pytest.mark.parametrize(
    ("sizes", "link", "spent", "expected"),
    [
        ([], Link(), 0, []),
        ([1, M], Link(), 0, [1, M]),
        ([M + 1, 5, 3 * M], Link(), 0, [M, 1, 5, M, M, M]),
        # Each is worth a round trip.
        ([10 * M], Link(0.1, 40.0 * M), 0, [4 * M, 4 * M, 2 * M]),
        ([10 * M], Link(0.1, None), 0, [M] * 10),
        # Twice the size until there are requests for all of them.
        ([10 * M], Link(), MOST - 10, [M] * 10),
        ([10 * M], Link(), MOST - 9, [2 * M] * 5),
        ([10 * M, 3 * M], Link(), MOST - 5, [4 * M, 4 * M, 2 * M, 3 * M]),
        ([10 * M, 3 * M], Link(), MOST - 2, [10 * M, 3 * M]),
        ([10 * M], Link(), MOST + 50, [10 * M]),
    ],
)
def test_large_ranges_are_cut_while_requests_are_left(
    sizes: list[int], link: Link, spent: int, expected: list[int]
) -> None:
    wanted, at = [], 7
    for size in sizes:
        wanted.append((at, at + size))
        at += size + 100
    [found] = cut([wanted], link, spent)
    assert [end - start for start, end in found] == expected
    assert joined(found) == wanted


def test_requests_left_are_shared_by_all_blobs() -> None:
    found = cut([[(0, 100 * M)], [], [(5, 5 + 100 * M), (200 * M, 201 * M)]], Link())
    assert [len(each) for each in found] == [50, 0, 51]


RANGES = st.lists(st.tuples(st.integers(1, 300_000), st.integers(1, 5000)), min_size=0, max_size=60)


@given(st.lists(RANGES, max_size=4), st.sampled_from([Link(), FAR]))
def test_all_that_is_wanted_is_fetched(blobs: list[list[Range]], link: Link) -> None:
    wanted = []
    for steps in blobs:
        at, ranges = 0, []
        for gap, size in steps:
            ranges.append((at + gap, at + gap + size))
            at += gap + size
        wanted.append(ranges)
    found = coalesce(wanted, link)
    assert len(found) == len(wanted)
    for want, got in zip(wanted, found, strict=True):
        assert covered(want, got) == sum(end - start for start, end in want)
        assert got == joined(got)
        # Nothing begins or ends elsewhere than what is wanted.
        assert {start for start, _ in got} <= {start for start, _ in want}
        assert {end for _, end in got} <= {end for _, end in want}
    pieces = cut(found, link)
    assert [joined(each) for each in pieces] == found
    assert sum(map(len, pieces)) <= max(MOST, sum(map(len, found)))
