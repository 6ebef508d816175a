"""Lines about sync jobs that run, for a log: one for what changed, and one every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bridge.cli.escape import printable
from bridge.cli.units import count_text, size_text
from bridge.pull.progress import Progress
from bridge.sync.progress import SyncProgress
from bridge.sync.report import Failure, TagOutcome, TagReport

_EVERY = 10.0
"""Seconds between lines on what does not change: a log wants to be short."""
_SILENT = {TagOutcome.UNCHANGED, TagOutcome.SKIPPED}


class SyncLines(SyncProgress):
    """Gives lines to `write`; with `detail` of each blob, too; if `quiet`, of failures only."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        detail: bool = False,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(_Detail(write) if detail else None)
        self._write = write
        self._quiet = quiet
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: dict[str, int] = {}
        self._next = clock() + _EVERY

    def message(self, text: str) -> None:
        self._write(printable(text))

    def tag(self, job: str, report: TagReport) -> None:
        if self._quiet and report.failure is None:
            return
        with self._lock:
            self._looked[job] = self._looked.get(job, 0) + 1
            now = self._clock()
            if report.outcome not in _SILENT:
                self._write(printable(f"{job}: {_line(report)}"))
            elif now >= self._next:
                self._write(printable(f"{job}: {count_text(self._looked[job], 'tag')} looked at"))
            else:
                return
            self._next = now + _EVERY

    def failed(self, job: str, failure: Failure) -> None:
        self._write(printable(f"{job}: {failure.what}: failed: {' '.join(failure.error.split())}"))


class _Detail(Progress):
    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def message(self, text: str) -> None:
        self._write(printable(text))


def _line(report: TagReport) -> str:
    text = f"{report.repository}:{report.tag}: {report.outcome.value}"
    if report.failure is not None:
        return f"{text}: {' '.join(report.failure.error.split())}"
    if report.outcome in (TagOutcome.DELETED, TagOutcome.WOULD_DELETE, TagOutcome.BACKED_UP):
        return text
    return f"{text} ({size_text(report.moved.sent)} moved, {report.seconds:.1f} s)"
