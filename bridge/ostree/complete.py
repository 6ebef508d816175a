"""Whether a commit that came from elsewhere has all that it needs, and is none too large.

Trees are named by what is in them, so a few kilobytes of them can stand for more paths than a
machine has memory for. What is counted here is paths, yet each tree is read once.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge import limits
from bridge.errors import MalformedImage
from bridge.ostree import objects
from bridge.ostree.objects import Commit, DirTree, ObjectType
from bridge.ostree.transaction import Transaction

Has = Callable[[str, ObjectType], bool]


def check_complete(transaction: Transaction, commit: Commit, has: Has) -> set[str]:
    """Return the content objects of a commit that is in `transaction` or its repository.

    `MalformedImage` where it needs an object that its image has not, by what `has` says, or where
    it has too many names, or too deep.
    """
    check = _Check(transaction, has)
    check.dirmeta(commit.meta)
    check.dirtree(commit.tree, 0)
    return check.files


class _Check:
    def __init__(self, transaction: Transaction, has: Has) -> None:
        self.files: set[str] = set()
        self._transaction = transaction
        self._has = has
        self._metas: set[str] = set()
        self._trees: dict[str, tuple[int, int]] = {}
        """Names in a directory and all below it, and how many levels those are."""

    def dirmeta(self, checksum: str) -> None:
        if checksum not in self._metas:
            self._need(checksum, ObjectType.DIRMETA)
            self._metas.add(checksum)

    def dirtree(self, checksum: str, depth: int) -> tuple[int, int]:
        names, levels = self._trees.get(checksum, (0, -1))
        if levels < 0:
            tree = self._read(checksum)
            names, levels = self._below(tree, depth)
            self._trees[checksum] = names, levels
        if depth + levels > limits.DEPTH_MAX:
            raise MalformedImage(f"the commit's tree is deeper than {limits.DEPTH_MAX} levels")
        return names, levels

    def _below(self, tree: DirTree, depth: int) -> tuple[int, int]:
        names, levels = len(tree.files) + len(tree.dirs), 0
        if names > limits.DIRECTORY_MAX:
            raise MalformedImage(f"a directory with more than {limits.DIRECTORY_MAX} names")
        if depth > limits.DEPTH_MAX:
            raise MalformedImage(f"the commit's tree is deeper than {limits.DEPTH_MAX} levels")
        for checksum in tree.files.values():
            if checksum not in self.files:
                self._need(checksum, ObjectType.FILE)
                self.files.add(checksum)
        for below, meta in tree.dirs.values():
            self.dirmeta(meta)
            more, deeper = self.dirtree(below, depth + 1)
            names += more
            levels = max(levels, deeper + 1)
            if names > limits.ENTRIES_MAX:
                raise MalformedImage(f"the commit has more than {limits.ENTRIES_MAX} paths")
        return names, levels

    def _read(self, checksum: str) -> DirTree:
        empty = DirTree({}, {})
        if checksum == objects.dirtree_checksum(empty):
            # ostree-ext leaves out the tree of /sysroot, which is empty.
            self._transaction.write_dirtree(empty)
            return empty
        self._need(checksum, ObjectType.DIRTREE)
        if not self._transaction.has(checksum, ObjectType.DIRTREE):
            return empty  # it is being repaired
        return self._transaction.read_dirtree(checksum)

    def _need(self, checksum: str, kind: ObjectType) -> None:
        if not self._has(checksum, kind):
            raise MalformedImage(
                f"the commit needs {kind.value} {checksum}, which no layer of the image has"
            )
