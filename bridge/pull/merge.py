"""Merge: layers put on top of one another, on trees in memory; nothing is checked out.

Rules: image-spec `layer.md`. A layer's whiteouts and opaque markers hide what lower layers have,
never what it has itself. Whatever a layer has replaces what was there under that name, whatever
either is; only a directory over a directory joins it. A directory that a layer merely passes
through neither changes the metadata of a lower one nor replaces a symbolic link: it is the
directory that the link leads to, inside of the image (as containerd and umoci resolve it). A layer
may so have two paths that are one in the image. What was put last counts: of a directory first its
files, then its directories by name; a tree does not tell which entry the archive had last.
"""

from __future__ import annotations

from typing import Protocol

from bridge.errors import MalformedImage
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree
from bridge.pull.layer import Dropped, Layer
from bridge.pull.paths import OPAQUE, WHITEOUT, check_depth, join, walk

_OVERRIDDEN_BY_RUNTIMES = ("hostname", "resolv.conf")
"""Files below /etc that container builds leave behind empty; ostree-ext drops these too."""


class Objects(Protocol):
    """What is to be known of the objects that trees name."""

    def target(self, name: str) -> str | None:
        """Return where a symbolic link points; None for a file."""

    def is_empty(self, name: str) -> bool:
        """Tell whether it is a file without content."""


class StoredObjects:
    """The objects of a repository."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo

    def target(self, name: str) -> str | None:
        meta, payload = self._repo.open_file(name)
        if payload is not None:
            payload.close()
        return meta.target if meta.is_symlink else None

    def is_empty(self, name: str) -> bool:
        _meta, payload = self._repo.open_file(name)
        if payload is None:
            return False
        with payload:
            return not payload.read(1)


class Merge:
    """Applies layers from the lowest up; `tree` is the image's tree once `finish` was called.

    `objects` has to have those of the layers. Their trees are used up.
    """

    def __init__(self, objects: Objects, implied_meta: str, base: Tree | None = None) -> None:
        """With a `base`, layers are put on that tree."""
        self._objects = objects
        self._implied_meta = implied_meta
        self.tree = Tree(implied_meta) if base is None else base

    def apply(self, layer: Layer) -> None:
        """Put `layer` on top; `MalformedImage` where it refers to what is not below it."""
        links = [(path, self._link_object(path, to)) for path, to in sorted(layer.links.items())]
        special = _ancestors(layer.whiteouts | layer.implied)
        if "" not in layer.implied:
            self.tree.meta = layer.tree.meta
        self._apply((self.tree, ""), layer.tree, "", layer, special)
        for path, checksum in links:
            parent_path, _, name = path.rpartition("/")
            self._make(parent_path)[0].set_file(name, checksum)

    def finish(self) -> list[Dropped]:
        """Do what holds for the image as a whole; return what that left out.

        Where the layers of an encapsulated OSTree commit were imported for what container tools
        see in them, they bring a repository, whose objects the files are hard links to: the files
        stay, the repository has no business on a host.
        """
        dropped = []
        sysroot = self.tree.dirs.get("sysroot")
        if sysroot is not None and "ostree" in sysroot.dirs:
            sysroot.remove("ostree")
            dropped.append(Dropped("sysroot/ostree", "a repository inside of the image"))
        for name in _OVERRIDDEN_BY_RUNTIMES:
            checksum = self.tree.find(f"usr/etc/{name}")
            if isinstance(checksum, str) and self._objects.is_empty(checksum):
                self._make("usr/etc")[0].remove(name)
                dropped.append(Dropped(f"usr/etc/{name}", "left empty by the image's build"))
        return dropped

    def _apply(
        self, place: tuple[Tree, str], top: Tree, at: str, layer: Layer, special: set[str]
    ) -> None:
        """Put `top`, which is at `at` in its layer, on the directory `place`, which may have
        another path in the image: a link's target."""
        to, real = place
        check_depth(real, at)
        if OPAQUE in top.files:
            _hide_all(to, real)
        for name in top.files:
            if name.startswith(WHITEOUT) and name != OPAQUE:
                _hide(to, real, name[len(WHITEOUT) :])
        for name, checksum in top.files.items():
            if not name.startswith(WHITEOUT):
                to.set_file(name, checksum)
        for name, below in sorted(top.dirs.items()):
            path = join(at, name)
            lower = to.dirs.get(name)
            if lower is None and path not in special:
                # Nothing below it is of any consequence: the whole directory moves over.
                to.set_dir(name, below)
                continue
            below_place = join(real, name)
            implied = path in layer.implied
            if lower is None and implied and self._is_link(to, name):
                lower, below_place = self._make(below_place)
            if lower is None:
                lower = Tree(below.meta)
                to.set_dir(name, lower)
            elif not implied:
                lower.meta = below.meta
            self._apply((lower, below_place), below, path, layer, special)

    def _link_object(self, path: str, target: str) -> str:
        parent_path, _, name = target.rpartition("/")
        parent, _ = walk(self.tree, _parts(parent_path), self._objects.target, None)
        found = parent.files.get(name) if parent is not None else None
        if found is None:
            raise MalformedImage(
                f"hard link {path!r:.300} to {target!r:.300}, which is no file of this or a lower "
                "layer"
            )
        return found

    # -- symbolic links --------------------------------------------------------------------

    def _make(self, path: str) -> tuple[Tree, str]:
        """Return the directory that `path` leads to, made if it is not there, and its own path."""
        found, real = walk(
            self.tree, _parts(path), self._objects.target, lambda _: Tree(self._implied_meta)
        )
        assert found is not None
        return found, real

    def _is_link(self, tree: Tree, name: str) -> bool:
        checksum = tree.files.get(name)
        return checksum is not None and self._objects.target(checksum) is not None


def _parts(path: str) -> list[str]:
    return path.split("/") if path else []


def _hide(tree: Tree, at: str, name: str) -> None:
    if not at and name == "usr":
        # /etc is kept in there, and /usr being hidden does not hide it.
        usr = tree.dirs.get("usr")
        if usr is not None:
            _hide_all(usr, "usr")
            if usr.dirs:
                return
    tree.remove(name)


def _hide_all(tree: Tree, at: str) -> None:
    etc = tree.dirs.get("etc") if at == "usr" else None
    tree.clear()
    if etc is not None:
        tree.set_dir("etc", etc)


def _ancestors(paths: set[str]) -> set[str]:
    found = set(paths)
    for path in paths:
        while path:
            path = path.rpartition("/")[0]
            if path in found and path not in paths:
                break
            found.add(path)
    return found
