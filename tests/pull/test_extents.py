"""Stretches of bytes, against plain sets of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.pull.extents import Extents

STRETCH = st.tuples(st.integers(0, 40), st.integers(0, 40))
STEPS = st.lists(st.tuples(st.booleans(), STRETCH), max_size=20)


def numbers(stretches: list[tuple[int, int]]) -> set[int]:
    return {at for start, end in stretches for at in range(start, end)}


@given(STEPS, STRETCH)
def test_they_are_sets(steps: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]) -> None:
    extents, model = Extents(), set[int]()
    for adds, (start, end) in steps:
        if adds:
            extents.add(start, end)
            model |= set(range(start, end))
        else:
            extents.remove(start, end)
            model -= set(range(start, end))
    gaps = extents.missing(*asked)
    assert numbers(gaps) == set(range(*asked)) - model
    assert extents.covers(*asked) == (not gaps)
    # In order, none empty, and no two that are one.
    edges = [edge for gap in gaps for edge in gap]
    assert edges == sorted(set(edges))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_what_meets_is_one(order: tuple[int, ...]) -> None:
    stretches = [(0, 10), (10, 20), (20, 30)]
    extents = Extents()
    for index in order:
        extents.add(*stretches[index])
    assert extents.covers(0, 30)
    assert extents.missing(0, 40) == [(30, 40)]
