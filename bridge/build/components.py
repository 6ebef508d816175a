"""What of an image changes together: the files of one source package, and what belongs to none.

A file is told by the first that has a word: the xattr `user.component` (of the file or of a
directory above it, as rpm-ostree and chunkah read it), the package that owns it, what it is made
for or from, the one package that owns the directory it lies in. The rest is unpackaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bridge.contents.contents import Contents, Node
from bridge.errors import MalformedImage
from bridge.packages.package import Package

COMPONENT, INTERVAL = b"user.component", b"user.update-interval"
"""The xattrs with which an image's author says what belongs together, and how often it changes."""
INITRAMFS, DATABASES, UNPACKAGED = "initramfs", "databases", "unpackaged"
_DAYS = {
    "daily": 1,
    "weekly": 7,
    "biweekly": 14,
    "monthly": 30,
    "quarterly": 91,
    "yearly": 365,
}
_YEAR = 365 * 86_400
_RATES = {INITRAMFS: 26.0, DATABASES: 52.0, UNPACKAGED: 26.0}
_RATE = 1.0
"""Changes a year of what nothing is known of."""
_LARGE = 1024 * 1024
"""A file that no package owns is alone from this size on: a cache, a model, a game."""

_INITRAMFS = re.compile(r"usr/lib/modules/[^/]+/initramfs[^/]*|boot/init(rd|ramfs)[^/]*")
_KERNEL = re.compile(r"(usr/lib/modules/[^/]+)/")
_CACHED = re.compile(r"(.*?)__pycache__/([^/]+?)\.[^/.]+(?:\.opt-[12])?\.pyc")
_INFO = re.compile(r"(?:var/lib|usr/lib/sysimage)/dpkg/info/([^/:]+)(?::[^/.]+)?\.[^/.]+")
_DATABASE = re.compile(
    r"(var/lib|usr/lib/sysimage|usr/share)/(dpkg|rpm|dnf|apt)/.*|var/(cache|log)/.*|"
    r"etc/(passwd|shadow|group|gshadow|subuid|subgid)-?"
)


@dataclass(frozen=True, slots=True)
class Component:
    """What changes together."""

    name: str
    nodes: tuple[Node, ...]
    """In the view's order; of directories those with nothing in them."""
    size: int
    """Bytes of its files, each counted once."""
    rate: float
    """Changes a year that are to be expected."""


def split(contents: Contents, packages: Iterable[Package]) -> list[Component]:
    """Return an image's components by name. All of its nodes are in one of them, but for the
    directories that have something in them.

    Raises `MalformedImage` for an interval that is none, or two of one component.
    """
    packages = list(packages)
    owners = _Owners(contents, packages)
    found: dict[str, list[Node]] = {}
    inherited = {"": ""}
    for path, node in contents.nodes.items():
        parent = path.rpartition("/")[0]
        said = dict(node.xattrs).get(COMPONENT, b"").decode("utf-8", "replace").strip("\0")
        said = said or inherited[parent]
        if node.is_directory:
            inherited[path] = said
            if not path or contents.children(path):
                continue
        found.setdefault(said or owners.of(node), []).append(node)
    rates = _rates(packages) | _said(contents, found)
    return [
        Component(name, tuple(nodes), _size(nodes), rates.get(name, _RATES.get(name, _RATE)))
        for name, nodes in sorted(found.items())
    ]


class _Owners:
    def __init__(self, contents: Contents, packages: list[Package]) -> None:
        self._sources = {each.name: each.source for each in packages}
        self._files: dict[str, str] = {}
        self._directories: dict[str, set[str]] = {}
        for package in packages:
            for path in package.paths:
                node = contents.get(path)
                if node is not None and node.is_directory:
                    self._directories.setdefault(path, set()).add(package.source)
                else:
                    self._files.setdefault(path, package.source)

    def of(self, node: Node) -> str:
        path = node.path
        if _INITRAMFS.fullmatch(path):
            return INITRAMFS
        owner = self._files.get(path)
        if owner is not None:
            return owner
        if node.is_directory:
            (owner, *others) = sorted(self._directories.get(path, {UNPACKAGED}))
            return UNPACKAGED if others else owner
        for pattern, made_for in ((_CACHED, self._cached), (_INFO, self._info)):
            matched = pattern.fullmatch(path)
            owner = made_for(matched) if matched else None
            if owner is not None:
                return owner
        if _DATABASE.fullmatch(path):
            return DATABASES
        return self._above(path) or (path if node.size >= _LARGE else UNPACKAGED)

    def _cached(self, matched: re.Match[str]) -> str | None:
        return self._files.get(f"{matched[1]}{matched[2]}.py")

    def _info(self, matched: re.Match[str]) -> str | None:
        return self._sources.get(matched[1])

    def _above(self, path: str) -> str | None:
        """Return the one owner of the nearest directory above that any package owns."""
        kernel = _KERNEL.match(path)
        if kernel is not None:
            path = f"{kernel[1]}/x"
        while path:
            path = path.rpartition("/")[0]
            owners = self._directories.get(path)
            if owners:
                return next(iter(owners)) if len(owners) == 1 else None
        return None


def _rates(packages: list[Package]) -> dict[str, float]:
    """Return how often packages of each source changed in the year before the last change of any:
    what the image itself knows, whenever it is looked at."""
    latest = max((time for each in packages for time in each.changes), default=0)
    times: dict[str, set[int]] = {}
    for each in packages:
        times.setdefault(each.source, set()).update(each.changes)
    return {
        source: float(sum(latest - _YEAR < time <= latest for time in changes)) or 0.25
        for source, changes in times.items()
        if changes
    }


def _said(contents: Contents, found: Mapping[str, list[Node]]) -> dict[str, float]:
    """Return the rates that the image's author gave, with one of a component's files or with the
    directory that has its name."""
    rates: dict[str, float] = {}
    for name, node in _named(contents, found):
        interval = dict(node.xattrs).get(INTERVAL)
        if interval is not None:
            rate = 365 / _days(interval, node.path)
            if rates.setdefault(name, rate) != rate:
                raise MalformedImage(
                    f"component {name!r:.300} has two values of user.update-interval, one of them "
                    f"at {node.path!r:.300}"
                )
    return rates


def _named(contents: Contents, found: Mapping[str, list[Node]]) -> Iterator[tuple[str, Node]]:
    for name, nodes in found.items():
        for node in nodes:
            yield name, node
    for node in contents.nodes.values():
        if node.is_directory and contents.children(node.path):
            name = dict(node.xattrs).get(COMPONENT, b"").decode("utf-8", "replace").strip("\0")
            if name in found:
                yield name, node


def _days(value: bytes, path: str) -> int:
    text = value.decode("utf-8", "replace").strip("\0 ")
    days = _DAYS.get(text) or (int(text) if text.isascii() and text.isdigit() else 0)
    if not 1 <= days <= 10_000:
        raise MalformedImage(
            f"{path!r:.300}: user.update-interval {text!r:.100} is neither a number of days nor "
            f"one of {', '.join(_DAYS)}"
        )
    return days


def _size(nodes: list[Node]) -> int:
    sizes = {node.key or node.path: node.size for node in nodes}
    return sum(sizes.values())
