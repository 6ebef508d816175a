"""HTML pages of ours: one file each, no script, and nothing that is fetched for them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.cli.escape import html_text
from bridge.cli.units import size_text
from bridge.errors import BridgeError, UsageError

_HEIGHT, _BAR, _GAP, _AXIS, _TOP = 240, 14, 22, 70, 10
"""Pixels of a chart, which is never scaled: its text is as large as the page's small print."""
_GRID = 4
"""Steps of the scale, or one more."""
_TURN, _LETTER = 35, 7
"""Degrees that names below a chart are turned by, and how wide a letter is at most."""
_STYLE = """
:root { color-scheme: light dark; --one: #b4572a; --two: #c99a1c; --three: #2a7ab4; --line: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
/* Wider than the screen, a table scrolls alone. */
table { display: block; overflow-x: auto; margin-bottom: 1.5rem; border-collapse: collapse;
  font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left;
  vertical-align: top }
th { vertical-align: bottom } td.n, th.n { text-align: right } td.n { white-space: nowrap }
code { overflow-wrap: anywhere } summary { cursor: pointer; padding: .3rem 0 }
svg { display: block; flex: none }
svg text { fill: currentColor; font-size: 12px }
svg line { stroke: var(--line) }
.one { fill: var(--one) } .two { fill: var(--two) } .three { fill: var(--three) }
.key { white-space: nowrap; margin-right: 1em }
.key span { display: inline-block; width: .8em; height: .8em; margin-right: .35em }
.key .one { background: var(--one) } .key .two { background: var(--two) }
.key .three { background: var(--three) }
.chart { display: flex }
/* Where it does not fit, the newest are to be seen first. */
.bars { overflow-x: auto; direction: rtl } .bars svg { direction: ltr }
"""
COLOURS = ("one", "two", "three")


def page(title: str, heading: str, lines: Iterable[str]) -> str:
    """Return a page. `title` is text; `heading` and `lines` are HTML."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html_text(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{heading}</h1>",
            *lines,
            "</body></html>",
            "",
        ]
    )


def keys(names: Iterable[str]) -> str:
    """Return what the colours of a chart mean, in their order."""
    return " ".join(
        f'<span class="key"><span class="{colour}"></span>{html_text(name)}</span>'
        for colour, name in zip(COLOURS, names, strict=False)
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a bar."""

    colour: str
    """One of `COLOURS`."""
    size: int
    """Bytes."""
    text: str
    """What it says when it is pointed at."""


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that stand together, each of pieces, the lowest first. A bar may be empty."""

    name: str
    bars: Sequence[Sequence[Piece]]


def chart(title: str, groups: Sequence[Group]) -> Iterator[str]:
    """Yield a drawing of bytes: groups of bars, side by side, all to one scale."""
    count = max((len(each.bars) for each in groups), default=1)
    largest = max([sum(p.size for p in bar) for each in groups for bar in each.bars] + [1])
    step = _step(largest)
    steps = -(-largest // step)
    # Of the longest name, if all its letters are wide: across and down.
    length = _LETTER * max((len(_short(each.name)) for each in groups), default=0)
    right, down = (int(length * of(math.radians(_TURN))) for of in (math.cos, math.sin))
    group_width = _BAR * count + _GAP
    bars_width, height = group_width * len(groups), _TOP + _HEIGHT + down + 30
    lines = [(_TOP + _HEIGHT - _HEIGHT * each // steps, each * step) for each in range(steps + 1)]
    yield f'<div class="chart"><svg width="{_AXIS}" height="{height}" aria-hidden="true">'
    for y, size in lines:
        yield f'<text x="{_AXIS - 8}" y="{y + 4}" text-anchor="end">{size_text(size)}</text>'
    yield (
        f'</svg><div class="bars"><svg width="{bars_width + right}" height="{height}" role="img">'
        f"<title>{html_text(title)}</title>"
    )
    for y, _ in lines:
        yield f'<line x1="0" x2="{bars_width}" y1="{y}" y2="{y}"/>'
    for number, group in enumerate(groups):
        left = _GAP // 2 + group_width * number
        for place, bar in enumerate(group.bars):
            yield from _bar(bar, left + _BAR * place, step * steps)
        x, y = left + _BAR * count // 2, _TOP + _HEIGHT + 16
        name = html_text(_short(group.name))
        yield f'<text x="{x}" y="{y}" transform="rotate({_TURN} {x} {y})">{name}</text>'
    yield "</svg></div></div>"


def _step(most: int) -> int:
    """Return what a scale goes up by: 1, 2 or 5 and zeros, and few of them reach `most`."""
    power: int = 10 ** (len(str(most)) - 1)
    wanted = (power // 5, power // 2, power, 2 * power, 5 * power)
    return next(each for each in wanted if each and -(-most // each) <= _GRID + 1)


def _bar(bar: Sequence[Piece], x: int, most: int) -> Iterator[str]:
    below = 0
    for piece in bar:
        # A pixel for what is too little to be seen.
        height = max(1, _HEIGHT * piece.size // most)
        yield (
            f'<rect class="{piece.colour}" x="{x}" y="{_TOP + _HEIGHT - below - height}" '
            f'width="{_BAR - 2}" height="{height}"><title>{html_text(piece.text)}</title></rect>'
        )
        below += height


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


def write(name: str, text: str, option: str) -> None:
    """Put a page in the place of the file that is there, all of it or nothing; what is no file,
    as /dev/stdout, is written to. `option` is what the name was given with."""
    path = Path(name)
    if not path.name:
        raise UsageError(f"{option} {name!r}: name a file")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")
            return
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise BridgeError(f"writing {path}: {error.strerror}") from error
