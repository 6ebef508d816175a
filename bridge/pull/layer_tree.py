"""One layer's own tree: which of its entries are where, and which have no place in a store.

The rules of what goes where are ostree-ext's (`tar/write.rs`): `/etc` is stored as `/usr/etc`;
below `/dev`, `/proc`, `/run`, `/sys` and `/tmp` nothing is kept, as the running system mounts
over them; nor are devices, fifos, sockets and empty xattrs, which OSTree cannot store. All of it
is named. What objects entries become is somebody else's: `ingest` writes them to a store.
"""

from __future__ import annotations

from typing import Protocol

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.allowance import LayerAllowance
from bridge.layer.tar import Entry, EntryType
from bridge.ostree.objects import Xattrs
from bridge.ostree.tree import Tree
from bridge.pull import xattrs
from bridge.pull.layer import Dropped, Layer
from bridge.pull.paths import OPAQUE, WHITEOUT, components, join, mapped, store_path, walk

_PARENTS_KEPT = 10_000
"""Directories whose place is remembered; most archives go through them one after the other."""
_API_DIRECTORIES = frozenset({"dev", "proc", "run", "sys", "tmp"})
_MOUNT_POINTS = (EntryType.DIRECTORY, EntryType.SYMLINK)
"""Nothing of an image is in the former, but for themselves as one of the latter."""


class Objects(Protocol):
    """What entries become; all that a tree has of them are their names."""

    def file(self, entry: Entry, xattrs: Xattrs) -> str:
        """Return the name of a file's object; its payload is to be taken now, or never."""

    def link(self, entry: Entry, xattrs: Xattrs) -> str:
        """Return the name of a symbolic link's."""

    def directory(self, entry: Entry, xattrs: Xattrs) -> str:
        """Return the name of a directory's metadata."""

    def implied(self) -> str:
        """Return the name of that of a directory which no layer has an entry for."""

    def whiteout(self) -> str:
        """Return the name of what stands for a whiteout."""


class LayerTree:
    """Takes a layer's entries in their order; `layer` is what came of them so far."""

    def __init__(self, objects: Objects, allowance: LayerAllowance) -> None:
        """With what the layer's image may still cost: directories without an entry count."""
        self._objects = objects
        self._allowance = allowance
        self._implied_meta = objects.implied()
        self._root = Tree(self._implied_meta)
        self.layer = Layer(self._root, implied={""})
        self._parents: dict[str, tuple[Tree, str]] = {}  # by their path in the archive
        self._targets: dict[str, str] = {}  # symbolic links' objects to where they point
        self._links_in: dict[str, list[str]] = {}  # directories to hard links to lower layers

    def add(self, entry: Entry) -> None:
        """Put an entry where it belongs; `MalformedImage` where that is nowhere."""
        place = self._place(entry)
        if place is None:
            return
        parent, below, name = place
        path = join(below, name)
        kind = entry.type
        if name.startswith(WHITEOUT):
            self._whiteout(parent, path, name, entry)
        elif kind is EntryType.FILE:
            self._put(parent, path, name, self._objects.file(entry, self._xattrs(entry)))
        elif kind is EntryType.DIRECTORY:
            self._put_directory(parent, path, name, entry)
        elif kind is EntryType.SYMLINK:
            self._put(parent, path, name, self._symlink(entry))
        elif kind is EntryType.HARDLINK:
            self._hardlink(parent, path, name, entry)
        else:
            self._drop(path, kind.value)

    # -- places ----------------------------------------------------------------------------

    def _place(self, entry: Entry) -> tuple[Tree, str, str] | None:
        """Return the entry's directory, that one's path, and its name; None if it has no place."""
        raw_parent, _, name = entry.path.rstrip("/").rpartition("/")
        if raw_parent in self._parents and name not in ("", ".", ".."):
            return *self._parents[raw_parent], name
        parts = components(entry.path)
        if not parts:
            self._set_root(entry)
            return None
        *way, name = mapped(parts)
        # The directory itself, or a link in its place, is what is mounted over.
        if parts[0] in _API_DIRECTORIES and (way or entry.type not in _MOUNT_POINTS):
            self._drop(join("/".join(way), name), "in a directory that is mounted over")
            return None
        if any(part.startswith(".wh..wh.") for part in way):
            self._drop(join("/".join(way), name), "AUFS metadata")
            return None
        if any(part.startswith(WHITEOUT) for part in way):
            raise MalformedImage(f"{entry.path!r:.300}: the whiteout on its way is a directory")
        parent, below = walk(self._root, way, self._targets.get, self._imply)
        assert parent is not None
        if len(parts) > 1:  # the root's entries may be mapped, so they always take the long way
            if len(self._parents) >= _PARENTS_KEPT:
                self._parents.clear()
            self._parents[raw_parent] = parent, below
        return parent, below, name

    def _imply(self, path: str) -> Tree:
        """Return a directory for a path that so far nothing in this layer has an entry for."""
        if path in self.layer.links:
            raise MalformedImage(f"{path!r:.300} is a hard link and cannot have anything below it")
        self._allowance.name(path)
        self.layer.implied.add(path)
        return Tree(self._implied_meta)

    def _put(self, parent: Tree, path: str, name: str, checksum: str) -> None:
        self._replace(parent, path, name)
        if self.layer.links:
            self.layer.links.pop(path, None)
        parent.set_file(name, checksum)

    def _replace(self, parent: Tree, path: str, name: str) -> None:
        """Void what was known of the ways through something that is going to be replaced."""
        if name in parent.dirs:
            self.layer.replaced = True
            self._forget_below(path, parent.dirs[name])
        elif name in parent.files:
            self.layer.replaced = True
            self._parents.clear()  # it may be a link that some of them lead through

    def _put_directory(self, parent: Tree, path: str, name: str, entry: Entry) -> None:
        meta = self._objects.directory(entry, self._xattrs(entry))
        found = parent.dirs.get(name)
        if found is not None:
            found.meta = meta
            self.layer.implied.discard(path)
            return
        self._replace(parent, path, name)
        self.layer.links.pop(path, None)
        parent.set_dir(name, Tree(meta))

    def _forget_below(self, path: str, replaced: Tree) -> None:
        """A directory is replaced by something else: what was known of its inside is void."""
        self._parents.clear()
        layer = self.layer
        for at, tree in replaced.walk(path):
            layer.implied.discard(at)
            for name in tree.files:
                if name.startswith(WHITEOUT):
                    layer.whiteouts.discard(join(at, name))
            for name in self._links_in.pop(at, ()):
                layer.links.pop(join(at, name), None)

    def _set_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise MalformedImage(f"the root of the image is a {entry.type.value}")
        self._root.meta = self._objects.directory(entry, self._xattrs(entry))
        self.layer.implied.discard("")

    def _drop(self, path: str, reason: str) -> None:
        self.layer.dropped.append(Dropped(path, reason))

    # -- entries ---------------------------------------------------------------------------

    def _whiteout(self, parent: Tree, path: str, name: str, entry: Entry) -> None:
        if name.startswith(".wh..wh.") and name != OPAQUE:
            self._drop(path, "AUFS metadata")
            return
        if name[len(WHITEOUT) :] in ("", ".", ".."):
            raise MalformedImage(f"whiteout {path!r:.300} names nothing")
        if entry.type is EntryType.DIRECTORY:
            raise MalformedImage(f"whiteout {path!r:.300} is a directory")
        parent.set_file(name, self._objects.whiteout())
        self.layer.whiteouts.add(path)

    def _symlink(self, entry: Entry) -> str:
        target = entry.target.encode("utf-8", "surrogateescape")
        if not target or b"\0" in target or len(target) > limits.LINK_TARGET_MAX:
            raise MalformedImage(f"symbolic link {entry.path!r:.300} has no usable target")
        checksum = self._objects.link(entry, self._xattrs(entry))
        self._targets[checksum] = entry.target
        return checksum

    def _hardlink(self, parent: Tree, path: str, name: str, entry: Entry) -> None:
        way = mapped(components(entry.target))
        if not way or "/".join(way) == path or way[-1].startswith(WHITEOUT):
            raise MalformedImage(f"hard link {path!r:.300} to {entry.target!r:.300}")
        found, target = self._lookup(way)
        if isinstance(found, Tree):
            raise MalformedImage(f"hard link {path!r:.300} to the directory {target!r:.300}")
        if found is not None:
            self._put(parent, path, name, found)
            return
        # A lower layer's file, or none: the merge will know. Links to such links go straight.
        target = self.layer.links.get(target, target)
        self._replace(parent, path, name)
        parent.remove(name)
        self.layer.links[path] = target
        self._links_in.setdefault(path.rpartition("/")[0], []).append(name)

    def _lookup(self, way: list[str]) -> tuple[Tree | str | None, str]:
        """Return what this layer has at `way`, and the path it looked at."""
        *parents, name = way
        parent, below = walk(self._root, parents, self._targets.get, None)
        if parent is None:
            return None, join(below, name)
        return parent.dirs.get(name) or parent.files.get(name), join(below, name)

    def _xattrs(self, entry: Entry) -> Xattrs:
        kept, dropped = xattrs.own(entry)
        for name in dropped:
            self._drop(store_path(entry.path), f"xattr {name}")
        return kept
