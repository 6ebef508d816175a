"""The history of sync jobs as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.cli import page
from bridge.cli.escape import html_text
from bridge.cli.units import count_text, size_text
from bridge.sync.history import JobRun, Run, Tag
from bridge.sync.report import Moved, TagOutcome

_BARS = 120
"""Runs in a drawing: more do not fit on a screen."""
_ROWS = 200
_FAILURES = 100
_SLOWEST = 20
_LARGEST = 5
_WAYS = ("moved", "mounted from other repositories")


def render(runs: Sequence[Run], name: str) -> str:
    """Return the page of the runs, oldest first; `name` is where they are kept."""
    lines = [f"<p>{html_text(summary(runs))}</p>"]
    if runs:
        lines += [*_chart(runs), *_jobs(runs), *_failures(runs), *_slowest(runs), *_runs(runs)]
    heading = f"What sync jobs of <code>{html_text(name)}</code> moved"
    return page.page(f"Sync jobs of {name}", heading, lines)


def summary(runs: Sequence[Run]) -> str:
    """Return in a sentence what the runs moved."""
    if not runs:
        return "No runs are recorded."
    moved = sum((run.moved for run in runs), Moved())
    text = (
        f"{count_text(len(runs), 'run')} from {_date(runs[0])} to {_date(runs[-1])} moved "
        f"{size_text(moved.sent)} and reused {size_text(moved.reused + moved.mounted)} in "
        f"{count_text(moved.requests, 'request')}"
    )
    failed = sum(bool(run.exit_code) for run in runs)
    return f"{text}; {count_text(failed, 'run')} had failures."


def _date(run: Run) -> str:
    return run.started[:16].replace("T", " ")


def _chart(runs: Sequence[Run]) -> Iterator[str]:
    shown = runs[-_BARS:]
    yield f"<h2>Bytes by run</h2><p>To the target: {page.keys(_WAYS)}</p>"
    groups = [page.Group(_date(run), [list(_pieces(run))]) for run in shown]
    yield from page.chart("Bytes that each run moved; the table below has the numbers", groups)
    if len(runs) > len(shown):
        yield f"<p>The last {len(shown)} of {len(runs):,} runs.</p>"


def _pieces(run: Run) -> Iterator[page.Piece]:
    sizes = run.moved.sent, run.moved.mounted
    for colour, way, size in zip(page.COLOURS, _WAYS, sizes, strict=False):
        if size:
            yield page.Piece(colour, size, f"{_date(run)}, {way}: {size_text(size)}")


def _jobs(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what each job came to, and what it moved the most for."""
    by_name: dict[str, list[JobRun]] = {}
    for run in runs:
        for job in run.jobs:
            by_name.setdefault(job.name, []).append(job)
    yield "<h2>Jobs</h2><table><thead><tr><th>job</th>"
    for head in ("runs", "failed", "moved", "reused", "mounted", "requests", "retries", "seconds"):
        yield f"<th class=n>{head}</th>"
    yield "</tr></thead><tbody>"
    for name, found in sorted(by_name.items()):
        moved = sum((each.totals.moved for each in found), Moved())
        cells = [
            f"{len(found):,}",
            f"{sum(bool(each.failed) for each in found):,}",
            *map(size_text, (moved.sent, moved.reused, moved.mounted)),
            f"{moved.requests:,}",
            f"{moved.retries:,}",
            f"{sum(each.seconds for each in found):,.1f}",
        ]
        yield f"<tr><td>{html_text(name)}</td>"
        yield "".join(f"<td class=n>{cell}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table>"


def _failures(runs: Sequence[Run]) -> Iterator[str]:
    rows = [
        (run, job, what, error)
        for run in reversed(runs)
        for job in run.jobs
        for what, error in job.failures
    ]
    if not rows:
        return
    yield "<h2>Failures</h2><table><thead><tr><th>run</th><th>job</th><th>of</th><th>why</th></tr>"
    yield "</thead><tbody>"
    for run, job, what, error in rows[:_FAILURES]:
        cells = (_date(run), job.name, what, error)
        yield "<tr>" + "".join(f"<td>{html_text(each)}</td>" for each in cells) + "</tr>"
    yield "</tbody></table>"
    if len(rows) > _FAILURES:
        yield f"<p>… and {len(rows) - _FAILURES:,} older ones.</p>"


def _slowest(runs: Sequence[Run]) -> Iterator[str]:
    rows = [(tag, run) for run in runs for job in run.jobs for tag in job.slowest]
    rows.sort(key=lambda row: -row[0].seconds)
    yield "<h2>Slowest tags</h2><table><thead><tr><th>tag</th><th>run</th><th>outcome</th>"
    yield "<th class=n>moved</th><th class=n>seconds</th></tr></thead><tbody>"
    for tag, run in rows[:_SLOWEST]:
        yield (
            f"<tr><td>{html_text(tag.name)}</td><td>{html_text(_date(run))}</td>"
            f"<td>{html_text(tag.outcome)}</td><td class=n>{size_text(tag.sent)}</td>"
            f"<td class=n>{tag.seconds:,.1f}</td></tr>"
        )
    yield "</tbody></table>"


def _runs(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the runs, the newest first, each with what caused what it moved."""
    yield "<h2>Runs</h2><table><thead><tr><th>run</th><th>by</th><th>shard</th>"
    for head in ("moved", "reused", "mounted", "requests", "seconds"):
        yield f"<th class=n>{head}</th>"
    yield "<th>ended</th><th>moved for</th></tr></thead><tbody>"
    for run in list(reversed(runs))[:_ROWS]:
        yield f"<tr><td>{html_text(_date(run))}</td><td>{html_text(run.trigger)}</td>"
        yield f"<td>{html_text(run.shard or '')}</td>"
        moved = run.moved
        for size in (moved.sent, moved.reused, moved.mounted):
            yield f"<td class=n>{size_text(size) if run.jobs else ''}</td>"
        yield f"<td class=n>{moved.requests:,}</td>"
        yield f"<td class=n>{run.seconds:,.1f}</td><td>{_end(run)}</td><td>{_causes(run)}</td></tr>"
    yield "</tbody></table>"
    if len(runs) > _ROWS:
        yield f"<p>… and {len(runs) - _ROWS:,} older ones.</p>"


def _end(run: Run) -> str:
    if run.stopped:
        return "stopped"
    return f"exit code {run.exit_code}" if run.exit_code else "well"


def _causes(run: Run) -> str:
    tags: list[Tag] = sorted(
        (tag for job in run.jobs for tag in job.largest), key=lambda each: -each.sent
    )
    shown = [f"{html_text(each.name)} ({size_text(each.sent)})" for each in tags[:_LARGEST]]
    copied = sum(job.totals.tags.get(TagOutcome.COPIED.value, 0) for job in run.jobs)
    more = copied - len(shown)
    if more > 0:
        shown.append(f"{more:,} more")
    return ", ".join(shown)
