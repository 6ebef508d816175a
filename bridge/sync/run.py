"""Doing what a configuration says: all of its jobs, or some, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from queue import SimpleQueue

from bridge.errors import UsageError
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions
from bridge.sync.context import Context, flat
from bridge.sync.hosts import HostLimits, Hosts
from bridge.sync.job import JobRun
from bridge.sync.model import Config, Job
from bridge.sync.progress import SyncProgress
from bridge.sync.report import Failure, JobReport, SyncReport, Totals
from bridge.sync.state import State, locked


def run(
    config: Config,
    *,
    name: str = "",
    network: NetworkOptions | None = None,
    state_directory: str,
    shard: tuple[int, int] | None = None,
    missing_only: bool = False,
    dry: bool = False,
    jobs: Collection[str] | None = None,
    progress: SyncProgress | None = None,
    stop: threading.Event | None = None,
    together: Together | None = None,
) -> SyncReport:
    """Do the jobs of a configuration, and report what that did.

    `name` is what the report calls the configuration. `state_directory` has what is kept between
    runs. Of a shard (number from 0, count) only its repositories are looked at. `missing_only`
    copies what the target has not, and looks at nothing else. `dry` writes nothing, and reports
    what would be moved. `jobs` are the names of those to do; all, if it is None. Once `stop` is
    set, what is under way ends, and nothing new begins. Runs with the same `together`, which has to
    be of that configuration and network, keep within its limits as one. What fails is in the
    report, and the rest goes on; raises `UsageError` for names of jobs that there are not.
    """
    started, moment = time.monotonic(), datetime.now(UTC)
    stop = stop or threading.Event()
    chosen = _chosen(config, jobs)
    with ExitStack() as stack:
        network = network or NetworkOptions()
        together = together or Together(config, network)
        kept = None if dry else state_directory
        hosts = Hosts(config, network, stop, together.limits, kept)
        stack.callback(hosts.close)
        workers = stack.enter_context(_Workers(config.parallel, together.images))
        one = _Run(
            hosts,
            workers,
            state_directory,
            shard,
            missing_only,
            dry,
            progress or SyncProgress(),
            stop,
        )
        done = one.all(chosen, config.parallel)
    return SyncReport(
        config=name,
        started=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        dry=dry,
        shard=shard,
        jobs=tuple(done),
        seconds=time.monotonic() - started,
        stopped=stop.is_set(),
    )


class Together:
    """What runs of a configuration share that are under way at once: its limits."""

    def __init__(self, config: Config, network: NetworkOptions) -> None:
        self.limits = HostLimits(config, network)
        self.images = threading.BoundedSemaphore(config.parallel)
        """Held while an image is worked on."""


def _chosen(config: Config, jobs: Collection[str] | None) -> list[Job]:
    if jobs is None:
        return list(config.jobs)
    unknown = set(jobs) - {each.name for each in config.jobs}
    if unknown:
        known = ", ".join(each.name for each in config.jobs)
        raise UsageError(f"there is no job {', '.join(sorted(unknown))}; there are: {known}")
    return [each for each in config.jobs if each.name in jobs]


class _Workers:
    """Threads that work on images; whoever brings work waits while they have enough.

    A `ThreadPoolExecutor` takes as long for the results that nobody asks for here as a tag that
    has not changed takes otherwise.
    """

    def __init__(self, count: int, images: threading.BoundedSemaphore) -> None:
        self._count = count
        self._images = images
        self._room = threading.BoundedSemaphore(2 * count)
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def submit(self, work: Callable[[], None]) -> None:
        """Have it done. It is to raise nothing: that would end the run, at its end."""
        self._room.acquire()
        self._work.put(work)
        with self._lock:
            if len(self._threads) < self._count:
                name = f"image-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
                self._threads[-1].start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                with self._images:
                    work()
            except BaseException as error:  # noqa: BLE001 - raised at the end
                self._error = error
            finally:
                self._room.release()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error


class _Run:
    def __init__(
        self,
        hosts: Hosts,
        workers: _Workers,
        state_directory: str,
        shard: tuple[int, int] | None,
        missing_only: bool,
        dry: bool,
        progress: SyncProgress,
        stop: threading.Event,
    ) -> None:
        self._hosts = hosts
        self._workers = workers
        self._directory = state_directory
        self._shard = shard
        self._missing_only = missing_only
        self._dry = dry
        self._progress = progress
        self._stop = stop

    def all(self, jobs: Sequence[Job], parallel: int) -> list[JobReport]:
        """Do the jobs, several at once; return their reports in their order."""
        if len(jobs) == 1:
            return [self._job(jobs[0])]
        with ThreadPoolExecutor(min(len(jobs), parallel) or 1, thread_name_prefix="job") as pool:
            try:
                return [each.result() for each in [pool.submit(self._job, job) for job in jobs]]
            except BaseException:
                self._stop.set()
                raise

    def _job(self, job: Job) -> JobReport:
        try:
            return self._done(job)
        except Exception as error:  # noqa: BLE001 - one job must not end the others
            failure = Failure.of(f"job {job.name}", flat(error))
            return JobReport(
                job.name, str(job.source), str(job.target), (), 0, (failure,), Totals.sum(()), 0.0
            )

    def _done(self, job: Job) -> JobReport:
        with ExitStack() as stack:
            guard = nullcontext() if self._dry else locked(self._directory, job, self._shard)
            stack.enter_context(guard)
            state = State.open(self._directory, job, self._progress.message, dry=self._dry)
            stack.callback(state.close)
            context = Context(
                job=job,
                source=self._hosts.source(job.source),
                target=self._hosts.target(job.target),
                state=state,
                hosts=self._hosts,
                meter=Meter(),
                progress=self._progress,
                stop=self._stop,
                dry=self._dry,
                missing_only=self._missing_only,
            )
            submit = self._workers.submit
            if job.parallel is not None:
                submit = _Fewer(submit, job.parallel).submit
            return JobRun(context, self._shard, submit).run()


class _Fewer:
    """Brings less work at once than there are hands for."""

    def __init__(self, submit: Callable[[Callable[[], None]], None], count: int) -> None:
        self._submit = submit
        self._room = threading.BoundedSemaphore(count)

    def submit(self, work: Callable[[], None]) -> None:
        """Have it done, once less than so many are under way."""
        self._room.acquire()

        def done() -> None:
            try:
                work()
            finally:
                self._room.release()

        try:
            self._submit(done)
        except BaseException:
            self._room.release()
            raise
