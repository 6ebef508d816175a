"""Reports of sync jobs, made up."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.sync.report import (
    Failure,
    JobReport,
    Moved,
    SyncReport,
    TagOutcome,
    TagReport,
    Totals,
)

DIGEST = "sha256:" + "1" * 64


def tag_report(
    repository: str,
    tag: str,
    moved: Moved | None = None,
    seconds: float = 0.5,
    outcome: TagOutcome = TagOutcome.COPIED,
) -> TagReport:
    """One tag."""
    return TagReport(repository, tag, DIGEST, outcome, moved=moved or Moved(), seconds=seconds)


def job_report(
    name: str,
    tags: Sequence[TagReport] = (),
    failures: Sequence[Failure] = (),
    moved: Moved | None = None,
    seconds: float = 1.0,
) -> JobReport:
    """One job, whose totals are those of its tags, but for what `moved` says."""
    counts = {each.value: 0 for each in TagOutcome}
    for each in tags:
        counts[each.outcome.value] += 1
    return JobReport(
        name=name,
        source="source.example/os",
        target="target.example/os",
        tags=tuple(tags),
        omitted=0,
        failures=tuple(failures),
        totals=Totals(counts, moved or sum((each.moved for each in tags), Moved())),
        seconds=seconds,
    )


def report(
    jobs: Sequence[JobReport],
    *,
    started: str = "2026-01-02T03:04:05Z",
    shard: tuple[int, int] | None = None,
    stopped: bool = False,
    dry: bool = False,
) -> SyncReport:
    """One run."""
    return SyncReport(
        config="sync.yaml",
        started=started,
        dry=dry,
        shard=shard,
        jobs=tuple(jobs),
        seconds=sum(each.seconds for each in jobs),
        stopped=stopped,
    )
