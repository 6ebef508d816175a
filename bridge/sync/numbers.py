"""The numbers that a sync server tells of its jobs. docs/sync-server.md has the table."""

from __future__ import annotations

from collections.abc import Mapping

from bridge import __version__
from bridge.sync.history import Run
from bridge.sync.metrics import Metrics
from bridge.sync.report import JobReport, TagOutcome

_PREFIX = "bootc_py_sync"
_COUNTERS = {
    "moved_bytes": "Bytes of blobs that went to the target.",
    "reused_bytes": "Bytes of blobs that the target had.",
    "mounted_bytes": "Bytes of blobs that another repository of the target lent.",
    "received_bytes": "Bytes of all answers' bodies, as they came over the network.",
    "requests": "Requests to registries.",
    "retries": "Requests that were sent again.",
    "tags": "Tags that were looked at, by what became of them.",
    "runs": "Runs, by how they ended: success, failure or stopped.",
    "runs_skipped": "Runs that were not begun because the one before went on.",
}
_GAUGES = {
    "running": "Whether the job runs.",
    "last_run_timestamp_seconds": "When the last run ended.",
    "last_success_timestamp_seconds": "When the last run without a failure ended.",
    "last_duration_seconds": "How long the last run took.",
    "last_failures": "Failures of the last run.",
    "next_run_timestamp_seconds": "When the job begins next.",
    "config_last_reload_successful": "Whether the configuration could be read the last time.",
    "config_last_reload_success_timestamp_seconds": "When it was read without a mistake.",
    "start_time_seconds": "When the server began.",
    "build_info": "What version of bootc-py this is.",
}
_ENDS = ("success", "failure", "stopped")


class Numbers:
    """Puts what happens into `metrics`."""

    def __init__(self, now: float) -> None:
        self.metrics = Metrics()
        for name, text in _COUNTERS.items():
            self.metrics.counter(f"{_PREFIX}_{name}", text)
        for name, text in _GAUGES.items():
            self.metrics.gauge(f"{_PREFIX}_{name}", text)
        self._put("start_time_seconds", now)
        self._put("build_info", 1, version=__version__)
        self._skipped: dict[str, int] = {}

    def _add(self, name: str, count: float, **labels: str) -> None:
        self.metrics.add(f"{_PREFIX}_{name}", count, **labels)

    def _put(self, name: str, value: float | None, **labels: str) -> None:
        self.metrics.put(f"{_PREFIX}_{name}", value, **labels)

    def configured(self, jobs: set[str], now: float) -> None:
        """Take that a configuration with such jobs is in force."""
        self._put("config_last_reload_successful", 1)
        self._put("config_last_reload_success_timestamp_seconds", now)
        self.metrics.keep("job", jobs)
        for job in jobs:  # from 0 on, so that the first run is an increase
            for name in _COUNTERS:
                if name not in ("tags", "runs"):
                    self._add(name, 0, job=job)
            for outcome in TagOutcome:
                self._add("tags", 0, job=job, outcome=outcome.value)
            for end in _ENDS:
                self._add("runs", 0, job=job, result=end)

    def misconfigured(self) -> None:
        """Take that the configuration could not be read, and the one before stays in force."""
        self._put("config_last_reload_successful", 0)

    def remembered(self, runs: list[Run], ends: Mapping[str, float]) -> None:
        """Take what the history tells; `ends` has when the last good run of each job ended."""
        for run in runs:
            for job in run.jobs:
                self._put("last_duration_seconds", job.seconds, job=job.name)
                self._put("last_failures", job.failed, job=job.name)
        for name, end in ends.items():
            self._put("last_success_timestamp_seconds", end, job=name)

    def planned(
        self, times: Mapping[str, float | None], skipped: Mapping[str, int], running: set[str]
    ) -> None:
        """Take when jobs begin next, how often they were passed over, and which run."""
        for job, due in times.items():
            self._put("next_run_timestamp_seconds", due, job=job)
            self._put("running", int(job in running), job=job)
        for job, count in skipped.items():
            before = self._skipped.get(job, 0)
            self._add("runs_skipped", max(0, count - before), job=job)
        self._skipped = dict(skipped)

    def ended(self, job: str, report: JobReport | None, end: str, now: float) -> None:
        """Take that a job has ended, as `end` says; None: without a report."""
        self._add("runs", 1, job=job, result=end)
        self._put("last_run_timestamp_seconds", now, job=job)
        if end == "success":
            self._put("last_success_timestamp_seconds", now, job=job)
        if report is None:
            self._put("last_failures", 1, job=job)
            return
        self._put("last_duration_seconds", report.seconds, job=job)
        self._put("last_failures", len(report.failures), job=job)
        moved = report.totals.moved
        self._add("moved_bytes", moved.sent, job=job)
        self._add("reused_bytes", moved.reused, job=job)
        self._add("mounted_bytes", moved.mounted, job=job)
        self._add("received_bytes", moved.received, job=job)
        self._add("requests", moved.requests, job=job)
        self._add("retries", moved.retries, job=job)
        for outcome, count in report.totals.tags.items():
            self._add("tags", count, job=job, outcome=outcome)
