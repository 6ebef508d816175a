"""Space: what may still be written to a repository's file system, by all its writers together.

`min-free-space-percent` and `min-free-space-size` of the repository's config say what has to stay
free; libostree's precedence, see `config`. What this process writes is counted as it is written,
by threads that share one count. The file system is asked now and then, for others write to it
too, and once more before anything is refused: what is stored compressed or in part, what turned
out to be there already, what others removed since, only the file system knows. Inodes are counted
as bytes are, but none have to stay free: libostree keeps none.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.errors import NoSpace
from bridge.limits import SPACE_LOOK_EVERY
from bridge.ostree import durable
from bridge.ostree.objects import ObjectType

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository

_OVERHEAD = 512
"""Bytes that come with every file beside its blocks: its names, its part of a directory."""

_COMPRESSING = frozenset({0x9123683E, 0x2FC12FC1, 0xCA451A4E, 0xF2F52010})
"""btrfs, ZFS, bcachefs, F2FS: linux/magic.h, and OpenZFS's own."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has for a repository now."""

    bytes: int
    """What may be written; below 0 where less is free than has to stay free."""
    must_stay_free: int
    block: int
    inodes: int | None
    """None where the file system makes them as they are needed."""
    compresses: bool = False
    """Whether the file system may store files in fewer bytes than they have."""


def measure(repo: Repository) -> Room:
    """Ask the file system of the repository what it has room for."""
    found = os.fstatvfs(repo.fd)
    keep = repo.config.must_stay_free(found.f_blocks * found.f_frsize)
    inodes = found.f_favail if found.f_files else None
    compresses = durable.file_system(repo.fd) in _COMPRESSING
    return Room(found.f_bavail * found.f_frsize - keep, keep, found.f_frsize, inodes, compresses)


def stored_bytes(repo: Repository) -> int:
    """Return the bytes of all content objects in the repository, as they are stored."""
    total = 0
    for checksum, kind in repo.objects():
        if kind is ObjectType.FILE:
            path = repo.object_path(checksum, kind)
            total += os.stat(path, dir_fd=repo.fd, follow_symlinks=False).st_size
    return total


class Space:
    """The budget of one open repository. Safe for several threads."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._lock = threading.Lock()
        self._room: Room | None = None
        self._bytes = 0
        self._inodes: float = 0
        self._counted = 0
        self._writing = [0, 0]

    def look(self) -> None:
        """Take over what the file system says now, more or less than what was left."""
        with self._lock:
            self._look(only_less=False)

    def writing(self, size: int, files: int = 0) -> _Writing:
        """Return a context that has room for `size` bytes, and `files` new files, while they are
        being written.

        `NoSpace` where what has to stay free would not; nothing is to be written then.
        """
        return _Writing(self, size, files)

    def begin(self, size: int, files: int) -> int:
        """Take room for a write; return what `end` is to be told."""
        with self._lock:
            return self._take(size, files)

    def end(self, cost: int, files: int) -> None:
        """Take that a write has ended, one way or the other."""
        with self._lock:
            self._writing[0] -= cost
            self._writing[1] -= files

    def give_back(self, size: int, files: int = 0) -> None:
        """Take that what was counted was removed again."""
        with self._lock:
            self._bytes += self._cost(size, files)
            self._inodes += files

    def _cost(self, size: int, files: int) -> int:
        if self._room is None:
            self._look(only_less=False)
        assert self._room is not None
        # All but the last block of a file are full.
        return size + files * (self._room.block + _OVERHEAD)

    def _take(self, size: int, files: int) -> int:
        cost = self._cost(size, files)
        self._counted += cost
        if self._counted > SPACE_LOOK_EVERY:
            self._look(only_less=True)
        if cost > self._bytes or files > self._inodes:
            # Some file systems (btrfs) count what was written only when it is on the disk.
            durable.syncfs(self._repo.fd)
            self._look(only_less=False)
            self._refuse(cost, files)
        self._bytes -= cost
        self._inodes -= files
        self._writing[0] += cost
        self._writing[1] += files
        return cost

    def _look(self, *, only_less: bool) -> None:
        self._room = room = measure(self._repo)
        # What is being written right now may be counted or not: it is taken as not.
        size = room.bytes - self._writing[0]
        inodes = math.inf if room.inodes is None else room.inodes - self._writing[1]
        self._bytes = min(self._bytes, size) if only_less else size
        self._inodes = min(self._inodes, inodes) if only_less else inodes
        self._counted = 0

    def _refuse(self, cost: int, files: int) -> None:
        room, path = self._room, self._repo.path
        assert room is not None
        if files > self._inodes:
            raise NoSpace(
                f"no inode is left on the file system of {path}; remove files, or images with "
                "`image remove` and `image prune`"
            )
        if cost > self._bytes:
            raise NoSpace(
                f"{path}: {cost} bytes more would leave its file system with less free space than "
                f"the {room.must_stay_free} bytes that min-free-space keeps; free some, remove "
                "images with `image remove` and `image prune`, or lower min-free-space-percent in "
                "its config"
            )


class _Writing:
    """There is one for each object: a generator's context would cost three times as much."""

    __slots__ = ("_cost", "_files", "_size", "_space")

    def __init__(self, space: Space, size: int, files: int) -> None:
        self._space = space
        self._size = size
        self._files = files
        self._cost = 0

    def __enter__(self) -> None:
        self._cost = self._space.begin(self._size, self._files)

    def __exit__(self, *_: object) -> None:
        self._space.end(self._cost, self._files)
