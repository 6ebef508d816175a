"""Times of files: an image that is built again has other ones, unless they are held down."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Kind, Subject

_CREATED = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_CURE = (
    "build with buildah build --source-date-epoch SECONDS --rewrite-timestamp, or end each step "
    'with: find / -xdev -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +'
)


def _timestamps(subject: Subject) -> Iterator[Finding]:
    assert subject.epoch is not None
    problem = f"has a time after {text(subject.epoch)}, which the next build changes"
    if subject.layers is None:
        for path, node in subject.contents.nodes.items():
            if node.mtime is not None and node.mtime > subject.epoch:
                yield Finding(f"/{path}", problem, _CURE, text(node.mtime))
        return
    for each in subject.layers:
        if each.entry.mtime > subject.epoch:
            yield Finding(
                f"/{each.path}", problem, _CURE, f"layer {each.layer}: {text(each.entry.mtime)}"
            )


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
    """Return the seconds since 1970 of an image's `created`, rounded up; None where it is none.

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


LINTS = (
    Lint(
        "timestamps",
        Level.WARNING,
        "Check for files with a time after SOURCE_DATE_EPOCH, or else after the image was made by "
        "its own words: the same sources give another image each time.",
        _timestamps,
        _not_for,
    ),
)
