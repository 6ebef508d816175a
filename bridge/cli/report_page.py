"""The history of a repository as one HTML page: no script, and nothing that is fetched for it."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.cli import page
from bridge.cli.diff_text import STRATEGY_NAMES, cause_name, package_text
from bridge.cli.escape import html_text
from bridge.cli.units import count_text, size_text
from bridge.compare.estimate import Strategy
from bridge.compare.history import History, Release
from bridge.compare.report import CAUSES_SHOWN, ImageDiff, layer_counts

_PACKAGES_SHOWN = 200
_UNKNOWN = "not known"


def render(history: History) -> str:
    """Return the page."""
    lines = [f"<p>{html_text(_summary(history))}</p>"]
    if history.diffs:
        lines += [*_chart(history), *_updates(history)]
    lines += _releases(history)
    lines += _footer(history)
    name = history.repository
    heading = f"What updates of <code>{html_text(name)}</code> move"
    return page.page(f"Updates of {name}", heading, lines)


def _summary(history: History) -> str:
    text = f"{count_text(len(history.releases), 'image')} of {count_text(history.tags, 'tag')}"
    if history.unread:
        text += f"; {count_text(history.unread, 'tag')} that look older were not looked at"
    known = [each.chosen.bytes for each in history.diffs if each.chosen is not None]
    if known:
        middle = sorted(known)[len(known) // 2]
        text += (
            f". An update moves {size_text(middle)} in the middle, {size_text(max(known))} at "
            f"most, for clients that look for {STRATEGY_NAMES[history.strategy]}"
        )
    return text + "."


def _chart(history: History) -> Iterator[str]:
    """Yield the bars: a group for each update, a bar for each strategy."""
    keys = page.keys(STRATEGY_NAMES[each] for each in Strategy)
    yield f"<h2>Bytes that an update moves</h2><p>Clients that look for {keys}</p>"
    groups = [
        page.Group(release.name, list(_bars(release.name, diff)))
        for release, diff in zip(history.releases[1:], history.diffs, strict=False)
    ]
    title = "Bytes that each update moves, by strategy; the table below has the numbers"
    yield from page.chart(title, groups)


def _bars(name: str, diff: ImageDiff) -> Iterator[list[page.Piece]]:
    for colour, (strategy, estimate) in zip(page.COLOURS, diff.estimates.items(), strict=True):
        if estimate is None:
            yield []
            continue
        text = f"{name}, {STRATEGY_NAMES[strategy]}: {size_text(estimate.bytes)}"
        yield [page.Piece(colour, estimate.bytes, text)]


def _updates(history: History) -> Iterator[str]:
    yield "<h2>Updates</h2><table><thead><tr><th>update</th><th class=n>layers</th>"
    yield from (f"<th class=n>{STRATEGY_NAMES[each]}</th>" for each in Strategy)
    yield "<th class=n>delta</th><th class=n>packages changed</th><th class=n>files changed</th>"
    yield "</tr></thead><tbody>"
    pairs = list(zip(history.releases, history.releases[1:], strict=False))
    for (before, after), diff in reversed(list(zip(pairs, history.diffs, strict=True))):
        shared, new = layer_counts(diff)
        yield f"<tr><td>{_arrow(before, after)}</td><td class=n>{new} of {shared + new}</td>"
        for estimate in diff.estimates.values():
            size = _UNKNOWN if estimate is None else size_text(estimate.bytes)
            yield f"<td class=n>{size}</td>"
        packages = _UNKNOWN if diff.packages is None else f"{len(diff.packages):,}"
        files = _UNKNOWN if diff.files is None else f"{len(diff.files):,}"
        yield f"<td class=n>n/a</td><td class=n>{packages}</td><td class=n>{files}</td></tr>"
    yield "</tbody></table><h2>What it is that moves</h2>"
    for (before, after), diff in reversed(list(zip(pairs, history.diffs, strict=True))):
        yield f"<details><summary>{_arrow(before, after)}</summary>"
        yield from _causes(diff)
        yield from _packages(diff)
        yield "</details>"


def _arrow(before: Release, after: Release) -> str:
    return f"{html_text(before.name)} → {html_text(after.name)}"


def _causes(diff: ImageDiff) -> Iterator[str]:
    if diff.causes:
        yield from _cause_table(diff)
    yield from (f"<p>Note: {html_text(each)}</p>" for each in diff.reasons)


def _cause_table(diff: ImageDiff) -> Iterator[str]:
    yield "<table><thead><tr><th class=n>bytes</th><th>for</th></tr></thead><tbody>"
    for cause in diff.causes[:CAUSES_SHOWN]:
        about = "about " if cause.estimated else ""
        name = html_text(cause_name(cause))
        size = size_text(cause.bytes)
        yield f"<tr><td class=n>{about}{size}</td><td><code>{name}</code></td></tr>"
    rest = diff.causes[CAUSES_SHOWN:]
    if rest:
        size = size_text(sum(each.bytes for each in rest))
        yield f"<tr><td class=n>{size}</td><td>{len(rest):,} others</td></tr>"
    yield "</tbody></table>"


def _packages(diff: ImageDiff) -> Iterator[str]:
    if not diff.packages:
        return
    yield "<table><thead><tr><th></th><th>package</th><th>version</th></tr></thead><tbody>"
    for each in diff.packages[:_PACKAGES_SHOWN]:
        name, version = html_text(each.name), html_text(package_text(each))
        yield f"<tr><td>{each.direction}</td><td>{name}</td><td>{version}</td></tr>"
    yield "</tbody></table>"
    if len(diff.packages) > _PACKAGES_SHOWN:
        yield f"<p>… and {len(diff.packages) - _PACKAGES_SHOWN:,} more packages.</p>"


def _releases(history: History) -> Iterator[str]:
    yield "<h2>Images</h2><table><thead><tr><th>image</th><th>tags</th><th>created</th>"
    yield "<th class=n>size</th><th class=n>layers</th><th>digest</th></tr></thead><tbody>"
    for each in reversed(history.releases):
        created = "" if each.created is None else each.created.strftime("%Y-%m-%d %H:%M")
        tags = html_text(", ".join(each.tags))
        yield (
            f"<tr><td>{html_text(each.name)}</td><td>{tags}</td><td>{created}</td>"
            f"<td class=n>{size_text(each.image_bytes)}</td><td class=n>{each.layers}</td>"
            f"<td><code>{each.digest[:19]}</code></td></tr>"
        )
    yield "</tbody></table>"
    if history.others:
        names = ", ".join(history.others[:20])
        more = f" and {len(history.others) - 20} more" if len(history.others) > 20 else ""
        yield f"<p>No images for this platform: {html_text(names)}{more}.</p>"


def _footer(history: History) -> Iterator[str]:
    read = history.read
    whole = ""
    if read.layers:
        whole = (
            f" {count_text(read.layers, 'layer')} ({size_text(read.layer_bytes)}) had no table of "
            "contents and had to be read whole; what moves of such is shared out by the sizes of "
            "files."
        )
    yield (
        f"<p><small>Made by bootc-py: {size_text(read.received_bytes)} received in "
        f"{count_text(read.requests, 'request')}.{whole}</small></p>"
    )
