"""The tree that layers make on top of one another, without a store.

It is made as pulls make it: `bridge.pull.layer_tree` has what becomes of entries,
`bridge.pull.merge` puts layers together. Here each object is a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bridge.compare.layer import Item, LayerFacts
from bridge.layer.allowance import Allowance
from bridge.layer.tar import Entry, EntryType
from bridge.ostree.objects import Xattrs
from bridge.ostree.tree import Tree as Names
from bridge.pull.layer_tree import LayerTree
from bridge.pull.merge import Merge
from bridge.pull.paths import join

_IMPLIED = Item(Entry("", EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, "", (), (0, 0)), b"", None)
"""A directory that no layer has an entry for."""
_ETC = "usr/etc"


class Spot(NamedTuple):
    """What is at a place of the tree."""

    item: Item
    layer: int
    """Number of the layer that it is from, the lowest being 0."""


class Tree:
    """Takes layers from the lowest up."""

    def __init__(self) -> None:
        self._objects = _Objects()
        self._merge = Merge(self._objects, self._objects.implied())
        self._number = 0

    def apply(self, facts: LayerFacts) -> None:
        """Put a layer on top; `MalformedImage` where it is not to be had."""
        with Allowance().layer() as allowance:
            tree = LayerTree(self._objects, allowance)
            for item in facts.items:
                self._objects.current = Spot(item, self._number)
                tree.add(item.entry)
        self._merge.apply(tree.layer)
        self._number += 1

    def walk(self) -> Iterator[tuple[str, Spot]]:
        """Yield all there is with its path, parents before what is in them, in order; once, when
        all layers are there."""
        self._merge.finish()
        found = dict(self._walk(self._merge.tree, ""))
        etc = self._merge.tree.find(_ETC)
        if isinstance(etc, Names):
            found.update(self._walk(etc, "etc"))
        for path in sorted(found, key=_by_parts):
            yield path, found[path]

    def _walk(self, tree: Names, path: str) -> Iterator[tuple[str, Spot]]:
        yield path, self._objects.known[tree.meta]
        for name, each in tree.files.items():
            yield join(path, name), self._objects.known[each]
        for name, below in tree.dirs.items():
            if join(path, name) != _ETC:
                yield from self._walk(below, join(path, name))


class _Objects:
    """Numbers for what entries become, and what they stand for."""

    def __init__(self) -> None:
        self.current = Spot(_IMPLIED, 0)
        """Of the entry that is at hand."""
        self.known: dict[str, Spot] = {}

    def _name(self, spot: Spot) -> str:
        name = str(len(self.known))
        self.known[name] = spot
        return name

    # -- as `LayerTree` asks for it ------------------------------------------------------------

    def file(self, entry: Entry, xattrs: Xattrs) -> str:
        return self._name(self.current)

    def link(self, entry: Entry, xattrs: Xattrs) -> str:
        return self._name(self.current)

    def directory(self, entry: Entry, xattrs: Xattrs) -> str:
        return self._name(self.current)

    def implied(self) -> str:
        return self._name(Spot(_IMPLIED, 0))

    def whiteout(self) -> str:
        return self._name(self.current)

    # -- as `Merge` does -----------------------------------------------------------------------

    def target(self, name: str) -> str | None:
        entry = self.known[name].item.entry
        return entry.target if entry.type is EntryType.SYMLINK else None

    def is_empty(self, name: str) -> bool:
        entry = self.known[name].item.entry
        return entry.type is EntryType.FILE and not entry.size


def _by_parts(path: str) -> list[str]:
    return path.split("/")
