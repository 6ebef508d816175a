"""A tree in memory: directories that are loaded from the repository when they are looked into.

A directory that nobody touched keeps the checksum it was read under, so a change costs in
proportion to what changed and not to the size of the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridge.errors import MalformedImage
from bridge.limits import DIRECTORY_MAX
from bridge.ostree.objects import DirTree, check_name

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository
    from bridge.ostree.transaction import Transaction


class Tree:
    """A directory: its dirmeta's checksum, its files (and links) and its directories by name."""

    __slots__ = ("_checksum", "_dirs", "_files", "_repo", "meta")

    def __init__(self, meta: str) -> None:
        self.meta = meta
        self._files: dict[str, str] | None = {}
        self._dirs: dict[str, Tree] | None = {}
        self._checksum: str | None = None
        self._repo: Repository | None = None

    @classmethod
    def stored(cls, repo: Repository, checksum: str, meta: str) -> Tree:
        """Return the directory that a dirtree and a dirmeta in the repository describe."""
        tree = cls(meta)
        tree._files = tree._dirs = None
        tree._checksum = checksum
        tree._repo = repo
        return tree

    @property
    def is_loaded(self) -> bool:
        """Whether it was looked into; if not, it is just as the repository has it."""
        return self._files is not None

    @property
    def files(self) -> dict[str, str]:
        """Names of files and links to their objects. Change it through `set_file` and `remove`."""
        if self._files is None:
            self._load()
        assert self._files is not None
        return self._files

    @property
    def dirs(self) -> dict[str, Tree]:
        """Names of directories. Change it through `set_dir` and `remove`."""
        if self._dirs is None:
            self._load()
        assert self._dirs is not None
        return self._dirs

    def _load(self) -> None:
        assert self._repo is not None and self._checksum is not None
        stored = self._repo.read_dirtree(self._checksum)
        self._files = dict(stored.files)
        self._dirs = {
            name: Tree.stored(self._repo, tree, meta) for name, (tree, meta) in stored.dirs.items()
        }
        # From here on it may be changed, also further down, so it is encoded again.
        self._checksum = None

    def set_file(self, name: str, checksum: str) -> None:
        """Put a file there, in place of whatever has that name."""
        files, dirs = self.files, self.dirs
        dirs.pop(name, None)
        files[check_name(name)] = checksum
        if len(files) + len(dirs) > DIRECTORY_MAX:
            raise _too_large()

    def set_dir(self, name: str, tree: Tree) -> None:
        """Put a directory there, in place of whatever has that name."""
        files, dirs = self.files, self.dirs
        files.pop(name, None)
        dirs[check_name(name)] = tree
        if len(files) + len(dirs) > DIRECTORY_MAX:
            raise _too_large()

    def remove(self, name: str) -> None:
        """Remove whatever has that name, if anything has."""
        if self.files.pop(name, None) is None:
            self.dirs.pop(name, None)

    def clear(self) -> None:
        """Remove everything in it."""
        self._files = {}
        self._dirs = {}
        self._checksum = None

    def find(self, path: str) -> Tree | str | None:
        """Return what is at `path` (no link is followed): a directory, an object, or None."""
        here = self
        *parents, last = path.split("/")
        for name in parents:
            below = here.dirs.get(name)
            if below is None:
                return None
            here = below
        return here.dirs.get(last) or here.files.get(last)

    def walk(self, below: str = "") -> Iterator[tuple[str, Tree]]:
        """Yield every directory with its path ("" is the tree's own), parents first."""
        yield below, self
        for name in sorted(self.dirs):
            yield from self.dirs[name].walk(f"{below}/{name}" if below else name)

    def write(self, transaction: Transaction) -> str:
        """Store the directories that are not in the repository; return this one's checksum."""
        if self._checksum is not None:
            return self._checksum
        dirs = {}
        for name, tree in self.dirs.items():  # no comprehension: that is a frame more, per level
            dirs[name] = tree.write(transaction), tree.meta
        return transaction.write_dirtree(DirTree(self.files, dirs))


def _too_large() -> MalformedImage:
    return MalformedImage(f"a directory with more than {DIRECTORY_MAX} names")
