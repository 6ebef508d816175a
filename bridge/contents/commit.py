"""The view of a commit in a repository."""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.contents.contents import Contents, Node
from bridge.errors import MalformedImage
from bridge.layer.tar import EntryType
from bridge.ostree.content import payload_size
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree

_ETC = "usr/etc"


def of_commit(repo: Repository, checksum: str) -> Contents:
    """Return what a commit has; `/etc` is where the image has it, with its directory's metadata.

    The repository must stay open. Raises `DamagedRepository` where it lacks some of it,
    `MalformedImage` for more names than an image may have.
    """
    commit = repo.read_commit(checksum)
    return _CommitContents(repo, Tree.stored(repo, commit.tree, commit.meta))


class _CommitContents(Contents):
    def __init__(self, repo: Repository, tree: Tree) -> None:
        self._repo = repo
        self._known: dict[str, Node] = {}
        found: dict[str, Node] = {}
        etc = tree.find(_ETC)
        for path, node in self._directory(tree, ""):
            found[path] = node
        if isinstance(etc, Tree):
            for path, node in self._directory(etc, "etc"):
                found[path] = node
        self.nodes = {path: found[path] for path in sorted(found, key=_by_parts)}

    def _directory(self, tree: Tree, path: str) -> Iterator[tuple[str, Node]]:
        meta = self._repo.read_dirmeta(tree.meta)
        yield (
            path,
            Node(
                path, EntryType.DIRECTORY, meta.mode & 0o7777, meta.uid, meta.gid,
                0, None, "", meta.xattrs, "",
            ),
        )  # fmt: skip
        for name, checksum in tree.files.items():
            yield (below := f"{path}/{name}" if path else name), self._file(checksum, below)
        for name, each in tree.dirs.items():
            below = f"{path}/{name}" if path else name
            if below != _ETC:
                yield from self._directory(each, below)

    def _file(self, checksum: str, path: str) -> Node:
        known = self._known.get(checksum)
        if known is None:
            if len(self._known) >= limits.ENTRIES_MAX:
                raise MalformedImage(f"an image with more than {limits.ENTRIES_MAX} files")
            meta, payload = self._repo.open_file(checksum)
            size = 0
            if payload is not None:
                with payload:
                    size = payload_size(payload)
            kind = EntryType.SYMLINK if meta.is_symlink else EntryType.FILE
            known = self._known[checksum] = Node(
                path, kind, meta.mode & 0o7777, meta.uid, meta.gid,
                size, None, meta.target, meta.xattrs, checksum,
            )  # fmt: skip
            return known
        return Node(
            path, known.type, known.mode, known.uid, known.gid,
            known.size, None, known.target, known.xattrs, checksum,
        )  # fmt: skip

    def chunks(self, node: Node) -> Iterator[bytes]:
        return self._repo.stream_payload(node.key, 0, node.size)


def _by_parts(path: str) -> list[str]:
    return path.split("/")
