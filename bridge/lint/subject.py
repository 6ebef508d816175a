"""What is linted: an image's content, what kind of root it is, and what it is held to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from bridge.contents.contents import Contents, Node
from bridge.layer.tar import Entry, EntryType
from bridge.lint.layers import Layers, Merged

_MOUNTED_OVER = ("dev", "proc", "run", "sys", "tmp")
_LEFT_OUT = ("etc/hostname", "etc/resolv.conf")
"""Dropped by a pull where they are empty."""
_ETC = ("etc", "usr/etc")


class Kind(Enum):
    """Where the content is from."""

    RUNNING = "the running root"
    """As in a step of a Containerfile: some of it is the container's, and no layer yet."""
    DIRECTORY = "a directory"
    IMAGE = "an image"
    """Its commit: what a pull leaves out of it can be had from its layers only."""


@dataclass(frozen=True)
class Subject:
    """An image, as lints see it: everything that they may ask."""

    contents: Contents
    kind: Kind = Kind.DIRECTORY
    epoch: int | None = None
    """Seconds since 1970: SOURCE_DATE_EPOCH, else when the image says it was made."""
    layers: Layers | None = None
    """Of an image, where the store has how its layers were written."""
    made: tuple[int | None, ...] = ()
    """When each layer was made, by the image's history, if nothing else is said to be the epoch."""
    mounted: frozenset[str] = frozenset()
    """Mount points in a directory. They are in no layer, nor is what is in them."""
    packed: frozenset[str] = frozenset()
    """SHA-256 (hex) of each initramfs that whoever asks has just packed in the form that packing
    again does not change: that of the same bytes need not be tried once more."""

    @cached_property
    def left_out(self) -> dict[str, Node]:
        """What the layers have and a commit has not, by path, sorted: below `/run` and the like,
        and what builds leave behind empty in `/etc`."""
        entries = self._of_layers[0]
        return {
            path: _node(path, entries[path])
            for path in sorted(entries, key=lambda path: path.split("/"))
        }

    @cached_property
    def configuration(self) -> frozenset[str]:
        """Which of `etc` and `usr/etc` there are; a commit keeps both in one place."""
        if self.kind is not Kind.IMAGE:
            return frozenset(each for each in _ETC if self.get(each) is not None)
        entries = self._of_layers[1]
        return frozenset(top for top in _ETC for path in entries if _is_in(path, top))

    @cached_property
    def _of_layers(self) -> tuple[dict[str, Entry], dict[str, Entry]]:
        left_out = Merged(_is_left_out)
        etc = Merged(lambda path: any(_is_in(path, top) for top in _ETC))
        for each in self.layers or ():
            left_out.add(each)
            etc.add(each)
        return left_out.finish(), etc.finish()

    @cached_property
    def _left_out_in(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.left_out:
            found.setdefault(path.rpartition("/")[0], []).append(path)
        return found

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All names, parents before what is in them, but for what is mounted."""
        return tuple(
            node for path, node in self.contents.nodes.items() if not self._is_mounted(path)
        )

    def get(self, path: str) -> Node | None:
        """Return what is at `path`, no link followed."""
        return self.contents.get(path) or self.left_out.get(path)

    def below(self, path: str) -> Iterator[Node]:
        """Yield all that is below a directory, parents first, names in order."""
        for node in self.children(path):
            yield node
            if node.type is EntryType.DIRECTORY:
                yield from self.below(node.path)

    def children(self, path: str) -> list[Node]:
        """Return what is in a directory, in order."""
        known = [node for node in self.contents.children(path) if not self._is_mounted(node.path)]
        others = self._left_out_in.get(path)
        if not others:
            return known
        found = {each: self.left_out[each] for each in others} | {each.path: each for each in known}
        return [found[each] for each in sorted(found)]

    def _is_mounted(self, path: str) -> bool:
        return any(_is_in(path, each) for each in self.mounted)

    def text(self, path: str, limit: int) -> str | None:
        """Return a text file's content, links followed; None where it leads to no file.

        Bytes that are not UTF-8 come as U+FFFD. `MalformedImage` for more than `limit` bytes.
        """
        node = self.contents.resolve(path)
        if node is None or node.type is not EntryType.FILE:
            return None
        return self.contents.read(node, limit).decode(errors="replace")


def _is_left_out(path: str) -> bool:
    top, _, rest = path.partition("/")
    if top in _MOUNTED_OVER:
        return bool(rest)
    return path in _LEFT_OUT


def _is_in(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _node(path: str, entry: Entry) -> Node:
    return Node(
        path, entry.type, entry.mode, entry.uid, entry.gid,
        entry.size, entry.mtime, entry.target, entry.xattrs, "",
    )  # fmt: skip
