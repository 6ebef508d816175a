"""The history of a repository as one HTML page: no script, and nothing that is fetched for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bridge.cli.diff_text import STRATEGY_NAMES, cause_name, package_text
from bridge.cli.escape import html_text
from bridge.cli.units import count_text, size_text
from bridge.compare.estimate import Strategy
from bridge.compare.history import History, Release
from bridge.compare.report import CAUSES_SHOWN, ImageDiff, layer_counts

_PACKAGES_SHOWN = 200
_HEIGHT, _BAR, _GAP, _AXIS, _TOP = 240, 14, 22, 70, 10
"""Pixels of the chart, which is never scaled: its text is as large as the page's small print."""
_GRID = 4
"""Steps of the scale, or one more."""
_TURN, _LETTER = 35, 7
"""Degrees that names below the chart are turned by, and how wide a letter is at most."""
_UNKNOWN = "not known"
_STYLE = """
:root { color-scheme: light dark; --layers: #b4572a; --files: #c99a1c; --chunks: #2a7ab4;
  --line: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left;
  vertical-align: top }
th { vertical-align: bottom } td.n, th.n { text-align: right } td.n { white-space: nowrap }
code { overflow-wrap: anywhere } summary { cursor: pointer; padding: .3rem 0 }
svg { display: block; flex: none }
svg text { fill: currentColor; font-size: 12px }
svg line { stroke: var(--line) }
.layers { fill: var(--layers) } .files { fill: var(--files) } .chunks { fill: var(--chunks) }
.key { white-space: nowrap; margin-left: 1em }
.key span { display: inline-block; width: .8em; height: .8em; margin-right: .35em }
.key .layers { background: var(--layers) } .key .files { background: var(--files) }
.key .chunks { background: var(--chunks) }
.chart { display: flex }
/* Where it does not fit, the newest are to be seen first. */
.bars { overflow-x: auto; direction: rtl } .bars svg { direction: ltr }
.wide { overflow-x: auto; margin-bottom: 1.5rem }
"""


def render(history: History) -> str:
    """Return the page."""
    name = html_text(history.repository)
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Updates of {name}</title><style>{_STYLE}</style></head><body>",
        f"<h1>What updates of <code>{name}</code> move</h1>",
        f"<p>{html_text(_summary(history))}</p>",
    ]
    if history.diffs:
        lines += [*_chart(history), *_updates(history)]
    lines += _releases(history)
    lines += _footer(history)
    return "\n".join([*lines, "</body></html>", ""])


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
    known = [e.bytes for diff in history.diffs for e in diff.estimates.values() if e is not None]
    step = _step(max([*known, 1]))
    steps = max(1, -(-max([*known, 1]) // step))
    most = step * steps
    names = [_short(each.name) for each in history.releases[1:]]
    # Of the longest name, if all its letters are wide: across and down.
    length = _LETTER * max(len(each) for each in names)
    right, down = (int(length * of(math.radians(_TURN))) for of in (math.cos, math.sin))
    group = _BAR * len(Strategy) + _GAP
    width, height = group * len(history.diffs) + right, _TOP + _HEIGHT + down + 30
    keys = "".join(
        f' <span class=key><span class="{each.value}"></span>{STRATEGY_NAMES[each]}</span>'
        for each in Strategy
    )
    yield f"<h2>Bytes that an update moves</h2><p>Clients that look for{keys}</p>"
    lines = [(_TOP + _HEIGHT - _HEIGHT * each // steps, each * step) for each in range(steps + 1)]
    yield f'<div class=chart><svg width="{_AXIS}" height="{height}" aria-hidden="true">'
    for y, size in lines:
        yield f'<text x="{_AXIS - 8}" y="{y + 4}" text-anchor="end">{size_text(size)}</text>'
    yield (
        f'</svg><div class=bars><svg width="{width}" height="{height}" role="img">'
        "<title>Bytes that each update moves, by strategy; the table below has the numbers</title>"
    )
    for y, _ in lines:
        yield f'<line x1="0" x2="{width - right}" y1="{y}" y2="{y}"/>'
    for number, (name, diff) in enumerate(zip(names, history.diffs, strict=True)):
        left = _GAP // 2 + group * number
        for place, (strategy, estimate) in enumerate(diff.estimates.items()):
            if estimate is None:
                continue
            size = max(1, _HEIGHT * estimate.bytes // most)
            yield (
                f'<rect class="{strategy.value}" x="{left + _BAR * place}" '
                f'y="{_TOP + _HEIGHT - size}" width="{_BAR - 2}" height="{size}">'
                f"<title>{html_text(name)}, {STRATEGY_NAMES[strategy]}: "
                f"{size_text(estimate.bytes)}</title></rect>"
            )
        x, y = left + _BAR * len(Strategy) // 2, _TOP + _HEIGHT + 16
        yield f'<text x="{x}" y="{y}" transform="rotate({_TURN} {x} {y})">{html_text(name)}</text>'
    yield "</svg></div></div>"


def _step(most: int) -> int:
    """Return what the scale goes up by: 1, 2 or 5 and zeros, and few of them reach `most`."""
    power: int = 10 ** (len(str(most)) - 1)
    wanted = (power // 5, power // 2, power, 2 * power, 5 * power)
    return next(each for each in wanted if each and -(-most // each) <= _GRID + 1)


def _updates(history: History) -> Iterator[str]:
    yield "<h2>Updates</h2><div class=wide><table><thead><tr><th>update</th><th class=n>layers</th>"
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
    yield "</tbody></table></div><h2>What it is that moves</h2>"
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
    yield "<div class=wide><table><thead><tr><th class=n>bytes</th><th>for</th></tr></thead><tbody>"
    for cause in diff.causes[:CAUSES_SHOWN]:
        about = "about " if cause.estimated else ""
        name = html_text(cause_name(cause))
        size = size_text(cause.bytes)
        yield f"<tr><td class=n>{about}{size}</td><td><code>{name}</code></td></tr>"
    rest = diff.causes[CAUSES_SHOWN:]
    if rest:
        size = size_text(sum(each.bytes for each in rest))
        yield f"<tr><td class=n>{size}</td><td>{len(rest):,} others</td></tr>"
    yield "</tbody></table></div>"


def _packages(diff: ImageDiff) -> Iterator[str]:
    if not diff.packages:
        return
    yield "<div class=wide><table><thead><tr><th></th><th>package</th><th>version</th></tr>"
    yield "</thead><tbody>"
    for each in diff.packages[:_PACKAGES_SHOWN]:
        name, version = html_text(each.name), html_text(package_text(each))
        yield f"<tr><td>{each.direction}</td><td>{name}</td><td>{version}</td></tr>"
    yield "</tbody></table></div>"
    if len(diff.packages) > _PACKAGES_SHOWN:
        yield f"<p>… and {len(diff.packages) - _PACKAGES_SHOWN:,} more packages.</p>"


def _releases(history: History) -> Iterator[str]:
    yield "<h2>Images</h2><div class=wide><table><thead><tr><th>image</th><th>tags</th>"
    yield "<th>created</th><th class=n>size</th><th class=n>layers</th><th>digest</th></tr>"
    yield "</thead><tbody>"
    for each in reversed(history.releases):
        created = "" if each.created is None else each.created.strftime("%Y-%m-%d %H:%M")
        tags = html_text(", ".join(each.tags))
        yield (
            f"<tr><td>{html_text(each.name)}</td><td>{tags}</td><td>{created}</td>"
            f"<td class=n>{size_text(each.image_bytes)}</td><td class=n>{each.layers}</td>"
            f"<td><code>{each.digest[:19]}</code></td></tr>"
        )
    yield "</tbody></table></div>"
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


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"
