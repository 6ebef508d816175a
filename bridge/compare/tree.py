"""The tree that layers make on top of one another, without a store.

As `bridge.pull` imports and merges them: whiteouts hide what lower layers have, a directory that is
merely passed through is the one that a link leads to, and what is in a directory that is mounted
over, or is a device, is left out. A file is an entry of the layer that it is from.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.compare.layer import Item, LayerFacts
from bridge.errors import MalformedImage
from bridge.layer.tar import EntryType
from bridge.pull.paths import OPAQUE, WHITEOUT, components

_API_DIRECTORIES = frozenset({"dev", "proc", "run", "sys", "tmp"})
_KEPT = (EntryType.FILE, EntryType.DIRECTORY, EntryType.SYMLINK, EntryType.HARDLINK)
_IMPLIED = Item("", EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, "", (), b"", None)


class Spot:
    """What is at a place of the tree, with what is below it, if it is a directory."""

    __slots__ = ("below", "item", "layer")

    def __init__(self, item: Item, layer: int, below: dict[str, Spot] | None) -> None:
        self.item = item
        self.layer = layer
        """Number of the layer that it is from, the lowest being 0."""
        self.below = below


class Tree:
    """Takes layers from the lowest up."""

    def __init__(self) -> None:
        self._root = Spot(_IMPLIED, 0, {})
        self._number = -1
        self._parents: dict[str, Spot] = {}

    def apply(self, facts: LayerFacts) -> None:
        """Put a layer on top; `MalformedImage` where it is not to be had."""
        self._number += 1
        for item in facts.items:
            name = item.path.rstrip("/").rpartition("/")[2]
            if name.startswith(WHITEOUT):
                self._hide(components(item.path))
        self._parents.clear()
        for item in facts.items:
            self._put(item)

    def walk(self) -> Iterator[tuple[str, Spot]]:
        """Yield all there is with its path, parents before what is in them, in order."""
        waiting = [("", self._root)]
        while waiting:
            path, spot = waiting.pop()
            yield path, spot
            below = spot.below or {}
            waiting += [
                (f"{path}/{name}" if path else name, below[name]) for name in sorted(below)[::-1]
            ]

    def _hide(self, parts: list[str]) -> None:
        *way, name = parts
        parent = self._find(way, make=False)
        if parent is None or parent.below is None:
            return
        if name == OPAQUE:
            parent.below.clear()
        elif not name.startswith(".wh..wh."):
            parent.below.pop(name[len(WHITEOUT) :], None)

    def _put(self, item: Item) -> None:
        raw_parent, _, name = item.path.rstrip("/").rpartition("/")
        parent = self._parents.get(raw_parent)
        if parent is None or name in ("", ".", ".."):
            parts = components(item.path)
            if not parts:
                self._root.item = item
                return
            *way, name = parts
            if parts[0] in _API_DIRECTORIES and (
                way or item.type not in (EntryType.DIRECTORY, EntryType.SYMLINK)
            ):
                return
            if any(part.startswith(WHITEOUT) for part in way) or name.startswith(WHITEOUT):
                return
            parent = self._find(way, make=True)
            assert parent is not None
            if way:  # what is in the root is looked at more closely
                self._parents[raw_parent] = parent
        if name.startswith(WHITEOUT) or item.type not in _KEPT:
            return
        below = parent.below
        assert below is not None
        there = below.get(name)
        if item.type is EntryType.DIRECTORY:
            if there is not None and there.below is not None:
                there.item, there.layer = item, self._number
                return
            spot = Spot(item, self._number, {})
        elif item.type is EntryType.HARDLINK:
            spot = self._linked(item)
        else:
            spot = Spot(item, self._number, None)
        if there is not None:
            self._parents.clear()  # ways may have led through it
        below[name] = spot

    def _linked(self, item: Item) -> Spot:
        *way, name = components(item.target) or [""]
        parent = self._find(way, make=False)
        found = (parent.below or {}).get(name) if parent is not None else None
        if found is None or found.below is not None:
            raise MalformedImage(
                f"hard link {item.path!r:.300} to {item.target!r:.300}, which is no file of this "
                "or a lower layer"
            )
        return found

    def _find(self, way: list[str], *, make: bool) -> Spot | None:
        """Return the directory that `way` leads to, links followed within the tree; made where it
        is not there, or None."""
        trail = [self._root]
        todo = way[::-1]
        hops = names = 0
        while todo:
            name = todo.pop()
            if name == "..":
                del trail[max(1, len(trail) - 1) :]
                continue
            here = trail[-1].below
            assert here is not None
            spot = here.get(name)
            if spot is not None and spot.item.type is EntryType.SYMLINK:
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
            if spot is None:
                if not make:
                    return None
                if len(trail) > 2 * limits.DEPTH_MAX:
                    raise MalformedImage(f"{'/'.join(way)!r:.300} leads too deep")
                spot = here[name] = Spot(_IMPLIED, self._number, {})
            elif spot.below is None:
                if not make:
                    return None
                raise MalformedImage(f"{'/'.join(way)!r:.300} leads through a file")
            trail.append(spot)
        return trail[-1]
