"""Which stretch of a blob is next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.limits import RANGE_LIGHT
from bridge.pull.range_jobs import Job, RangeJobs

L = RANGE_LIGHT


def jobs_of(sizes: Sequence[int]) -> RangeJobs:
    """Return jobs of these sizes, one behind the other with gaps between."""
    jobs, at = RangeJobs(), 0
    for size in sizes:
        jobs.add(at, at + size)
        at += size + 1
    return jobs


def taken(jobs: RangeJobs, *lights: bool) -> list[int | None]:
    """Return the sizes of what is taken by these ways of taking."""
    found = [jobs.take(light=light) for light in lights]
    return [job and job[1] - job[0] for job in found]


@pytest.mark.parametrize(
    ("sizes", "lights", "expected"),
    [
        ([], [True, False], [None, None]),
        ([1, 2, 3], [False] * 4, [1, 2, 3, None]),
        ([1, 2, 3], [True] * 4, [1, 2, 3, None]),
        ([L + 1, 2, L + 2, L, L + 3], [True, True, True, False], [2, L, L + 1, L + 2]),
        ([L + 1, 2, L + 2, L, L + 3], [False, True, False, False], [L + 1, 2, L + 2, L]),
        ([L + 2, L + 1], [True, True, True], [L + 2, L + 1, None]),
    ],
)
def test_light_ones_are_taken_first_by_who_wants_them(
    sizes: list[int], lights: list[bool], expected: list[int | None]
) -> None:
    assert taken(jobs_of(sizes), *lights) == expected


@pytest.mark.parametrize("light", [True, False])
def test_what_is_added_first_is_first(light: bool) -> None:
    jobs = jobs_of([L + 1, 5])
    jobs.add_first(50, 51)
    jobs.add_first(70, 70 + 2 * L)
    assert len(jobs) == 4
    assert taken(jobs, *[light] * 2) == [2 * L, 1]
    jobs.clear()
    assert (len(jobs), list(jobs), jobs.take(light=light)) == (0, [], None)


@given(st.lists(st.integers(1, 2 * L)), st.lists(st.booleans()))
def test_each_is_taken_once(sizes: list[int], lights: list[bool]) -> None:
    jobs = jobs_of(sizes)
    every: list[Job] = sorted(jobs)
    assert len(every) == len(sizes)
    found: list[Job] = []
    for light in (*lights, *[False] * len(sizes)):
        left = sorted(jobs)
        job = jobs.take(light=light)
        if job is None:
            break
        found.append(job)
        lighter = [each for each in left if each[1] - each[0] <= L]
        assert job == (lighter[0] if light and lighter else left[0])
        assert len(jobs) == len(sizes) - len(found)
    assert sorted(found) == every
