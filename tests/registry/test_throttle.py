"""Limits of one registry: places, requests a second, and what it says of its own."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.registry.meter import RateLimit
from bridge.registry.throttle import Throttle, first_number


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def throttle(clock: Clock, at_once: int | None = None, per_second: float | None = None) -> Throttle:
    return Throttle(at_once, per_second, clock=clock, sleep=clock.sleep)


def test_requests_begin_at_the_rate_they_may(clock: Clock) -> None:
    limited = throttle(clock, per_second=4)
    began = []
    for _ in range(9):
        limited.enter()()
        began.append(clock.now - 1000)
    assert began == [n / 4 for n in range(9)]


def test_what_was_not_used_is_not_saved_up(clock: Clock) -> None:
    limited = throttle(clock, per_second=2)
    limited.enter()()
    clock.now += 60
    for _ in range(3):
        limited.enter()()
    assert clock.now == 1061.0


def test_without_limits_nobody_waits(clock: Clock) -> None:
    limited = throttle(clock)
    leaving = [limited.enter(streams=True) for _ in range(1000)]
    for leave in leaving:
        leave()
    assert clock.now == 1000.0
    assert limited.overlaps


def entered(limited: Throttle, *, streams: bool) -> tuple[threading.Thread, threading.Event]:
    """A thread that wants a place, and whether it has had it."""
    had = threading.Event()

    def want() -> None:
        leave = limited.enter(streams=streams)
        had.set()
        leave()

    thread = threading.Thread(target=want)
    thread.start()
    return thread, had


def test_no_more_than_so_many_at_once() -> None:
    limited = Throttle(2)
    first, second = limited.enter(), limited.enter()
    thread, had = entered(limited, streams=False)
    assert not had.is_set()
    first()
    thread.join()
    assert had.is_set()
    second()


def test_bodies_leave_a_place_for_those_who_send() -> None:
    """Else all might stream in, and none could send on."""
    limited = Throttle(2)
    streaming = limited.enter(streams=True)
    thread, had = entered(limited, streams=True)
    limited.enter()()
    assert not had.is_set()
    streaming()
    thread.join()


def test_with_one_place_nothing_overlaps() -> None:
    limited = Throttle(1)
    assert not limited.overlaps
    limited.enter(streams=True)()
    limited.enter()()


@pytest.mark.parametrize(
    ("headers", "remaining"),
    [
        ({"ratelimit-remaining": "76;w=21600"}, 76),
        ({"RateLimit-Remaining": " 5 "}, 5),
        ({"RateLimit-Remaining": "0"}, 0),
        ({"RateLimit-Remaining": "-1"}, None),
        ({"RateLimit-Remaining": "many"}, None),
        ({"RateLimit-Remaining": "9" * 40}, None),
        ({"RateLimit-Limit": "100;w=21600"}, None),
        ({}, None),
    ],
)
def test_what_a_registry_says_is_left(headers: dict[str, str], remaining: int | None) -> None:
    from requests.structures import CaseInsensitiveDict

    limited = Throttle()
    limited.see(CaseInsensitiveDict(headers))
    assert limited.remaining == remaining


def test_a_reserve_is_waited_for(clock: Clock) -> None:
    limited = throttle(clock)
    assert limited.short(10, 300) == 0.0  # nothing is known
    limited.see({"RateLimit-Remaining": "10"})
    assert limited.short(10, 300) == 0.0
    limited.see({"RateLimit-Remaining": "9"})
    assert limited.short(10, 300) == 300
    assert limited.short(10, 300) == 0.0  # one may ask again
    limited.see({"RateLimit-Remaining": "9", "RateLimit-Reset": "42"})
    clock.now += 2
    assert limited.short(10, 300) == 40


def test_waiting_ends_when_the_run_does(clock: Clock) -> None:
    limited = throttle(clock)
    limited.see({"RateLimit-Remaining": "1"})
    waits: list[float] = []
    told: list[float] = []

    def stopped(seconds: float) -> bool:
        waits.append(seconds)
        clock.now += seconds
        return len(waits) == 3

    limited.keep(5, 60, stopped, told.append)
    assert told == [60]
    assert waits == [0.5] * 3
    limited.see({"RateLimit-Remaining": "1"})
    limited.keep(5, 1, lambda seconds: bool(clock.sleep(seconds)), told.append)
    assert told == [60, 1]


@given(st.text(max_size=30))
def test_any_header_is_a_number_or_none(text: str) -> None:
    found = first_number(text)
    assert found is None or 0 <= found < 10**15


@given(
    st.lists(st.integers(1, 400_000), min_size=200, max_size=400),
    st.integers(1_000_000, 50_000_000),
)
def test_bandwidth_is_held_within_five_percent(chunks: list[int], rate: int) -> None:
    """Over ten seconds and more, whatever the sizes of what comes and goes."""
    clock = Clock()
    limit = RateLimit(rate, clock, clock.sleep)
    moved = 0
    while clock.now < 1010.0:
        for chunk in chunks:
            limit.take(chunk)
            moved += chunk
    assert moved / (clock.now - 1000.0) <= rate * 1.05
    assert moved / (clock.now - 1000.0) >= rate * 0.95
