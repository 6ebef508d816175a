from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.registry.retry import Backoff, parse_retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("9" * 400, 999999999999.0),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_survived(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


@given(
    st.integers(0, 30),
    st.lists(st.none() | st.floats(0, 100), max_size=40),
    st.floats(0, 1, exclude_max=True),
)
def test_waits_are_bounded(retries: int, asked: list[float | None], luck: float) -> None:
    backoff, waited, granted = Backoff(retries, lambda: luck), 0.0, 0
    for after in asked:
        wait = backoff.next(after)
        if wait is None:
            continue
        assert wait >= (after or 0) and wait > 0
        waited, granted = waited + wait, granted + 1
    assert granted <= retries and waited <= limits.RETRY_TOTAL_MAX
    assert backoff.tries == granted + 1


def test_backoff_doubles_with_jitter() -> None:
    low, high = Backoff(3, lambda: 0.0), Backoff(3, lambda: 0.999999)
    assert [low.next() for _ in range(4)] == [0.25, 0.5, 1.0, None]
    assert [round(high.next() or 0, 3) for _ in range(3)] == [0.5, 1.0, 2.0]


@given(st.integers(0, 10**6), st.booleans())
def test_seconds_and_dates_come_back(seconds: int, as_date: bool) -> None:
    value = formatdate(NOW + seconds, usegmt=True) if as_date else str(seconds)
    assert parse_retry_after(value, NOW) == seconds
