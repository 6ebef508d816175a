"""What runs of sync jobs cost, kept: JSON lines in the state directory, oldest first.

`history.jsonl` has a line for each run. Once it is `limits.SYNC_HISTORY_MAX` long it becomes
`history.jsonl.1`, in the place of the one before. Lines are summaries: of tags they have those that
moved the most and took the longest, and failures.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bridge import limits
from bridge.errors import BridgeError
from bridge.oci import strict_json
from bridge.ostree import durable
from bridge.sync.report import JobReport, Moved, SyncReport, TagReport, Totals

FILE = "history.jsonl"
_OLDER = f"{FILE}.1"
_LOCK = f"{FILE}.lock"
_TEXT_LENGTH = 500
"""Characters of an error that are kept."""
_LENGTHS = (20, 5, 1, 0)
"""Items of each list that are kept: the most that make a line short enough."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that is worth telling of."""

    name: str
    """`repository:tag` at the target."""
    outcome: str
    sent: int
    """Bytes."""
    seconds: float

    @classmethod
    def of(cls, tag: TagReport) -> Tag:
        """Return what is kept of a tag's report."""
        name = f"{tag.repository}:{tag.tag}"
        return cls(name, tag.outcome.value, tag.moved.sent, round(tag.seconds, 3))

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "sentBytes": self.sent,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class JobRun:
    """One job of a run."""

    name: str
    totals: Totals
    seconds: float
    largest: tuple[Tag, ...]
    slowest: tuple[Tag, ...]
    failures: tuple[tuple[str, str], ...]
    """Each with what failed, and the error."""
    failed: int
    """How many failures there were."""

    @classmethod
    def of(cls, job: JobReport, count: int) -> JobRun:
        """Return what is kept of a job's report, with `count` items of each list at most."""
        moving = [each for each in job.tags if each.moved.sent]
        largest = sorted(moving, key=lambda each: -each.moved.sent)[:count]
        slowest = sorted(job.tags, key=lambda each: -each.seconds)[:count]
        return cls(
            name=job.name,
            totals=job.totals,
            seconds=round(job.seconds, 3),
            largest=tuple(map(Tag.of, largest)),
            slowest=tuple(map(Tag.of, slowest)),
            failures=tuple(
                (each.what[:_TEXT_LENGTH], each.error[:_TEXT_LENGTH])
                for each in job.failures[:count]
            ),
            failed=len(job.failures),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {
            "name": self.name,
            "totals": self.totals.to_json(),
            "seconds": self.seconds,
            "largest": [each.to_json() for each in self.largest],
            "slowest": [each.to_json() for each in self.slowest],
            "failures": [{"what": what, "error": error} for what, error in self.failures],
            "failed": self.failed,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """One run."""

    started: str
    config: str
    trigger: str
    shard: str | None
    seconds: float
    exit_code: int
    jobs: tuple[JobRun, ...]
    stopped: bool = False
    """It was told to end before all was done."""

    @classmethod
    def of(cls, report: SyncReport, trigger: str, count: int) -> Run:
        """Return what is kept of a run's report, with `count` items of each list at most."""
        return cls(
            started=report.started,
            config=report.config,
            trigger=trigger,
            shard=None if report.shard is None else f"{report.shard[0]}/{report.shard[1]}",
            seconds=round(report.seconds, 3),
            exit_code=report.exit_code,
            jobs=tuple(JobRun.of(each, count) for each in report.jobs),
            stopped=report.stopped,
        )

    @property
    def moved(self) -> Moved:
        """What all of its jobs moved."""
        return sum((each.totals.moved for each in self.jobs), Moved())

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {
            "started": self.started,
            "trigger": self.trigger,
            "config": self.config,
            "shard": self.shard,
            "stopped": self.stopped,
            "exitCode": self.exit_code,
            "seconds": self.seconds,
            "jobs": [each.to_json() for each in self.jobs],
        }


def append(directory: str, report: SyncReport, trigger: str) -> None:
    """Add a run to the history in `directory`, which is there. `trigger` is what began it.

    The line stands there whole or not at all, whoever else writes at the same time.
    """
    line = _line(report, trigger)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _locked(fd):
                if _size(fd) + len(line.encode()) >= limits.SYNC_HISTORY_MAX:
                    os.rename(FILE, _OLDER, src_dir_fd=fd, dst_dir_fd=fd)
                durable.append_line(FILE, line, fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise BridgeError(f"adding to {directory}/{FILE}: {error.strerror}") from error


@contextmanager
def _locked(dir_fd: int) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(_LOCK, flags, 0o644, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _size(dir_fd: int) -> int:
    try:
        return os.stat(FILE, dir_fd=dir_fd, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _line(report: SyncReport, trigger: str) -> str:
    for count in _LENGTHS:
        text = _dump(_record(report, trigger, count))
        if len(text.encode()) < limits.SYNC_RECORD_MAX:
            return text
    # More jobs than a line holds: the sums still.
    return _dump(_record(report, trigger, 0) | {"jobs": []})


def _dump(document: dict[str, Any]) -> str:
    # Bytes of a path that are no UTF-8 would not be read again.
    return json.dumps(document, ensure_ascii=False).encode(errors="replace").decode()


def _record(report: SyncReport, trigger: str, count: int) -> dict[str, Any]:
    return {
        "apiVersion": "bootc-py/v1",
        "kind": "SyncRun",
        **Run.of(report, trigger, count).to_json(),
        "totals": report.totals.to_json(),
    }


def read(directory: str, last: int = limits.SYNC_RUNS_SHOWN) -> list[Run]:
    """Return the `last` runs in the history of `directory`, oldest first.

    What is no record is passed over: a line that was cut off, say. It is only a file.
    """
    found: deque[Run] = deque(maxlen=last)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BridgeError(f"reading {directory}/{FILE}: {error.strerror}") from error
    try:
        for name in (_OLDER, FILE):
            for line in _lines(fd, name):
                run = parse(line)
                if run is not None:
                    found.append(run)
    finally:
        os.close(fd)
    return list(found)


def _lines(dir_fd: int, name: str) -> Iterator[bytes]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except OSError:
        return
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return
    with open(fd, "rb") as file:
        left = limits.SYNC_HISTORY_MAX
        while left > 0 and (line := file.readline(limits.SYNC_RECORD_MAX)):
            left -= len(line)
            yield line


def parse(line: bytes) -> Run | None:
    """Return what a line says; None: it is no record."""
    try:
        document: Any = strict_json.parse(line)
        if document["kind"] != "SyncRun":
            return None
        return Run(
            started=_text(document["started"]),
            config=_text(document["config"]),
            trigger=_text(document["trigger"]),
            shard=None if document["shard"] is None else _text(document["shard"]),
            seconds=_number(document["seconds"]),
            exit_code=_count(document["exitCode"]),
            jobs=tuple(_parsed_job(each) for each in document["jobs"]),
            stopped=document["stopped"] is True,
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _parsed_job(job: Any) -> JobRun:
    totals = job["totals"]
    return JobRun(
        name=_text(job["name"]),
        totals=Totals(
            {_text(name): _count(count) for name, count in totals["tags"].items()},
            Moved(
                sent=_count(totals["sentBytes"]),
                reused=_count(totals["reusedBytes"]),
                mounted=_count(totals["mountedBytes"]),
                received=_count(totals["receivedBytes"]),
                requests=_count(totals["requests"]),
                retries=_count(totals["retries"]),
            ),
        ),
        seconds=_number(job["seconds"]),
        largest=tuple(_parsed_tag(each) for each in job["largest"]),
        slowest=tuple(_parsed_tag(each) for each in job["slowest"]),
        failures=tuple((_text(each["what"]), _text(each["error"])) for each in job["failures"]),
        failed=_count(job["failed"]),
    )


def _parsed_tag(tag: Any) -> Tag:
    return Tag(
        _text(tag["name"]),
        _text(tag["outcome"]),
        _count(tag["sentBytes"]),
        _number(tag["seconds"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("not a count")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e12:
        raise ValueError("not a number of seconds")
    return float(value)
