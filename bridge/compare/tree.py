"""The tree that layers make on top of one another, without a store.

As `bridge.pull` imports and merges them (`ingest`, `merge`), with entries in the place of objects:
each layer is a tree of its own first, in which whiteouts are marks; then it goes on top of those
below it. What is in a directory that is mounted over, or is a device, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.compare.layer import Item, LayerFacts
from bridge.errors import MalformedImage
from bridge.layer.tar import EntryType
from bridge.pull.ingest import API_DIRECTORIES, MOUNT_POINTS
from bridge.pull.merge import OVERRIDDEN_BY_RUNTIMES
from bridge.pull.paths import OPAQUE, WHITEOUT, components

_KEPT = (EntryType.FILE, EntryType.DIRECTORY, EntryType.SYMLINK, EntryType.HARDLINK)
_IMPLIED = Item("", EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, "", (), b"", None)
"""A directory that no layer has an entry for."""


class Spot:
    """What is at a place of the tree, with what is below it, if it is a directory."""

    __slots__ = ("below", "hidden", "item", "layer")

    def __init__(self, item: Item, layer: int, below: dict[str, Spot] | None) -> None:
        self.item = item
        self.layer = layer
        """Number of the layer that it is from, the lowest being 0."""
        self.below = below
        self.hidden: set[str] | None = None
        """Names in lower layers that a directory hides: `.wh..wh..opq` for all."""

    @property
    def is_link(self) -> bool:
        return self.item.type is EntryType.SYMLINK


class Tree:
    """Takes layers from the lowest up."""

    def __init__(self) -> None:
        self._root = Spot(_IMPLIED, 0, {})
        self._number = -1

    def apply(self, facts: LayerFacts) -> None:
        """Put a layer on top; `MalformedImage` where it is not to be had."""
        self._number += 1
        top = _LayerTree(self._number)
        for item in facts.items:
            top.put(item)
        top.resolve(self._root)
        if top.root.item is not _IMPLIED:
            self._root.item = top.root.item
        self._merge(self._root, [], top.root)

    def walk(self) -> Iterator[tuple[str, Spot]]:
        """Yield all there is with its path, parents before what is in them, in order."""
        waiting = [("", self._root)]
        while waiting:
            path, spot = waiting.pop()
            yield path, spot
            below = [each for each in (spot.below or {}).items() if not _left_out(path, *each)]
            below.sort(reverse=True)
            waiting += [(f"{path}/{name}" if path else name, each) for name, each in below]

    def _merge(self, to: Spot, real: list[str], top: Spot) -> None:
        """Put the directory `top` on the directory `to`, which is at `real` in the image."""
        assert to.below is not None and top.below is not None
        if len(real) > 2 * limits.DEPTH_MAX:
            raise MalformedImage(f"{'/'.join(real)!r:.300} leads too deep")
        for name in top.hidden or ():
            if name == OPAQUE:
                to.below.clear()
            else:
                to.below.pop(name, None)
        # Links that this layer brings are in place before anything leads through them.
        for name, spot in top.below.items():
            if spot.below is None:
                to.below[name] = spot
        for name, spot in top.below.items():
            if spot.below is None:
                continue
            there, place = to.below.get(name), [*real, name]
            implied = spot.item is _IMPLIED
            if there is not None and there.is_link and implied:
                there, place = _find(self._root, place, self._number)
            if there is None or there.below is None:
                to.below[name] = spot  # with all that is below it: there is nothing to be hidden
                continue
            if not implied:
                there.item, there.layer = spot.item, spot.layer
            self._merge(there, place, spot)


class _LayerTree:
    """One layer's own tree."""

    def __init__(self, number: int) -> None:
        self.root = Spot(_IMPLIED, number, {})
        self._number = number
        self._parents: dict[str, Spot] = {}  # by their path in the archive
        self._waiting: list[Spot] = []  # hard links to what the layer itself does not have

    def put(self, item: Item) -> None:
        raw_parent, _, name = item.path.rstrip("/").rpartition("/")
        parent = self._parents.get(raw_parent)
        if parent is None or name in ("", ".", ".."):
            parts = components(item.path)
            if not parts:
                if item.type is not EntryType.DIRECTORY:
                    raise MalformedImage(f"the root of the image is a {item.type.value}")
                self.root.item = item
                return
            *way, name = parts
            if parts[0] in API_DIRECTORIES and (way or item.type not in MOUNT_POINTS):
                return
            if any(part.startswith(".wh..wh.") for part in way):
                return
            parent, _ = _find(self.root, way, self._number)
            assert parent is not None
            if way:
                self._parents[raw_parent] = parent
        if name.startswith(WHITEOUT):
            self._hide(parent, name)
        elif item.type in _KEPT:
            self._set(parent, name, item)

    def resolve(self, lower: Spot) -> None:
        """Have the hard links that wait be what their targets are below this layer."""
        for spot in self._waiting:
            if spot.item.type is not EntryType.HARDLINK:
                continue
            *way, name = components(spot.item.target)
            parent, _ = _find(lower, way, None)
            found = (parent.below or {}).get(name) if parent is not None else None
            if found is not None and found.below is None:
                spot.item, spot.layer = found.item, found.layer
        for spot in self._everything():
            if spot.item.type is EntryType.HARDLINK:
                raise MalformedImage(
                    f"hard link {spot.item.path!r:.300} to {spot.item.target!r:.300}, which is no "
                    "file of this or a lower layer"
                )

    def _everything(self) -> Iterator[Spot]:
        if not self._waiting:
            return
        waiting = [self.root]
        while waiting:
            spot = waiting.pop()
            yield spot
            waiting += (spot.below or {}).values()

    def _hide(self, parent: Spot, name: str) -> None:
        if name.startswith(".wh..wh.") and name != OPAQUE:
            return
        if parent.hidden is None:
            parent.hidden = set()
        parent.hidden.add(name if name == OPAQUE else name[len(WHITEOUT) :])

    def _set(self, parent: Spot, name: str, item: Item) -> None:
        assert parent.below is not None
        there = parent.below.get(name)
        if item.type is EntryType.DIRECTORY:
            if there is not None and there.below is not None:
                there.item = item
                return
            spot = Spot(item, self._number, {})
        elif item.type is EntryType.HARDLINK:
            spot = self._linked(item)
        else:
            spot = Spot(item, self._number, None)
        if there is not None:
            self._parents.clear()  # ways may have led through it
        parent.below[name] = spot

    def _linked(self, item: Item) -> Spot:
        way = components(item.target)
        if not way or way == components(item.path) or way[-1].startswith(WHITEOUT):
            raise MalformedImage(f"hard link {item.path!r:.300} to {item.target!r:.300}")
        *parents, name = way
        parent, _ = _find(self.root, parents, None)
        found = (parent.below or {}).get(name) if parent is not None else None
        if found is None:
            found = Spot(item, self._number, None)
            self._waiting.append(found)
        elif found.below is not None:
            raise MalformedImage(
                f"hard link {item.path!r:.300} to the directory {item.target!r:.300}"
            )
        return found


def _left_out(path: str, name: str, spot: Spot) -> bool:
    if path == "sysroot":
        return name == "ostree"
    item = spot.item
    return (
        path == "etc"
        and name in OVERRIDDEN_BY_RUNTIMES
        and item.type is EntryType.FILE
        and not item.size
    )


def _find(root: Spot, way: list[str], make: int | None) -> tuple[Spot | None, list[str]]:
    """Return the directory that `way` leads to, links followed within the tree, and its own path.

    With the number of a layer to `make` it for, it is made where it is not there; else it is None.
    """
    trail = [(root, "")]
    todo = way[::-1]
    hops = names = 0
    while todo:
        name = todo.pop()
        if name == "..":
            del trail[max(1, len(trail) - 1) :]
            continue
        here = trail[-1][0].below
        assert here is not None
        spot = here.get(name)
        if spot is not None and spot.is_link:
            target = spot.item.target
            parts = [part for part in target.split("/")[::-1] if part not in ("", ".")]
            hops += 1
            names += len(parts)
            if hops > limits.LINK_HOPS_MAX or names > limits.LINK_NAMES_MAX:
                raise MalformedImage(f"{'/'.join(way)!r:.300}: too many symbolic links")
            if target.startswith("/"):
                del trail[1:]
            todo += parts
            continue
        if spot is None or spot.below is None:
            if make is None:
                return None, []
            if spot is not None:
                raise MalformedImage(f"{'/'.join(way)!r:.300} leads through a file")
            if len(trail) > 2 * limits.DEPTH_MAX:
                raise MalformedImage(f"{'/'.join(way)!r:.300} leads too deep")
            spot = here[name] = Spot(_IMPLIED, make, {})
        trail.append((spot, name))
    return trail[-1][0], [name for _, name in trail[1:]]
