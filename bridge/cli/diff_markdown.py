"""What an update moves and changes, as a comment on a pull request: GitHub's and GitLab's Markdown.

A comment there has at most 65,536 characters, so lists end before.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge import limits
from bridge.cli.diff_text import STRATEGY_NAMES, cause_name, file_text, package_text, read_text
from bridge.cli.escape import markdown_code, markdown_text
from bridge.cli.units import count_text, size_text
from bridge.compare.report import CAUSES_SHOWN, ImageDiff, layer_counts

_UNKNOWN = "not known"


def render(diff: ImageDiff, most: int | None = None) -> str:
    """Return the report as Markdown; with `most` it says whether the update is too large."""
    shared, new = layer_counts(diff)
    lines = [_headline(diff, most), ""]
    lines += [
        f"From {markdown_code(diff.before.reference)} to {markdown_code(diff.after.reference)}: "
        f"{size_text(diff.after.manifest.image_bytes)} in {count_text(shared + new, 'layer')}, "
        f"{shared} of which clients have.",
        "",
    ]
    rows = [
        (
            f"**{STRATEGY_NAMES[each]}**" if each is diff.strategy else STRATEGY_NAMES[each],
            _UNKNOWN if estimate is None else size_text(estimate.bytes),
            "" if estimate is None else f"{estimate.requests:,}",
        )
        for each, estimate in diff.estimates.items()
    ]
    lines += _table(("clients that look for", "move", "requests"), [*rows, ("delta", "n/a", "")])
    if diff.stored is not None:
        stored = diff.stored
        lines += [
            f"They store {size_text(stored.bytes)} in {count_text(stored.files, 'new file')}.",
            "",
        ]
    if diff.causes:
        lines += ["#### What moves", ""]
        lines += _table(
            ("bytes", "for"),
            [
                (
                    f"{'about ' if each.estimated else ''}{size_text(each.bytes)}",
                    markdown_code(cause_name(each)),
                )
                for each in diff.causes[:CAUSES_SHOWN]
            ],
        )
    room = limits.MARKDOWN_MAX - sum(len(each) + 1 for each in lines) - 2000
    lines += _details("Packages", _packages(diff), room // 2)
    room = limits.MARKDOWN_MAX - sum(len(each) + 1 for each in lines) - 1000
    lines += _details("Files", _files(diff), room)
    lines += [f"*Note: {markdown_text(each[:300])}*" for each in diff.reasons[:2]]
    lines.append(f"<sub>{read_text(diff)}</sub>")
    return "\n".join(lines) + "\n"


def _headline(diff: ImageDiff, most: int | None) -> str:
    chosen = diff.chosen
    if chosen is None:
        return "### The size of this update is not known"
    text = f"### This update moves {size_text(chosen.bytes)}"
    if most is None:
        return text
    if chosen.bytes > most:
        return f"{text}: more than the {size_text(most)} that it may"
    return f"{text}, of the {size_text(most)} that it may"


Rows = list[tuple[str, ...]]


def _packages(diff: ImageDiff) -> tuple[str, tuple[str, ...], Rows] | None:
    if diff.packages is None:
        return None
    rows: Rows = [
        (each.direction, markdown_code(each.name), markdown_code(package_text(each)))
        for each in diff.packages
    ]
    return count_text(len(rows), "change"), ("", "package", "version"), rows


def _files(diff: ImageDiff) -> tuple[str, tuple[str, ...], Rows] | None:
    if diff.files is None:
        return None
    counts = ", ".join(f"{count:,} {kind.value}" for kind, count in diff.counts().items())
    rows: Rows = [
        (size_text(moved), file_text(change), markdown_code(f"/{change.path}"))
        for change, moved in diff.listed_files(limits.FILES_LISTED_MAX)
    ]
    return counts, ("moves", "", "path"), rows


def _details(title: str, found: tuple[str, tuple[str, ...], Rows] | None, room: int) -> list[str]:
    """Return a list that is folded, with as many of its rows as there is room for."""
    if found is None:
        return [f"{title}: {_UNKNOWN}.", ""]
    summary, head, rows = found
    if not rows:
        return [f"{title}: {summary}.", ""]
    shown: Rows = []
    for row in rows:
        room -= len(_row(row)) + 1
        if room < 0:
            break
        shown.append(row)
    lines = [f"<details><summary>{title}: {summary}</summary>", "", *_table(head, shown)]
    if len(shown) < len(rows):
        lines += [f"… and {len(rows) - len(shown):,} more, which --json lists.", ""]
    return [*lines, "</details>", ""]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [_row(head), _row(("---",) * len(head)), *map(_row, rows), ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
