"""What changed in `/etc`: a directory against the defaults it was copied from.

As libostree's ostree_diff_dirs with xattrs left out: the labels of `/usr/etc` and `/etc` differ
on purpose, so a changed xattr alone is no change. Times are none either.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.sysroot import files


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths relative to the two directories, sorted; below a removed directory nothing is named."""

    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def diff(old: int, new: int) -> Changes:
    """Compare the trees at two directory descriptors; `old` is what `new` was made from."""
    modified: list[str] = []
    removed: list[str] = []
    added: list[str] = []
    _compare(old, new, "", modified, removed, added)
    return Changes(tuple(sorted(modified)), tuple(sorted(removed)), tuple(sorted(added)))


def _compare(
    old: int, new: int, prefix: str, modified: list[str], removed: list[str], added: list[str]
) -> None:
    old_names, new_names = set(os.listdir(old)), set(os.listdir(new))
    removed += (prefix + name for name in old_names - new_names)
    for name in new_names - old_names:
        added += below(new, name, prefix)
    for name in old_names & new_names:
        before = os.stat(name, dir_fd=old, follow_symlinks=False)
        after = os.stat(name, dir_fd=new, follow_symlinks=False)
        if not _same(old, before, new, after, name):
            modified.append(prefix + name)
        if stat.S_ISDIR(before.st_mode) and stat.S_ISDIR(after.st_mode):
            with files.directory(old, name) as old_fd, files.directory(new, name) as new_fd:
                _compare(old_fd, new_fd, f"{prefix}{name}/", modified, removed, added)


def below(parent: int, name: str, prefix: str = "") -> Iterator[str]:
    """Yield `name` in the directory `parent` and everything below it, each after `prefix`."""
    yield prefix + name
    with contextlib.suppress(NotADirectoryError), files.directory(parent, name) as fd:
        for child in os.listdir(fd):
            yield from below(fd, child, f"{prefix}{name}/")


def _same(old: int, before: os.stat_result, new: int, after: os.stat_result, name: str) -> bool:
    if (before.st_mode, before.st_uid, before.st_gid) != (
        after.st_mode,
        after.st_uid,
        after.st_gid,
    ):
        return False
    if stat.S_ISLNK(before.st_mode):
        return os.readlink(name, dir_fd=old) == os.readlink(name, dir_fd=new)
    if stat.S_ISREG(before.st_mode):
        return before.st_size == after.st_size and _same_content(old, new, name)
    return True


def _same_content(old: int, new: int, name: str) -> bool:
    with (
        open(os.open(name, files.READ_FLAGS, dir_fd=old), "rb", buffering=0) as first,
        open(os.open(name, files.READ_FLAGS, dir_fd=new), "rb", buffering=0) as second,
    ):
        while True:
            chunk = first.read(files.COPY_BUFFER)
            if chunk != second.read(files.COPY_BUFFER):
                return False
            if not chunk:
                return True
