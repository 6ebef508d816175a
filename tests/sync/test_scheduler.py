"""When jobs begin, against a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.model import Schedule
from bridge.sync.scheduler import Scheduler

DAY = 86_400.0
NOW = 1_000 * DAY + 3_600  # 01:00
DAILY = Schedule(cron="daily at three")
HOURLY = Schedule(interval=3_600.0)


def at_three(expression: str, after: float) -> float | None:
    """A stand-in for cron expressions: one that is at 3:00 each day, and one that never is."""
    if expression == "never":
        return None
    assert expression == "daily at three"
    found = after // DAY * DAY + 3 * 3_600
    return found if found > after else found + DAY


def scheduler(
    schedules: Mapping[str, Schedule],
    begun: Mapping[str, float] | None = None,
    *,
    at_once: bool = False,
    chance: float = 0.0,
) -> Scheduler:
    made = Scheduler(at_three, lambda: chance)
    made.update(schedules, NOW, begun, at_once=at_once)
    return made


FIRST = {
    "an interval: at once": (HOURLY, None, False, NOW),
    "an interval that has not passed": (HOURLY, NOW - 600, False, NOW + 3_000),
    "an interval that has passed": (HOURLY, NOW - 4_000, False, NOW),
    "an interval, by a clock that was ahead": (HOURLY, NOW + 9 * DAY, False, NOW),
    "an interval that has not passed, at once": (HOURLY, NOW - 600, True, NOW),
    "cron: its time": (DAILY, None, False, NOW + 7_200),
    "cron, ran in time": (DAILY, NOW - 22 * 3_600, False, NOW + 7_200),
    "cron, missed": (DAILY, NOW - 23 * 3_600, False, NOW),
    "cron, missed for weeks": (DAILY, NOW - 30 * DAY, False, NOW),
    "cron, at once": (DAILY, None, True, NOW),
    "cron, never": (Schedule(cron="never"), None, False, None),
    "no schedule": (Schedule(), None, False, None),
    "no schedule, at once": (Schedule(), None, True, None),
    "jitter": (Schedule(cron="daily at three", jitter=600), None, False, NOW + 7_200 + 300),
    "jitter at once": (Schedule(interval=3_600, jitter=600), None, False, NOW + 300),
}


@pytest.mark.parametrize("case", FIRST)
def test_when_a_job_is_first_due(case: str) -> None:
    schedule, last, at_once, due = FIRST[case]
    begun = {} if last is None else {"a": last}
    made = scheduler({"a": schedule}, begun, at_once=at_once, chance=0.5)
    assert made.times() == {"a": due} and made.next_due() == due


def test_what_is_due_first_comes_first() -> None:
    made = scheduler({"b": HOURLY, "a": HOURLY, "c": DAILY}, {"a": NOW - 60, "b": NOW - 120})
    assert made.due(NOW) == []
    assert made.due(NOW + 3_600) == ["b", "a"]
    assert made.due(NOW + 7_200) == ["b", "a", "c"]


def test_runs_do_not_drift() -> None:
    made = scheduler({"a": HOURLY})
    for number in range(50):
        late = NOW + number * 3_600 + 7
        assert made.due(late - 8) == []
        assert made.due(late) == ["a"]
        made.begin("a", late)
        made.end("a")
    assert made.times() == {"a": NOW + 50 * 3_600}


def test_a_job_is_not_begun_while_it_runs() -> None:
    made = scheduler({"a": HOURLY, "b": HOURLY})
    made.begin("a", NOW)
    assert made.due(NOW + 1) == ["b"]
    made.begin("b", NOW + 1)
    made.end("b")
    assert made.due(NOW + 3_600) == ["b"]
    assert made.due(NOW + 3 * 3_600 + 1) == ["b"]
    assert made.skipped() == {"a": 2, "b": 0} and made.running() == {"a"}
    made.end("a")
    # What was passed over is not made up for.
    assert made.due(NOW + 3 * 3_600 + 2) == ["b"]
    assert made.due(NOW + 4 * 3_600) == ["b", "a"]


def test_many_times_that_passed_are_one_run() -> None:
    made = scheduler({"a": HOURLY, "b": DAILY})
    later = NOW + 10 * DAY + 5
    assert made.due(later) == ["a", "b"]
    for name in ("a", "b"):
        made.begin(name, later)
        made.end(name)
    assert made.due(later) == []
    assert made.times() == {"a": NOW + 10 * DAY + 3_600, "b": NOW + 10 * DAY + 7_200}


def test_a_new_configuration() -> None:
    made = scheduler({"same": HOURLY, "other": HOURLY, "gone": HOURLY}, {"same": NOW - 60})
    later = NOW + 60
    made.update({"same": HOURLY, "other": DAILY, "new": HOURLY}, later)
    assert made.times() == {"same": NOW + 3_540, "other": NOW + 7_200, "new": later}
    made.update({"same": Schedule(), "other": DAILY}, later)
    assert made.times() == {"same": None, "other": NOW + 7_200}


def test_a_schedule_that_is_changed_counts_from_the_last_run() -> None:
    made = scheduler({"a": HOURLY})
    made.begin("a", NOW)
    made.end("a")
    made.update({"a": Schedule(interval=7_200.0)}, NOW + 60)
    assert made.times() == {"a": NOW + 7_200}
    made.update({"a": Schedule(interval=30.0)}, NOW + 60)
    assert made.times() == {"a": NOW + 60}


def test_a_job_that_is_no_longer_there_ends() -> None:
    made = scheduler({"a": HOURLY})
    made.begin("a", NOW)
    made.update({"b": DAILY}, NOW)
    assert made.running() == {"a"} and made.due(NOW + 2 * 3_600) == ["b"]
    made.end("a")
    assert made.running() == set() and set(made.times()) == {"b"}


def test_a_job_that_comes_back_while_it_runs_is_not_run_twice() -> None:
    made = scheduler({"a": HOURLY})
    made.begin("a", NOW)
    made.update({}, NOW + 1)
    made.update({"a": HOURLY}, NOW + 2)
    assert made.due(NOW + 3) == [] and made.running() == {"a"}
    made.end("a")
    assert made.due(NOW + 3 + 3_600) == ["a"]


def test_a_clock_that_is_set_back() -> None:
    made = scheduler({"a": HOURLY, "b": DAILY, "c": Schedule()})
    made.begin("a", NOW)
    made.end("a")
    made.due(NOW)
    back = NOW - 100 * DAY
    assert made.due(back) == []
    assert made.times() == {"a": back + 3_600, "b": back + 7_200, "c": None}
    # Clocks are set by seconds all the time.
    made.due(back - 5)
    assert made.times()["a"] == back + 3_600


@given(
    st.floats(1, 1e6),
    st.floats(0, 1e5),
    st.floats(0, 1),
    st.lists(st.floats(0, 1e6), max_size=20),
)
def test_after_a_run_there_is_another_in_the_future(
    interval: float, jitter: float, chance: float, waits: list[float]
) -> None:
    made = Scheduler(at_three, lambda: chance)
    made.update({"a": Schedule(interval=interval, jitter=jitter)}, NOW)
    now = NOW
    for wait in waits:
        now += wait
        for name in made.due(now):
            made.begin(name, now)
            made.end(name)
            due = made.times()[name]
            assert due is not None and now - 1e-3 <= due <= now + interval + jitter + 1e-3
