"""Which components share a layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.build.packing import Group, Item, pack

SIZES = [2**number for number in range(10, 26)]


def items(count: int, **more: float) -> list[Item]:
    return [
        Item(f"package-{number}", f"content-{number}", SIZES[number % len(SIZES)] + number, **more)
        for number in range(count)
    ]


def moved(before: list[Group], after: list[Group]) -> int:
    """Bytes in layers that are not as they were."""
    there = {frozenset((each.name, each.content) for each in group) for group in before}
    return sum(
        sum(each.size for each in group)
        for group in after
        if frozenset((each.name, each.content) for each in group) not in there
    )


ITEM = st.builds(
    Item,
    name=st.text("abcdef", min_size=1, max_size=3),
    content=st.sampled_from("xyz"),
    size=st.integers(0, 10**9),
    rate=st.floats(0, 400),
)
ITEMS = st.lists(ITEM, max_size=40, unique_by=lambda each: each.name)


@given(ITEMS, ITEMS, st.integers(2, 12))
def test_each_component_is_in_one_layer_and_the_budget_is_kept(
    before: list[Item], after: list[Item], budget: int
) -> None:
    first = pack(before, budget)
    second = pack(after, budget, first)
    for groups, wanted in ((first, before), (second, after)):
        assert len(groups) <= budget
        assert all(groups)
        there = sorted((each.name, each.content, each.size) for group in groups for each in group)
        assert there == sorted((each.name, each.content, each.size) for each in wanted)
    assert pack(after[::-1], budget, first) == second
    assert pack(before[::-1], budget) == first


@given(ITEMS, st.integers(2, 12))
def test_what_did_not_change_stays(before: list[Item], budget: int) -> None:
    first = pack(before, budget)
    again = pack(before, budget, first)
    assert moved(first, again) == 0


def test_with_room_for_all_each_is_alone() -> None:
    assert sorted(len(group) for group in pack(items(10), 10)) == [1] * 10


def test_the_largest_are_alone() -> None:
    groups = pack(items(100), 23)
    alone = {group[0].name for group in groups if len(group) == 1}
    assert {each.name for each in sorted(items(100), key=lambda each: -each.size)[:15]} <= alone


def test_what_changes_all_the_time_is_together() -> None:
    restless = [Item("databases", "d", 9, 52.0), Item("unpackaged", "u", 8, 26.0)]
    groups = pack([*items(100), *restless], 20)
    assert tuple(restless) in groups
    # It comes last: nothing has to be put on it anew.
    assert groups[-1] == tuple(restless)


@pytest.mark.parametrize("budget", [8, 16, 64])
def test_without_history_a_change_moves_its_own_layers_only(budget: int) -> None:
    before = items(100)
    changed = [replace(before[3], content="new", size=before[3].size + 5), *before[:3], *before[4:]]
    first, second = pack(before, budget), pack(changed, budget)
    (layer,) = (group for group in second if before[3].name in {each.name for each in group})
    assert moved(first, second) == sum(each.size for each in layer)


@pytest.mark.parametrize("budget", [8, 16, 64])
def test_without_history_a_new_small_one_moves_one_layer(budget: int) -> None:
    before = items(100)
    new = Item("new", "new", 100)
    first, second = pack(before, budget), pack([*before, new], budget)
    (layer,) = (group for group in second if new in group)
    assert moved(first, second) == sum(each.size for each in layer)


def test_layers_learn_what_changes() -> None:
    """One of many small ones changes with each image: after a while it changes alone."""
    budget = 16
    state = [Item(f"small-{number}", "0", 1000) for number in range(40)]
    groups = pack(state, budget)
    costs = []
    for build in range(1, 8):
        state = [*state[:-1], replace(state[-1], content=str(build))]
        following = pack(state, budget, groups)
        costs.append(moved(groups, following))
        groups = following
    assert costs[0] > 5000
    assert costs[-1] == 1000


def test_what_was_seen_is_counted() -> None:
    first = pack([Item("a", "1", 1), Item("b", "1", 1)], 2)
    assert {(each.name, each.builds, each.changes) for group in first for each in group} == {
        ("a", 0, 0), ("b", 0, 0),
    }  # fmt: skip
    second = pack([Item("a", "2", 1), Item("b", "1", 1), Item("c", "1", 1)], 3, first)
    assert {(each.name, each.builds, each.changes) for group in second for each in group} == {
        ("a", 1, 1), ("b", 1, 0), ("c", 0, 0),
    }  # fmt: skip
