"""What a run of sync jobs did, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.cli.escape import printable
from bridge.cli.units import count_text, size_text
from bridge.sync.report import SyncReport, TagOutcome, Totals

_SHOWN = (
    TagOutcome.COPIED,
    TagOutcome.WOULD_COPY,
    TagOutcome.UNCHANGED,
    TagOutcome.DELETED,
    TagOutcome.WOULD_DELETE,
    TagOutcome.SKIPPED,
    TagOutcome.FAILED,
)
_ALWAYS = {TagOutcome.UNCHANGED, TagOutcome.FAILED}
_NO_CHANGE = {TagOutcome.UNCHANGED, TagOutcome.SKIPPED, TagOutcome.FAILED}


def table(report: SyncReport) -> str:
    """Return a table with a row for each job, and the sums in bytes below."""
    totals = report.totals
    always = _ALWAYS | {TagOutcome.WOULD_COPY if report.dry else TagOutcome.COPIED}
    shown = [each for each in _SHOWN if each in always or totals.tags.get(each.value)]
    names = [each.value.upper() for each in shown]
    rows = [
        ["JOB", *names, "MOVED", "REUSED", "MOUNTED", "REQUESTS", "RETRIES", "SECONDS"],
        *(_row(job.name, job.totals, job.seconds, shown) for job in report.jobs),
    ]
    return "\n".join([*_aligned(rows), _sums(report)])


def _row(name: str, totals: Totals, seconds: float, shown: Sequence[TagOutcome]) -> list[str]:
    moved = totals.moved
    return [
        printable(name),
        *(f"{totals.tags.get(each.value, 0):,}" for each in shown),
        size_text(moved.sent),
        size_text(moved.reused),
        size_text(moved.mounted),
        f"{moved.requests:,}",
        f"{moved.retries:,}",
        f"{seconds:.1f}",
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells)


def _sums(report: SyncReport) -> str:
    moved = report.totals.moved
    verb = "would be moved" if report.dry else "moved"
    return (
        f"total: {moved.sent:,} bytes {verb}, {moved.reused:,} reused, {moved.mounted:,} mounted, "
        f"{moved.received:,} received; {count_text(moved.requests, 'request')}, "
        f"{count_text(moved.retries, 'retry')}; {report.seconds:.1f} s"
    )


def changes(report: SyncReport) -> Iterator[str]:
    """Yield a line for each tag that was or would be changed, with its bytes."""
    for job in report.jobs:
        for tag in job.tags:
            if tag.outcome in _NO_CHANGE:
                continue
            name = printable(f"{tag.repository}:{tag.tag}")
            reused = tag.moved.reused + tag.moved.mounted
            yield (
                f"{tag.outcome.value:<12} {tag.moved.sent:>15,} bytes, {reused:>15,} there  "
                f"{printable(job.name)}: {name}"
            )


def failures(report: SyncReport) -> Iterator[str]:
    """Yield a line for each failure."""
    for job in report.jobs:
        for each in job.failures:
            yield printable(f"failed: {job.name}: {each.what}: {' '.join(each.error.split())}")


def end(report: SyncReport) -> str | None:
    """Return why the command fails; None: it does not."""
    count = len(report.failures)
    if count:
        return f"{count_text(count, 'failure')} in {report.config}, listed above; all else is done"
    return f"{report.config}: stopped before all was done" if report.stopped else None
