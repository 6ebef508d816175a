"""What is different between two images: their files, and their packages."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.compare.layer import Item
from bridge.compare.tree import Spot
from bridge.layer.tar import Entry, EntryType
from bridge.packages.package import Package
from bridge.packages.versions import compare
from bridge.pull.xattrs import LABEL


class Kind(enum.Enum):
    """What became of a path or a package."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A path that the images do not have alike."""

    path: str
    kind: Kind
    what: tuple[str, ...]
    """Of a change: type, content, mode, owner, target, xattrs."""
    before: int
    """Bytes of the file before, 0 where it was none..."""
    after: int
    """...and now."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package of which the images do not have the same version."""

    name: str
    architecture: str
    before: str | None
    after: str | None
    direction: str
    """`added`, `removed`, `upgraded`, `downgraded`; `changed` where neither is later."""


def files(
    before: Iterable[tuple[str, Spot]], after: Iterable[tuple[str, Spot]]
) -> list[FileChange]:
    """Return the changes by path. Of directories only those count that both have, of times none:
    a store keeps no times. Labels are left out: of files in a store most come from the image's
    policy, and the layers have none."""
    old = {path: spot.item for path, spot in before}
    found: list[FileChange] = []
    for path, spot in after:
        item = spot.item
        was = old.pop(path, None)
        if was is None:
            if item.entry.type is not EntryType.DIRECTORY:
                found.append(FileChange(path, Kind.ADDED, (), 0, item.entry.size))
            continue
        if what := _differences(was, item):
            sizes = was.entry.size, item.entry.size
            found.append(FileChange(path, Kind.CHANGED, what, *sizes))
    found += [
        FileChange(path, Kind.REMOVED, (), item.entry.size, 0)
        for path, item in old.items()
        if item.entry.type is not EntryType.DIRECTORY
    ]
    return sorted(found, key=lambda each: each.path)


def _differences(before: Item, after: Item) -> tuple[str, ...]:
    if before is after:
        return ()
    one, other = before.entry, after.entry
    if one.type is not other.type:
        return ("type",)
    found = []
    if before.digest != after.digest:
        found.append("content")
    if one.mode != other.mode and one.type is not EntryType.SYMLINK:
        found.append("mode")
    if (one.uid, one.gid) != (other.uid, other.gid):
        found.append("owner")
    if one.target != other.target:
        found.append("target")
    if one.xattrs != other.xattrs and _unlabelled(one) != _unlabelled(other):
        found.append("xattrs")
    return tuple(found)


def _unlabelled(entry: Entry) -> list[tuple[bytes, bytes]]:
    return [pair for pair in entry.xattrs if pair[0] != LABEL]


def packages(before: Sequence[Package], after: Sequence[Package]) -> list[PackageChange]:
    """Return the changes by name. Where one package is there in several versions, as kernels are
    with rpm, those that came are added and those that went removed."""
    old, new = _versions(before), _versions(after)
    found: list[PackageChange] = []
    for key in sorted(old.keys() | new.keys()):
        kind, name, architecture = key
        gone = [each for each in old.get(key, ()) if each not in new.get(key, ())]
        come = [each for each in new.get(key, ()) if each not in old.get(key, ())]
        if len(gone) == len(come) == 1:
            order = compare(kind, gone[0], come[0])
            direction = ("changed", "downgraded", "upgraded")[order]
            found.append(PackageChange(name, architecture, gone[0], come[0], direction))
            continue
        found += [PackageChange(name, architecture, each, None, "removed") for each in gone]
        found += [PackageChange(name, architecture, None, each, "added") for each in come]
    return sorted(found, key=lambda each: (each.name, each.architecture))


def _versions(installed: Iterable[Package]) -> dict[tuple[str, str, str], list[str]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for each in installed:
        found.setdefault((each.kind, each.name, each.architecture), []).append(each.version)
    return found
