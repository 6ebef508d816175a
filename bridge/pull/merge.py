"""Merge: layers put on top of one another, on trees in memory; nothing is checked out.

Rules: image-spec `layer.md`. A layer's whiteouts and opaque markers hide what lower layers have,
never what it has itself. Whatever a layer has replaces what was there under that name, whatever
either is; only a directory over a directory joins it. A directory that a layer merely passes
through neither changes the metadata of a lower one nor replaces a symbolic link: it is the
directory that the link leads to, inside of the image (as containerd and umoci resolve it).
"""

from __future__ import annotations

from bridge import limits
from bridge.errors import MalformedImage
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree
from bridge.pull.ingest import OPAQUE, WHITEOUT, store_path
from bridge.pull.layer import Layer

_OVERRIDDEN_BY_RUNTIMES = ("hostname", "resolv.conf")
"""Files below /etc that container builds leave behind empty; ostree-ext drops these too."""


class Merge:
    """Applies layers from the lowest up; `tree` is the image's tree once `finish` was called.

    The layers' objects must be in the repository. Their trees are used up.
    """

    def __init__(self, repo: Repository, implied_meta: str) -> None:
        self._repo = repo
        self._implied_meta = implied_meta
        self.tree = Tree(implied_meta)

    def apply(self, layer: Layer) -> None:
        """Put `layer` on top; `MalformedImage` where it refers to what is not below it."""
        links = [(path, self._link_object(path, to)) for path, to in layer.links.items()]
        special = _ancestors(layer.whiteouts | layer.implied)
        if "" not in layer.implied:
            self.tree.meta = layer.tree.meta
        self._apply(self.tree, layer.tree, "", layer, special)
        for path, checksum in links:
            parent_path, _, name = path.rpartition("/")
            self._make(parent_path).set_file(name, checksum)

    def finish(self) -> None:
        """Do what holds for the image as a whole."""
        for name in _OVERRIDDEN_BY_RUNTIMES:
            checksum = self.tree.find(f"usr/etc/{name}")
            if isinstance(checksum, str) and self._is_empty(checksum):
                self._make("usr/etc").remove(name)

    def _apply(self, to: Tree, top: Tree, at: str, layer: Layer, special: set[str]) -> None:
        if OPAQUE in top.files:
            _hide_all(to, at)
        for name in top.files:
            if name.startswith(WHITEOUT) and name != OPAQUE:
                _hide(to, at, name[len(WHITEOUT) :])
        for name, checksum in top.files.items():
            if not name.startswith(WHITEOUT):
                to.set_file(name, checksum)
        for name, below in top.dirs.items():
            path = f"{at}/{name}" if at else name
            lower = to.dirs.get(name)
            if lower is None and path not in special:
                # Nothing below it is of any consequence: the whole directory moves over.
                to.set_dir(name, below)
                continue
            implied = path in layer.implied
            if lower is None and implied and self._is_link(to, name):
                lower = self._make(path)
            if lower is None:
                lower = Tree(below.meta)
                to.set_dir(name, lower)
            elif not implied:
                lower.meta = below.meta
            self._apply(lower, below, path, layer, special)

    def _link_object(self, path: str, target: str) -> str:
        parent_path, _, name = target.rpartition("/")
        parent = self._directory(parent_path, make=False)
        found = parent.files.get(name) if parent is not None else None
        if found is None:
            raise MalformedImage(
                f"hard link {path!r:.300} to {target!r:.300}, which is no file of this or a lower "
                "layer"
            )
        return found

    # -- symbolic links --------------------------------------------------------------------

    def _directory(self, path: str, *, make: bool) -> Tree | None:
        """Return the directory at `path`, through links; one that is not there is made, or None."""
        here, at = self.tree, ""
        todo = path.split("/")[::-1] if path else []
        hops = 0
        while todo:
            name = todo.pop()
            below = here.dirs.get(name)
            if below is None:
                link = here.files.get(name)
                target = self._target(link) if link else None
                if target is not None:
                    hops += 1
                    if hops > limits.LINK_HOPS_MAX:
                        raise MalformedImage(f"{path!r:.300}: too many symbolic links")
                    todo += _resolve(at, target)[::-1]
                    here, at = self.tree, ""
                    continue
                if not make:
                    return None
                if link is not None:
                    raise MalformedImage(f"{path!r:.300} leads through a regular file")
                below = Tree(self._implied_meta)
                here.set_dir(name, below)
            here, at = below, f"{at}/{name}" if at else name
        return here

    def _make(self, path: str) -> Tree:
        found = self._directory(path, make=True)
        assert found is not None
        return found

    def _is_link(self, tree: Tree, name: str) -> bool:
        checksum = tree.files.get(name)
        return checksum is not None and self._target(checksum) is not None

    def _target(self, checksum: str) -> str | None:
        meta, payload = self._repo.open_file(checksum)
        if payload is not None:
            payload.close()
        return meta.target if meta.is_symlink else None

    def _is_empty(self, checksum: str) -> bool:
        _meta, payload = self._repo.open_file(checksum)
        if payload is None:
            return False
        with payload:
            return not payload.read(1)


def _resolve(at: str, target: str) -> list[str]:
    """Return the store's path that a link in the directory `at` leads to."""
    parts = [] if target.startswith("/") or not at else at.split("/")
    for part in target.split("/"):
        if part == "..":
            # Above the root is the root, in an image as anywhere.
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    path = store_path("/".join(parts))
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
