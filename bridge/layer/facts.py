"""What a table of contents says of an entry beside its content, and holding a tar stream to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bridge.errors import MalformedImage
from bridge.layer.tar import Entry, EntryType

Facts = tuple[EntryType, int, int, int, int, int, str, tuple[int, int], Any]
"""Type, mode, owner, group, size, time, link's target, device, xattrs."""
MODES = tuple(range(0o10000))
"""The one object for each mode: a table of contents has as many as it has entries."""
_FIELDS = ("type", "mode", "owner", "group", "size", "time", "target", "device", "xattrs")


def checker(entries: Mapping[str, Facts]) -> Callable[[Entry | None], None]:
    """Return what holds the entries of a tar stream, and None at its end, to the table.

    It raises `MalformedImage` with the first thing that is not the same.
    """
    left = dict(entries)

    def check(entry: Entry | None) -> None:
        if entry is None:
            if left:
                raise MalformedImage(
                    f"its table of contents has {next(iter(left))!r:.300}, its tar stream has not"
                )
            return
        path, kind, mode, uid, gid, size, mtime, target, xattrs, device = entry
        facts = left.pop(path, None)
        found = (kind, mode, uid, gid, size, mtime, target, device, xattrs)
        if facts != found:
            if facts is None:
                raise MalformedImage(
                    f"its tar stream has {path!r:.300}, its table of contents has it less often"
                )
            field = next(name for name, a, b in zip(_FIELDS, facts, found, strict=True) if a != b)
            raise MalformedImage(
                f"table of contents and tar stream disagree on the {field} of {path!r:.300}"
            )

    return check
