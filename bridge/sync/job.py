"""One job: its repositories and their tags, one after the other into the hands of those who work.

What is listed is the names of a repository's tags, a few repositories ahead; at most a few images
are waiting at any time, so that memory does not grow with the number of repositories.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bridge import limits
from bridge.errors import BridgeError, NotFound, UsageError
from bridge.registry.meter import Meter
from bridge.sync import hooks, select, shard
from bridge.sync.below import bring_below
from bridge.sync.collector import Collector
from bridge.sync.context import Context, Repository, flat
from bridge.sync.deletion import Deletions
from bridge.sync.image import moved_of, sync_tag
from bridge.sync.model import REGISTRIES, Kind
from bridge.sync.report import Failure, JobReport
from bridge.sync.select import Choice
from bridge.sync.source import joined

Submit = Callable[[Callable[[], None]], None]
"""Has something done by one of those who work, and waits while they all have enough to do."""
Chosen = Callable[[], tuple[Repository, list[Choice]]]
"""Waits for a repository's lists of tags, and returns it with those tags that are wanted."""


class JobRun:
    """A job that is being done."""

    def __init__(self, context: Context, part: shard.Shard | None, submit: Submit) -> None:
        self._context = context
        self._part = part
        self._submit = submit
        self._collector = Collector(context.job.name, context.progress)
        self._listings = Meter()
        self._left = threading.Condition()
        self._open = 0

    def run(self) -> JobReport:
        """Do all of it; what fails is in the report."""
        context, job = self._context, self._context.job
        started = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self._finish)
            try:
                _check(context)
                deletions = None if job.deletion is None else Deletions(context, job.deletion)
                with _Ahead(self._chosen, self._repositories()) as listed:
                    for name, chosen in listed:
                        if context.stop.is_set():
                            break
                        self._repository(name, chosen, deletions)
                self._wait()
                if deletions is not None and not context.stop.is_set():
                    for report in deletions.run():
                        self._collector.add(report)
            except Exception as error:  # noqa: BLE001 - one job must not end the others
                self._collector.fail(Failure.of(f"job {job.name}", flat(error)))
            finally:
                self._wait()
        collector = self._collector
        return JobReport(
            name=job.name,
            source=str(job.source),
            target=str(job.target),
            tags=tuple(collector.tags),
            omitted=collector.omitted,
            failures=tuple(collector.failures),
            totals=collector.totals(moved_of((), self._listings)),
            seconds=time.monotonic() - started,
        )

    def _finish(self) -> None:
        """Finish what is written at the target."""
        try:
            self._context.target.close()
        except Exception as error:  # noqa: BLE001 - as any other failure of the job
            what = f"finishing {self._context.job.target}"
            self._collector.fail(Failure.of(what, flat(error)))

    def _repositories(self) -> Iterator[str]:
        """Yield those repositories that are wanted and this shard's, by their names."""
        context, job = self._context, self._context.job
        names: Iterable[str] = ()
        if not (job.source.kind is Kind.REGISTRY and job.repositories.names):
            names = context.source.repositories(self._listings)
        if job.source.kind in (Kind.REPOSITORY, Kind.IMAGE):
            found = list(names)
        else:
            found = select.repositories(names, job.repositories)
        for name in found:
            if shard.has(self._part, context.source.full(name)):
                yield name

    def _repository(self, name: str, chosen: Chosen, deletions: Deletions | None) -> None:
        context = self._context
        try:
            repository, choices = chosen()
        except Exception as error:  # noqa: BLE001 - one repository must not end the others
            self._collector.fail(Failure.of(context.source.full(name), flat(error)))
            return
        for choice in choices:
            if context.stop.is_set():
                return
            self._begin(repository, choice)
        self._leave(repository)
        if deletions is not None:
            deletions.look(repository)

    def _chosen(self, name: str) -> tuple[Repository, list[Choice]]:
        """Return a repository, and which of its tags are wanted."""
        context, job = self._context, self._context.job
        repository = Repository(name, self._target_name(name))
        wanted = select.named(job.tags)
        if job.source.kind is Kind.IMAGE:
            wanted = (job.source.digest or job.source.tag or "latest",)
        follows = job.conversion is None and (job.digest_tags or job.referrers is not None)
        if wanted is None or job.deletion is not None or (follows and not job.fast_check):
            repository.tags = self._listed(name, needed=wanted is None)
            repository.digest_tags = select.digest_tags(repository.tags or ())
        if job.source.kind is Kind.IMAGE and wanted is not None:
            choices = [Choice(each) for each in wanted]
        else:
            choices = select.choose(sorted(repository.tags or ()), job.tags)
        if len(choices) > 1 or job.deletion is not None:
            repository.there = context.target.tags(repository.target, self._listings)
        return repository, choices

    def _listed(self, name: str, *, needed: bool) -> frozenset[str] | None:
        """Return the tags of a repository of the source; None where they cannot be listed, and
        need not be."""
        try:
            return frozenset(self._context.source.tags(name, self._listings))
        except NotFound as error:
            if not needed:
                return frozenset()
            if self._context.job.source.kind is not Kind.REGISTRY:
                raise
            # A push that never ended leaves such; to pass over it would hide one that is lost.
            raise NotFound(
                f"{error}, though its catalog names it; a deny rule for repositories passes over it"
            ) from None
        except BridgeError:
            if needed:
                raise
            return None

    def _target_name(self, name: str) -> str:
        """Return what a repository is called below the target."""
        job, source = self._context.job, self._context.source
        if job.target.kind is Kind.OSTREE:
            full = source.full(name)
            return full.partition("/")[2] if source.host is not None else name or "layout"
        if job.target.kind is Kind.REGISTRY and not joined(job.target.name.partition("/")[2], name):
            raise UsageError(f"{job.target} is a whole registry: name a repository in it")
        return name

    def _begin(self, repository: Repository, choice: Choice) -> None:
        repository.enter()
        with self._left:
            self._open += 1

        def work() -> None:
            try:
                for report in sync_tag(self._context, repository, choice.tag, choice.younger_than):
                    self._collector.add(report)
                self._leave(repository)
            finally:
                with self._left:
                    self._open -= 1
                    self._left.notify_all()

        try:
            self._submit(work)
        except BaseException:
            with self._left:
                self._open -= 1
            raise

    def _leave(self, repository: Repository) -> None:
        """Take that a tag is done; after the last one there may be something left."""
        if repository.leave():
            for report in bring_below(self._context, repository, self._listings):
                self._collector.add(report)

    def _wait(self) -> None:
        """Wait until all that was begun is done."""
        with self._left:
            self._left.wait_for(lambda: self._open == 0)


class _Ahead:
    """Has tags listed a few repositories ahead, so that nobody waits for the next list; no more
    than a few, so that memory does not grow with the number of repositories."""

    def __init__(
        self, choose: Callable[[str], tuple[Repository, list[Choice]]], names: Iterator[str]
    ) -> None:
        self._choose = choose
        self._names = names
        self._pool = ThreadPoolExecutor(limits.SYNC_LISTS_AHEAD, thread_name_prefix="list")

    def __enter__(self) -> Iterator[tuple[str, Chosen]]:
        return self._all()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _all(self) -> Iterator[tuple[str, Chosen]]:
        waiting: deque[tuple[str, Chosen]] = deque()
        for name in self._names:
            waiting.append((name, self._pool.submit(self._choose, name).result))
            if len(waiting) > limits.SYNC_LISTS_AHEAD:
                yield waiting.popleft()
        yield from waiting


def _check(context: Context) -> None:
    """Raise `UsageError` for what the job wants and there is not."""
    job = context.job
    for hook in (job.hooks.pre, job.hooks.post, job.hooks.unchanged):
        if hook is not None:
            hooks.check(hook)
    if job.target.kind is Kind.OSTREE:
        wrong = [
            name
            for name, is_set in (
                ("a conversion", job.conversion is not None),
                ("a backup", job.backup is not None),
                ("more than one platform", len(job.platforms) > 1),
            )
            if is_set
        ]
        if wrong:
            raise UsageError(f"{job.target}: an OSTree repository cannot have {wrong[0]}")
    elif job.target.kind not in REGISTRIES and job.source.kind is Kind.OSTREE:
        raise UsageError(f"{job.source}: an OSTree repository is a target only")
