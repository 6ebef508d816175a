"""Times of files: an image that is built again has other ones, unless they are held down."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Kind, Subject

_CREATED = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_BUILD = 3600
"""Seconds: what was written this long before its layer was made, was written by the build. Not
longer, for packages come with times of their own, and some are a day old."""
_CURE = (
    "build with bootc-py build, which writes no times, or with buildah build --source-date-epoch "
    "SECONDS --rewrite-timestamp, or end each step "
    'with: find / -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +'
)


def _timestamps(subject: Subject) -> Iterator[Finding]:
    assert subject.epoch is not None
    problem = f"has a time after {text(subject.epoch)}, which the next build changes"
    if subject.layers is None:
        for node in subject.nodes:
            if node.mtime is not None and node.mtime > subject.epoch:
                yield Finding(f"/{node.path}", problem, _CURE, text(node.mtime))
        return
    for each in subject.layers:
        mtime = each.entry.mtime
        detail = f"layer {each.layer}: {text(mtime)}"
        made = subject.made[each.layer] if each.layer < len(subject.made) else None
        if mtime > subject.epoch:
            yield Finding(f"/{each.path}", problem, _CURE, detail)
        elif made is not None and made - _BUILD <= mtime < made:
            # Where times are held down, they are that of the layer itself, or long before.
            yield Finding(f"/{each.path}", "has the time of the build", _CURE, detail)


def _not_for(subject: Subject) -> str:
    if subject.kind is Kind.RUNNING:
        return "times are held down, or not, when the step's layer is written"
    if subject.epoch is None:
        return "no time to hold it to: set SOURCE_DATE_EPOCH"
    if subject.kind is Kind.IMAGE and subject.layers is None:
        return "the store does not have how the image's layers were written"
    return ""


def text(seconds: int) -> str:
    """Return a time as people read it, in UTC."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} seconds after 1970"


def parse_created(created: str | None) -> int | None:
    """Return the seconds since 1970 of an image's `created`, rounded down; None where it is none.

    Format: RFC 3339, section 5.6, as the image-spec has it.
    """
    match = _CREATED.fullmatch(created or "")
    if match is None:
        return None
    zone = match[2].upper().replace("Z", "+00:00")
    try:
        found = datetime.fromisoformat(match[1].upper() + zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return int(found.timestamp())


def layers_made(history: Sequence[Mapping[str, Any]]) -> tuple[int | None, ...]:
    """Return when each layer was made, by an image's history: its steps that made one, in order."""
    return tuple(
        parse_created(step["created"]) if isinstance(step.get("created"), str) else None
        for step in history
        if step.get("empty_layer") is not True
    )


LINTS = (
    Lint(
        "timestamps",
        Level.WARNING,
        "Check for files with a time after SOURCE_DATE_EPOCH; or else, by the image's own words, "
        "after it was made or shortly before: the same sources give another image each time.",
        _timestamps,
        _not_for,
    ),
)
