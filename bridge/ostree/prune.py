"""Prune: drop the objects that no ref leads to."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.ostree import durable, lock, refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import reachable
from bridge.ostree.staging import remove_abandoned

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository


@dataclass(frozen=True, slots=True)
class PruneResult:
    """How many objects went, of how many, and the bytes that their files took."""

    objects: int
    total: int
    bytes: int


def prune(repo: Repository) -> PruneResult:
    """Delete every object that cannot be reached from a ref of any kind (parents do not count).

    `Busy` while anybody adds objects. A damaged tree stops it before anything is deleted: what
    hangs below would be lost. Commits go first, and for good, so that an interrupted prune leaves
    no commit without its objects.
    """
    with lock.held(repo.fd, ".lock", repo.path):
        remove_abandoned(repo.fd)
        refs.remove_unfinished(repo)
        keep = reachable(repo, set(refs.roots(repo).values()))
        repo.known.forget()
        there = list(repo.objects())
        gone = [(checksum, kind) for checksum, kind in there if checksum not in keep[kind]]
        order = list(ObjectType)[::-1]
        gone.sort(key=lambda each: order.index(each[1]))
        commits = [each for each in gone if each[1] is ObjectType.COMMIT]
        size = _delete_all(repo, commits)
        for checksum, _kind in commits:
            _delete(repo, f"objects/{checksum[:2]}/{checksum[2:]}.commitmeta")
            with suppress(FileNotFoundError):
                os.unlink(f"state/{checksum}.commitpartial", dir_fd=repo.fd)
        size += _delete_all(repo, gone[len(commits) :])
        return PruneResult(len(gone), len(there), size)


def _delete_all(repo: Repository, gone: list[tuple[str, ObjectType]]) -> int:
    """Delete objects, and see to it that they stay so; the bytes that they took."""
    size = sum(_delete(repo, repo.object_path(checksum, kind)) for checksum, kind in gone)
    for prefix in sorted({checksum[:2] for checksum, _kind in gone}):
        durable.sync_directory(f"objects/{prefix}", repo.fd)
    return size


def _delete(repo: Repository, path: str) -> int:
    try:
        status = os.stat(path, dir_fd=repo.fd, follow_symlinks=False)
        os.unlink(path, dir_fd=repo.fd)
    except FileNotFoundError:
        return 0
    # A deployment's hard link keeps the blocks: they are given back when it goes.
    return status.st_blocks * 512 if status.st_nlink == 1 else 0
