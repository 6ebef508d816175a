"""When jobs are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.sync import cron
from bridge.sync.model import Schedule

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: object = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("15 3 * * *", "2026-01-01 00:00", "2026-01-01 03:15"),
        ("15 3 * * *", "2026-01-01 03:15", "2026-01-02 03:15"),
        ("15 3 * * *", "2026-01-01 03:14:59", "2026-01-01 03:15"),
        ("* * * * *", "2026-01-01 00:00:30", "2026-01-01 00:01"),
        ("*/15 * * * ?", "2026-01-01 00:16", "2026-01-01 00:30"),
        ("5/20 * * * *", "2026-01-01 00:06", "2026-01-01 00:25"),
        ("10-20/5 4 * * *", "2026-01-01 04:16", "2026-01-01 04:20"),
        ("0 0 1,15 * *", "2026-01-02 00:00", "2026-01-15 00:00"),
        ("0 0 * feb-MAR *", "2026-01-01 00:00", "2026-02-01 00:00"),
        ("0 0 * * mon", "2026-01-01 00:00", "2026-01-05 00:00"),
        ("0 0 * * 0", "2026-01-01 00:00", "2026-01-04 00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        # Both days given: either. One of them a star: the other.
        ("0 0 10 * mon", "2026-01-06 00:00", "2026-01-10 00:00"),
        ("0 0 10 * mon", "2026-01-10 00:00", "2026-01-12 00:00"),
        # A star with a step is given: Debian's cron has it otherwise.
        ("0 0 */10 * mon", "2026-01-01 00:00", "2026-01-05 00:00"),
        ("0 0 */1 * mon", "2026-01-01 00:00", "2026-01-05 00:00"),
        ("@yearly", "2026-02-01 00:00", "2027-01-01 00:00"),
        ("@annually", "2026-02-01 00:00", "2027-01-01 00:00"),
        ("@monthly", "2026-02-02 00:00", "2026-03-01 00:00"),
        ("@weekly", "2026-01-01 00:00", "2026-01-04 00:00"),
        ("@daily", "2026-01-01 00:00", "2026-01-02 00:00"),
        ("@midnight", "2026-01-01 12:00", "2026-01-02 00:00"),
        ("@hourly", "2026-01-01 12:10", "2026-01-01 13:00"),
        ("@every 1h30m", "2026-01-01 12:10:20", "2026-01-01 13:40:20"),
        ("@every 1.5s", "2026-01-01 12:10:20", "2026-01-01 12:10:21"),
        ("@every 10ms", "2026-01-01 12:10:20", "2026-01-01 12:10:21"),
        ("TZ=UTC 0 12 * * *", "2026-01-01 00:00", "2026-01-01 12:00"),
        ("CRON_TZ=Europe/Berlin 0 12 * * *", "2026-01-01 00:00", "2026-01-01 11:00"),
        ("CRON_TZ=Asia/Tokyo @daily", "2026-01-01 00:00", "2026-01-01 15:00"),
        (" 0  12 * * * ", "2026-01-01 00:00", "2026-01-01 12:00"),
        ("0,,30 * * * *", "2026-01-01 00:10", "2026-01-01 00:30"),
    ],
)
def test_when_a_job_is_due(expression: str, after: str, expected: str) -> None:
    assert cron.parse(expression).after(at(after)) == at(expected)


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # 02:30 does not come on that day: right after what was skipped.
        ("30 2 * * *", "2026-03-29 00:00", "2026-03-29 03:00"),
        ("30 2 * * *", "2026-03-29 04:00", "2026-03-30 02:30"),
        # 02:30 comes twice: once.
        ("30 2 * * *", "2026-10-25 00:00", "2026-10-25 02:30"),
        # Each hour is each hour, whatever it is called.
        ("0 * * * *", "2026-03-29 01:30", "2026-03-29 03:00"),
    ],
)
def test_days_with_more_or_less_hours(expression: str, after: str, expected: str) -> None:
    found = cron.parse(expression).after(at(after, BERLIN))
    assert found is not None
    assert found.isoformat()[:16] == expected.replace(" ", "T")
    assert found.tzinfo is BERLIN


def test_what_comes_twice_is_done_once() -> None:
    first = cron.parse("30 2 * * *").after(at("2026-10-25 00:00", BERLIN))
    assert first is not None
    second = cron.parse("30 2 * * *").after(first)
    assert second == at("2026-10-26 02:30", BERLIN)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 7",
        "* * * * 1-7",
        "5-1 * * * *",
        "*/0 * * * *",
        "*/-1 * * * *",
        "*/x * * * *",
        "1-2-3 * * * *",
        "1/2/3 * * * *",
        "-1 * * * *",
        "a * * * *",
        "* * * foo *",
        "* * L * *",
        "* * * * 5L",
        "* * * * 1#2",
        "* * LW * *",
        ", * * * *",
        "٣ * * * *",
        "0 0 30 2 *",
        "0 0 31 2,4,6 *",
        "@fortnightly",
        "@every",
        "@every 1d",
        "@every -1h",
        "@every 99999999h",
        "TZ=UTC",
        "TZ=Nowhere/Land 0 0 * * *",
        "TZ=../../etc/passwd 0 0 * * *",
        "TZ=/etc/localtime 0 0 * * *",
        "1" * 400 + " * * * *",
    ],
)
def test_what_is_no_schedule(expression: str) -> None:
    with pytest.raises(UsageError) as caught:
        cron.parse(expression)
    assert len(str(caught.value)) < 400


def test_due_and_late() -> None:
    after = at("2026-01-01 00:00")
    assert cron.due(Schedule(), after) is None
    assert cron.due(Schedule(interval=90.5), after) == after + timedelta(seconds=90.5)
    assert cron.due(Schedule(cron="0 1 * * *"), after) == at("2026-01-01 01:00")
    assert cron.late(Schedule(jitter=60), lambda: 0.5) == 30
    assert cron.late(Schedule(), lambda: 0.5) == 0


def test_the_zone_of_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert cron.local_zone() == ZoneInfo("Asia/Tokyo")
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert cron.local_zone() == BERLIN
    monkeypatch.setenv("TZ", "../evil")
    assert at("2026-01-01 00:00", cron.local_zone()).utcoffset() is not None


minutes = st.sampled_from(["*", "0", "*/7", "5,10", "1-50/3", "59"])
hours = st.sampled_from(["*", "0", "*/5", "23", "2-4"])
days = st.sampled_from(["*", "1", "*/10", "28-31", "?"])
months = st.sampled_from(["*", "1", "jan-mar", "*/6"])
weekdays = st.sampled_from(["*", "0", "mon-fri", "sat,sun", "?"])
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(st.tuples(minutes, hours, days, months, weekdays).map(" ".join), moments)
def test_what_is_due_is_later_and_nothing_is_between(expression: str, moment: datetime) -> None:
    parsed = cron.parse(expression)
    found = parsed.after(moment)
    assert found is not None and found > moment
    assert (found.second, found.microsecond) == (0, 0)
    assert parsed.after(found - timedelta(seconds=1)) == found
    again = parsed.after(found)
    assert again is not None and again > found
