"""Ingest: one layer's tar stream becomes objects and a tree. There is no other way in.

The rules of what goes where are ostree-ext's (`tar/write.rs`): `/etc` is stored as `/usr/etc`;
below `/dev`, `/proc`, `/run`, `/sys` and `/tmp` nothing is kept, as the running system mounts
over them; so are devices, fifos and sockets, which OSTree cannot store. All of it is named.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import replace

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.tar import Entry, EntryType, TarReader
from bridge.ostree.objects import DirMeta, FileMeta, Xattrs
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree
from bridge.pull.layer import Dropped, Layer

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
IMPLIED_META = DirMeta(0, 0, 0o40755)
"""What a directory is that no layer has an entry for."""

_API_DIRECTORIES = frozenset({"dev", "proc", "run", "sys", "tmp"})
_FOREIGN_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"user.ostreemeta", b"security.selinux")
"""Attributes that mean something to a store or to the host's policy, not to the image."""


def ingest(chunks: Iterable[bytes], transaction: Transaction) -> Layer:
    """Import a layer's tar stream to its end; `MalformedImage` where it is not to be had.

    The caller verifies the stream: it has to raise, at the latest, at its end.
    """
    reader = TarReader(chunks)
    builder = _Builder(reader, transaction)
    for entry in reader:
        builder.add(entry)
    reader.drain()
    return builder.layer


def store_path(path: str) -> str:
    """Return a path of the image as it stands in the store: relative, `etc` as `usr/etc`.

    `MalformedImage` for one that leaves the image or is too long. The root is "".
    """
    return "/".join(_mapped(_components(path)))


def _components(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise MalformedImage(f"path {path!r:.300} has a '..'")
    if len(path) > limits.PATH_MAX or len(parts) > limits.DEPTH_MAX:
        raise MalformedImage(f"path {path!r:.100} is too long or too deep")
    return parts


def _mapped(parts: list[str]) -> list[str]:
    return ["usr", *parts] if parts and parts[0] in ("etc", WHITEOUT + "etc") else parts


class _Builder:
    def __init__(self, reader: TarReader, transaction: Transaction) -> None:
        self._reader = reader
        self._transaction = transaction
        self._implied_meta = transaction.write_dirmeta(IMPLIED_META)
        self._root = Tree(self._implied_meta)
        self.layer = Layer(self._root, implied={""})
        self._parents: dict[str, tuple[Tree, str]] = {}  # by their path in the archive
        self._file_metas: dict[tuple[int, int, int], FileMeta] = {}
        self._dir_metas: dict[tuple[int, int, int, Xattrs], str] = {}
        self._targets: dict[str, str] = {}  # symbolic links' objects to where they point

    def add(self, entry: Entry) -> None:
        place = self._place(entry)
        if place is None:
            return
        parent, below, name = place
        path = f"{below}/{name}" if below else name
        kind = entry.type
        if name.startswith(WHITEOUT):
            self._whiteout(parent, path, name, entry)
        elif kind is EntryType.FILE:
            self._put(parent, path, name, self._file(entry))
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
        parts = _components(entry.path)
        if not parts:
            self._set_root(entry)
            return None
        *way, name = _mapped(parts)
        if parts[0] in _API_DIRECTORIES and (way or entry.type is not EntryType.DIRECTORY):
            self._drop("/".join(parts), "in a directory that is mounted over")
            return None
        if any(part.startswith(".wh..wh.") for part in way):
            self._drop("/".join(parts), "AUFS metadata")
            return None
        parent, below = self._directory(way)
        if len(parts) > 1:  # the root's entries may be mapped, so they always take the long way
            self._parents[raw_parent] = parent, below
        return parent, below, name

    def _directory(self, way: list[str]) -> tuple[Tree, str]:
        """Return the directory at `way` and where it really is: made if this layer has none,
        and reached through this layer's own symbolic links."""
        here, at = self._root, ""
        todo = way[::-1]
        hops = 0
        while todo:
            name = todo.pop()
            if name == "..":
                at = at.rpartition("/")[0]
                found = self._root.find(at) if at else self._root
                assert isinstance(found, Tree)
                here = found
                continue
            below = here.dirs.get(name)
            if below is None and (link := here.files.get(name)) is not None:
                hops += 1
                target = self._targets.get(link)
                if target is None or hops > limits.LINK_HOPS_MAX:
                    raise MalformedImage(
                        f"{'/'.join(way)!r:.300} leads through something that is no directory"
                    )
                if target.startswith("/"):
                    here, at = self._root, ""
                todo += _link_parts(target)[::-1]
                continue
            at = f"{at}/{name}" if at else name
            if below is None:
                below = Tree(self._implied_meta)
                here.set_dir(name, below)
                self.layer.implied.add(at)
            here = below
        return here, at

    def _put(self, parent: Tree, path: str, name: str, checksum: str) -> None:
        if name in parent.dirs:
            self._forget_below(path)
        if self.layer.links:
            self.layer.links.pop(path, None)
        parent.set_file(name, checksum)

    def _put_directory(self, parent: Tree, path: str, name: str, entry: Entry) -> None:
        meta = self._dir_meta(entry)
        found = parent.dirs.get(name)
        if found is not None:
            found.meta = meta
            self.layer.implied.discard(path)
            return
        if name in parent.files:
            self._parents.clear()
        self.layer.links.pop(path, None)
        parent.set_dir(name, Tree(meta))

    def _forget_below(self, path: str) -> None:
        """A directory is replaced by something else: what was known of its inside is void."""
        self._parents.clear()
        inside = f"{path}/"
        layer = self.layer
        layer.implied = {p for p in layer.implied if p != path and not p.startswith(inside)}
        layer.whiteouts = {p for p in layer.whiteouts if not p.startswith(inside)}
        layer.links = {p: t for p, t in layer.links.items() if not p.startswith(inside)}

    def _set_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise MalformedImage(f"the root of the image is a {entry.type.value}")
        self._root.meta = self._dir_meta(entry)
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
        # Its content, owner and kind mean nothing: one object serves all whiteouts.
        meta = FileMeta(0, 0, stat.S_IFREG | 0o644)
        parent.set_file(name, self._transaction.write_payload(meta, b""))
        self.layer.whiteouts.add(path)

    def _file(self, entry: Entry) -> str:
        key = (entry.uid, entry.gid, entry.mode)
        meta = self._file_metas.get(key)
        if meta is None:
            meta = self._file_metas[key] = FileMeta(*key[:2], stat.S_IFREG | entry.mode)
        if entry.xattrs:
            meta = replace(meta, xattrs=self._own_xattrs(entry))
        if entry.size <= limits.SMALL_FILE:
            return self._transaction.write_payload(meta, self._reader.read_payload())
        return self._transaction.write_stream(meta, entry.size, self._reader.payload())

    def _symlink(self, entry: Entry) -> str:
        if not entry.target or "\0" in entry.target or len(entry.target) > limits.PATH_MAX:
            raise MalformedImage(f"symbolic link {entry.path!r:.300} has no usable target")
        xattrs = self._own_xattrs(entry)
        meta = FileMeta(entry.uid, entry.gid, stat.S_IFLNK | 0o777, xattrs, entry.target)
        checksum = self._transaction.write_link(meta)
        self._targets[checksum] = entry.target
        return checksum

    def _hardlink(self, parent: Tree, path: str, name: str, entry: Entry) -> None:
        way = _mapped(_components(entry.target))
        if not way or "/".join(way) == path:
            raise MalformedImage(f"hard link {path!r:.300} to {entry.target!r:.300}")
        found, target = self._lookup(way)
        if isinstance(found, Tree):
            raise MalformedImage(f"hard link {path!r:.300} to the directory {target!r:.300}")
        if found is not None:
            self._put(parent, path, name, found)
            return
        # A lower layer's file, or none: the merge will know. Links to such links go straight.
        target = self.layer.links.get(target, target)
        parent.remove(name)
        self._forget_below(path)
        self.layer.links[path] = target

    def _lookup(self, way: list[str]) -> tuple[Tree | str | None, str]:
        """Return what this layer has at `way`, and the path it looked at."""
        target = "/".join(way)
        found = self._root.find(target)
        if found is None and self._targets:
            parent, below = self._directory(way[:-1])
            target = f"{below}/{way[-1]}" if below else way[-1]
            found = parent.dirs.get(way[-1]) or parent.files.get(way[-1])
        return found, target

    def _dir_meta(self, entry: Entry) -> str:
        key = (entry.uid, entry.gid, entry.mode, entry.xattrs)
        checksum = self._dir_metas.get(key)
        if checksum is None:
            mode = stat.S_IFDIR | entry.mode
            meta = DirMeta(entry.uid, entry.gid, mode, self._own_xattrs(entry))
            checksum = self._dir_metas[key] = self._transaction.write_dirmeta(meta)
        return checksum

    def _own_xattrs(self, entry: Entry) -> Xattrs:
        if not entry.xattrs:
            return ()
        kept = []
        for name, value in entry.xattrs:
            if name.startswith(_FOREIGN_XATTRS):
                self._drop(store_path(entry.path), f"xattr {name.decode(errors='replace')}")
            else:
                kept.append((name, value))
        return tuple(kept)


def _link_parts(target: str) -> list[str]:
    parts = [part for part in target.split("/") if part not in ("", ".")]
    return _mapped(parts) if target.startswith("/") else parts
