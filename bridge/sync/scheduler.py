"""When each job begins next: pure, with neither a clock nor chance of its own.

Times are seconds since 1970. A job is due at the time that its schedule has, and later by its
jitter; the next time follows from the schedule, not from when the job really began, so that runs
do not drift. A job that becomes due while it runs is passed over, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.sync.model import Schedule

_BACKWARDS = 60.0
"""Seconds that a clock may be set back before all times are found anew."""

NextTime = Callable[[str, float], float | None]
"""Takes a cron expression and a time; returns the first time after that; None: there is none."""


@dataclass(slots=True)
class _Entry:
    schedule: Schedule
    nominal: float | None = None
    """When the schedule says."""
    due: float | None = None
    """That and the jitter."""
    running: bool = False
    known: bool = True
    """Whether the job is still in the configuration; one that is not may be running."""
    skipped: int = 0
    begun: float | None = None


class Scheduler:
    """The jobs of a configuration, by name."""

    def __init__(self, next_time: NextTime, chance: Callable[[], float]) -> None:
        """`chance` returns a number from 0 to 1, for the jitter."""
        self._next_time = next_time
        self._chance = chance
        self._entries: dict[str, _Entry] = {}
        self._seen: float | None = None

    def update(
        self,
        schedules: Mapping[str, Schedule],
        now: float,
        begun: Mapping[str, float] | None = None,
        *,
        at_once: bool = False,
    ) -> None:
        """Take the jobs of a configuration, in place of those there were.

        One whose schedule is as before keeps its time. `begun` has when jobs began last, before
        this process was: what they have missed since is made up for once. A job that never ran
        begins at once if it has an interval, else when its time comes; with `at_once` every job
        that has a schedule begins now.
        """
        for name, entry in list(self._entries.items()):
            if name not in schedules:
                entry.known, entry.nominal, entry.due = False, None, None
                if not entry.running:
                    del self._entries[name]
        for name, schedule in schedules.items():
            known = self._entries.get(name)
            if known is not None and known.known and known.schedule == schedule:
                continue
            entry = self._entries.setdefault(name, _Entry(schedule))
            entry.schedule, entry.known = schedule, True
            last = (begun or {}).get(name) if entry.begun is None else entry.begun
            self._plan(entry, self._first(schedule, now, last, at_once))

    def _first(
        self, schedule: Schedule, now: float, last: float | None, at_once: bool
    ) -> float | None:
        if schedule.interval is None and schedule.cron is None:
            return None
        if at_once:
            return now
        if last is not None and last > now:  # by another clock
            last = None
        if schedule.interval is not None:
            return now if last is None else max(now, last + schedule.interval)
        assert schedule.cron is not None
        found = self._next_time(schedule.cron, now if last is None else last)
        return None if found is None else max(now, found)

    def due(self, now: float) -> list[str]:
        """Return the jobs that are to begin now, the longest due first."""
        if self._seen is not None and now < self._seen - _BACKWARDS:
            self._all_anew(now)
        self._seen = now
        found = []
        for name, entry in self._entries.items():
            if entry.due is None or entry.due > now:
                continue
            if entry.running:
                entry.skipped += 1
                self._plan(entry, self._following(entry, now))
            else:
                found.append((entry.due, name))
        return [name for _, name in sorted(found)]

    def _all_anew(self, now: float) -> None:
        for entry in self._entries.values():
            if entry.nominal is not None and entry.nominal > now:
                entry.nominal = now
                self._plan(entry, self._following(entry, now))

    def begin(self, name: str, now: float) -> None:
        """Take that a job begins."""
        entry = self._entries[name]
        entry.running, entry.begun = True, now
        self._plan(entry, self._following(entry, now))

    def end(self, name: str) -> None:
        """Take that a job has ended, well or not."""
        entry = self._entries[name]
        entry.running = False
        if not entry.known:
            del self._entries[name]

    def _following(self, entry: _Entry, now: float) -> float | None:
        interval, cron = entry.schedule.interval, entry.schedule.cron
        if interval is not None:
            nominal = now if entry.nominal is None else entry.nominal
            passed = max(0.0, now - nominal)
            return nominal + (passed // interval + 1) * interval
        return None if cron is None else self._next_time(cron, now)

    def _plan(self, entry: _Entry, nominal: float | None) -> None:
        entry.nominal = nominal
        late = entry.schedule.jitter * self._chance() if entry.schedule.jitter else 0.0
        entry.due = None if nominal is None else nominal + late

    def next_due(self) -> float | None:
        """Return when a job is due next; None: none ever will be."""
        times = [each.due for each in self._entries.values() if each.due is not None]
        return min(times, default=None)

    def times(self) -> dict[str, float | None]:
        """Return when each job is due."""
        return {name: entry.due for name, entry in self._entries.items()}

    def skipped(self) -> dict[str, int]:
        """Return how often each job was passed over because it was running still."""
        return {name: entry.skipped for name, entry in self._entries.items()}

    def running(self) -> set[str]:
        """Return the jobs that run."""
        return {name for name, entry in self._entries.items() if entry.running}
