"""The server of sync jobs: begins each when its time has come, until it is told to stop.

One thread looks at the clock and at the configuration's file; each job that runs has a thread of
its own. A configuration that cannot be read leaves the one before in force, and is told in the log,
in the health and in the metrics. Two jobs run side by side, and one of them never twice.
"""

from __future__ import annotations

import calendar
import json
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from bridge.errors import BridgeError
from bridge.sync import history, notify
from bridge.sync.endpoint import Page, Reply, Request
from bridge.sync.metrics import OPEN_METRICS, TEXT, prefers_open_metrics
from bridge.sync.model import Config, Schedule
from bridge.sync.numbers import Numbers
from bridge.sync.report import JobReport, SyncReport
from bridge.sync.scheduler import NextTime, Scheduler

LOOK_EVERY = 2.0
"""Seconds between two looks at the configuration's file."""
_STUCK = 60.0
"""Seconds without a look after which the server is not well."""


class Runner(Protocol):
    """Does some of a configuration's jobs; `stop` ends it early."""

    def __call__(
        self, config: Config, jobs: Collection[str], stop: threading.Event, /
    ) -> SyncReport: ...


@dataclass(frozen=True, slots=True)
class World:
    """What the server has from outside. Tests have their own."""

    load: Callable[[], Config]
    """Reads the configuration; raises `BridgeError` for one that is wrong."""
    fingerprint: Callable[[], object]
    """Something that is another once the configuration's file is."""
    run: Runner
    next_time: NextTime
    chance: Callable[[], float]
    log: Callable[[str], None]
    clock: Callable[[], float] = time.time
    spawn: Callable[[Callable[[], None], str], threading.Thread | None] = field(
        default=lambda work, name: _thread(work, name)
    )
    """Does work in a thread with a name."""


def _thread(work: Callable[[], None], name: str) -> threading.Thread:
    found = threading.Thread(target=work, name=name)
    found.start()
    return found


class Server:
    """Made with a configuration that is good; then `serve`, until `stop`."""

    def __init__(
        self, world: World, state_directory: str, name: str, *, at_once: bool = False
    ) -> None:
        """Raises `BridgeError` where the configuration cannot be read. `name` is what reports call
        it. With `at_once` every job that has a schedule begins at the start."""
        self._world = world
        self._state = state_directory
        self._lock = threading.Lock()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._reload = False
        self._error: str | None = None
        self._threads: dict[str, threading.Thread] = {}
        now = world.clock()
        self._looked = now
        self._seen = world.fingerprint()
        self._config = world.load()
        self.numbers = Numbers(now)
        self._scheduler = Scheduler(world.next_time, world.chance)
        runs = [each for each in history.read(state_directory) if each.config == name]
        begun, good = _times(runs)
        self._scheduler.update(_schedules(self._config), now, begun, at_once=at_once)
        self._take(now)
        known = set(_schedules(self._config))
        self.numbers.remembered(runs, {name: end for name, end in good.items() if name in known})
        self.numbers.metrics.keep("job", known)

    @property
    def config(self) -> Config:
        """The configuration that is in force."""
        return self._config

    # -- what signals do ---------------------------------------------------------------------

    def stop(self) -> None:
        """End: jobs that run end the images they are at, and nothing begins."""
        self._stop.set()
        self._wake.set()

    def reload(self) -> None:
        """Read the configuration again, whether its file is another or not."""
        self._reload = True
        self._wake.set()

    # -- the loop ----------------------------------------------------------------------------

    def serve(self) -> None:
        """Run jobs until `stop`; return when the last has ended."""
        notify.notify("READY=1", self._status())
        while not self._stop.is_set():
            self._wake.wait(self.step())
            self._wake.clear()
            if notify.watchdog_seconds():
                notify.notify("WATCHDOG=1")
        notify.notify("STOPPING=1", "STATUS=Ending the images under way")
        running = self._scheduler.running()
        if running:
            self._world.log(f"stopping; these end what they are at: {', '.join(sorted(running))}")
        for thread in list(self._threads.values()):
            thread.join()

    def step(self) -> float:
        """Look once: at the file, and for what is due. Return the seconds until the next look."""
        now = self._world.clock()
        self._look(now)
        with self._lock:
            due = [] if self._stop.is_set() else self._scheduler.due(now)
            for name in due:
                self._scheduler.begin(name, now)
            self._looked = now
            next_due = self._scheduler.next_due()
            self._tell()
        for name in due:
            self._world.log(f"{name}: begins")
            self._begin(name)
        if due:
            notify.notify(self._status())
        return LOOK_EVERY if next_due is None else min(LOOK_EVERY, max(0.01, next_due - now))

    def _look(self, now: float) -> None:
        found = self._world.fingerprint()
        if not self._reload and found == self._seen:
            return
        self._reload, self._seen = False, found
        notify.reloading()
        try:
            config = self._world.load()
        except BridgeError as error:
            self._error = str(error)
            self.numbers.misconfigured()
            self._world.log(f"the configuration stays as it was: {error}")
        else:
            old, self._config, self._error = self._config, config, None
            with self._lock:
                self._scheduler.update(_schedules(config), now)
                self._take(now)
            self._world.log(f"took the new configuration: {len(config.jobs)} jobs")
            if (old.listen, old.state) != (config.listen, config.state):
                self._world.log("where it listens and keeps its state changes with a restart only")
        notify.notify("READY=1", self._status())

    def _take(self, now: float) -> None:
        self.numbers.configured(set(_schedules(self._config)), now)
        self._tell()

    def _tell(self) -> None:
        scheduler, known = self._scheduler, set(_schedules(self._config))
        times = {name: due for name, due in scheduler.times().items() if name in known}
        skipped = {name: n for name, n in scheduler.skipped().items() if name in known}
        self.numbers.planned(times, skipped, scheduler.running())

    # -- one job -----------------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        config = self._config
        thread = self._world.spawn(lambda: self._do(config, name), f"job {name}")
        if thread is not None:
            self._threads = {
                key: each for key, each in self._threads.items() if each.is_alive()
            } | {name: thread}

    def _do(self, config: Config, name: str) -> None:
        report: JobReport | None = None
        end = "failure"
        try:
            whole = self._world.run(config, (name,), self._stop)
            report = next((each for each in whole.jobs if each.name == name), None)
            end = "stopped" if whole.stopped else "failure" if whole.failures else "success"
            self._world.log(_ended(name, whole))
            history.append(self._state, whole, "schedule")
        except BridgeError as error:
            self._world.log(f"{name}: {error}")
        except Exception:  # noqa: BLE001 - a defect in one job leaves the others alone
            self._world.log(f"{name}: a defect:\n{traceback.format_exc()}")
        finally:
            with self._lock:
                self._scheduler.end(name)
                if name in _schedules(self._config):
                    self.numbers.ended(name, report, end, self._world.clock())
                self._tell()
            self._wake.set()

    # -- what is told ------------------------------------------------------------------------

    def _status(self) -> str:
        running = sorted(self._scheduler.running())
        return f"STATUS={'Running ' + ', '.join(running) if running else 'Waiting'}"

    def pages(self) -> Mapping[str, Page]:
        """Return what is answered over HTTP, by path."""
        return {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}

    def _healthz(self, request: Request) -> Reply:
        with self._lock:
            silent = self._world.clock() - self._looked
            jobs = {
                name: {
                    "running": name in self._scheduler.running(),
                    "next": None if due is None else _date(due),
                }
                for name, due in self._scheduler.times().items()
            }
        well = silent < _STUCK
        document = {
            "status": "ok" if well else f"the server has not looked for {silent:.0f} s",
            "configuration": {"inForce": self._error is None, "error": self._error},
            "jobs": jobs,
        }
        status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
        return Reply(status, json.dumps(document, indent=2) + "\n", "application/json")

    def _readyz(self, request: Request) -> Reply:
        if self._stop.is_set():
            return Reply(HTTPStatus.SERVICE_UNAVAILABLE, "stopping\n")
        return Reply(HTTPStatus.OK, "ok\n")

    def _metrics(self, request: Request) -> Reply:
        is_open = prefers_open_metrics(request.accept)
        text = self.numbers.metrics.render(open_metrics=is_open)
        return Reply(HTTPStatus.OK, text, OPEN_METRICS if is_open else TEXT)


def _schedules(config: Config) -> dict[str, Schedule]:
    return {each.name: each.schedule for each in config.jobs}


def _times(runs: list[history.Run]) -> tuple[dict[str, float], dict[str, float]]:
    """Return when each job began last, and when its last run without a failure ended. A run that
    was stopped is none: a server that comes back goes on with it."""
    begun: dict[str, float] = {}
    good: dict[str, float] = {}
    for run in runs:
        if run.stopped:
            continue
        try:
            start = float(calendar.timegm(time.strptime(run.started[:19], "%Y-%m-%dT%H:%M:%S")))
        except ValueError:
            continue
        for job in run.jobs:
            begun[job.name] = start
            if not job.failed:
                good[job.name] = start + job.seconds
    return begun, good


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _ended(name: str, report: SyncReport) -> str:
    totals = report.totals
    parts = [f"{count} {outcome}" for outcome, count in totals.tags.items() if count]
    moved = totals.moved
    return (
        f"{name}: {', '.join(parts) or 'no tags'}; {moved.sent} bytes moved, {moved.reused} "
        f"reused, {moved.mounted} mounted, {moved.requests} requests, {moved.retries} retries, "
        f"{report.seconds:.1f} s"
    )
