"""When a job is due: cron expressions, intervals and jitter. Times in, times out.

Expressions are those of github.com/robfig/cron's standard parser, which regsync uses: five fields,
`@daily` and the like, `@every 1h30m`, with `TZ=ZONE` or `CRON_TZ=ZONE` and a space before them. How
days with more or less than 24 hours are treated is Debian's cron's way: a job at a time that is
skipped runs right after, one at a time that comes twice runs once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from bridge.errors import UsageError
from bridge.sync.extra import extra
from bridge.sync.model import Schedule

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?(?:ms|h|m|s|us|µs|ns))+")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.lower() in self.words:
            return self.words.index(text.lower()) + self.least
        if not re.fullmatch(r"[0-9]{1,4}", text):
            raise UsageError(f"{self.name} {text!r:.50} is no number")
        return int(text)


_FIELDS = (
    _Field("the minute", 0, 59),
    _Field("the hour", 0, 23),
    _Field("the day of the month", 1, 31),
    _Field("the month", 1, 12, _MONTHS),
    _Field("the day of the week", 0, 6, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Expression:
    """A cron expression that was understood. One of `fields` and `every` is given."""

    fields: str = ""
    """For cronsim: numbers and `*` alone."""
    every: float | None = None
    """Seconds."""
    zone: tzinfo | None = None

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after `moment`, in its time zone; None: in 50 years there is none.

        Without a zone of its own, the expression is read in that of `moment`.
        """
        if self.every is not None:
            return moment.replace(microsecond=0) + timedelta(seconds=self.every)
        cronsim = extra("cronsim")
        here = moment.astimezone(self.zone) if self.zone is not None else moment
        found: datetime | None = next(cronsim.CronSim(self.fields, here), None)
        return None if found is None else found.astimezone(moment.tzinfo)


def parse(text: str) -> Expression:
    """Return what a cron expression says; raises `UsageError`."""
    zone: tzinfo | None = None
    rest = text
    if text.startswith(("TZ=", "CRON_TZ=")):
        matched = _ZONE.fullmatch(text)
        if matched is None:
            raise UsageError(f"{text!r:.100}: nothing after the time zone")
        zone, rest = _zone(matched[1]), matched[2].strip()
    if rest.startswith(_EVERY):
        return Expression(every=_every(rest.removeprefix(_EVERY)), zone=zone)
    if rest.startswith("@"):
        if rest not in _DESCRIPTORS:
            raise UsageError(
                f"{rest!r:.100} is none of {', '.join(_DESCRIPTORS)} and @every followed by a time"
            )
        rest = _DESCRIPTORS[rest]
    fields = rest.split()
    if len(fields) != len(_FIELDS):
        raise UsageError(
            f"{text!r:.100} has {len(fields)} fields; a cron expression has five: minute, hour, "
            "day of the month, month, day of the week"
        )
    expression = Expression(
        " ".join(_field(each, field) for each, field in zip(fields, _FIELDS, strict=True)),
        zone=zone,
    )
    try:
        never = expression.after(datetime(2024, 1, 1, tzinfo=UTC)) is None
    except extra("cronsim").CronSimError:
        never = True
    if never:
        raise UsageError(f"{text!r:.100} is a day that never comes")
    return expression


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        if not _ZONE_NAME.fullmatch(name):
            raise ValueError(name)
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise UsageError(f"{name!r:.50} is not a time zone") from None
    except KeyError:
        raise UsageError(
            f"{name!r:.50} is not a time zone that this system knows; it has them in its package "
            "tzdata"
        ) from None


def _every(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise UsageError(f"{text!r:.100} is not a time such as 1h30m")
    seconds = sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)([a-zµ]+)", text)
    )
    if seconds > timedelta(days=36500).total_seconds():
        raise UsageError(f"{text!r:.100} is longer than a century")
    return max(1.0, float(int(seconds)))  # no more often, and not between two seconds


def _field(text: str, field: _Field) -> str:
    """Return the field in cronsim's words: numbers, or a star where it is any.

    A star with a step stays one in minutes and hours, where cronsim, as Debian's cron, takes it for
    a job that does not run at a certain time of the day. In the fields for days it becomes
    numbers: there, as robfig/cron has it, a step makes a star a choice.
    """
    numbers: set[int] = set()
    star = False
    for part in text.split(","):
        if part:
            found, is_star = _part(part, field)
            numbers.update(found)
            star = star or is_star
    if not numbers:
        raise UsageError(f"{field.name} {text!r:.50} is nothing")
    if star:
        return "*"
    step = re.fullmatch(r"[*?]/([0-9]+)", text)
    if step and field in _FIELDS[:2]:
        return f"*/{int(step[1])}"
    return ",".join(str(number) for number in sorted(numbers))


def _part(text: str, field: _Field) -> tuple[range, bool]:
    """Return what `N`, `N-M`, `*`, `N/S`, `N-M/S` or `*/S` stands for, and whether it is any."""
    bounds, *steps = text.split("/")
    low, *highs = bounds.split("-")
    if len(steps) > 1 or len(highs) > 1:
        raise UsageError(f"{field.name} {text!r:.50} has too many signs")
    is_star = low in ("*", "?")
    if is_star:
        first, last = field.least, field.most
    else:
        first = field.number(low)
        last = field.number(highs[0]) if highs else (field.most if steps else first)
    step = 1
    if steps:
        if not re.fullmatch(r"[0-9]{1,4}", steps[0]) or not int(steps[0]):
            raise UsageError(f"{field.name} {text!r:.50}: a step is a number above 0")
        step = int(steps[0])
    if not field.least <= first <= last <= field.most:
        raise UsageError(
            f"{field.name} {text!r:.50} is not within {field.least} and {field.most}, upwards"
        )
    return range(first, last + 1, step), is_star and step == 1


def due(schedule: Schedule, after: datetime) -> datetime | None:
    """Return when a job is due next after a moment, before jitter; None: never.

    `after` has a time zone, and is what was due before: with the time at which a run began late,
    an interval would be longer each time by how late it was.
    """
    if schedule.cron is not None:
        return parse(schedule.cron).after(after)
    if schedule.interval is not None:
        return after + timedelta(seconds=schedule.interval)
    return None


def late(schedule: Schedule, random: Callable[[], float]) -> float:
    """Return how many seconds after it is due a run begins. `random` gives 0 up to, not with, 1."""
    return schedule.jitter * random()


def local_zone() -> tzinfo:
    """Return this system's time zone, with its changes between summer and winter."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        target = os.path.realpath("/etc/localtime")
        name = target.partition("/zoneinfo/")[2]
    try:
        if _ZONE_NAME.fullmatch(name):
            return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        pass
    here = datetime.now().astimezone().tzinfo
    return here if here is not None else UTC
