"""Gathers what a job did, in bounded memory whatever the number of its tags."""

from __future__ import annotations

import threading

from bridge import limits
from bridge.sync.progress import SyncProgress
from bridge.sync.report import Failure, Moved, TagOutcome, TagReport, Totals


class Collector:
    """The reports of a job's tags. Safe for several threads."""

    def __init__(self, job: str, progress: SyncProgress) -> None:
        self._job = job
        self._progress = progress
        self.tags: list[TagReport] = []
        self.omitted = 0
        self.failures: list[Failure] = []
        self._lock = threading.Lock()
        self._counts = {each.value: 0 for each in TagOutcome}
        self._moved = Moved()

    def add(self, report: TagReport) -> None:
        """Take a tag's report."""
        self._progress.tag(self._job, report)
        with self._lock:
            self._counts[report.outcome.value] += 1
            self._moved += report.moved
            failure = report.failure
            if failure is None:
                listed = len(self.tags) < limits.SYNC_TAGS_REPORTED
            else:
                listed = self._fails(failure)
            if listed:
                self.tags.append(report)
            else:
                self.omitted += 1

    def fail(self, failure: Failure) -> None:
        """Take a failure of what is no tag."""
        self._progress.failed(self._job, failure)
        with self._lock:
            self._fails(failure)

    def totals(self, listings: Moved) -> Totals:
        """Return the sums; `listings` is what was asked for beside the tags."""
        with self._lock:
            return Totals(dict(self._counts), self._moved + listings)

    @property
    def requested(self) -> Moved:
        """What the tags moved so far."""
        with self._lock:
            return self._moved

    def _fails(self, failure: Failure) -> bool:
        if len(self.failures) >= limits.SYNC_FAILURES_REPORTED:
            return False
        self.failures.append(failure)
        return True
