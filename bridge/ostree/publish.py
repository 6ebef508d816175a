"""Making visible what was staged: into the store, in the order that a crash may interrupt.

First objects: files, dirmetas, dirtrees, commits; each directory that got one is synced before
anything refers to it. Everything is on the disk already, under the names it was staged with.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from bridge.ostree import durable
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.stats import Stats


def objects_in(
    repo: Repository, staging: int, staged: Mapping[ObjectType, dict[str, int]], stats: Stats
) -> None:
    """Move objects from the directory `staging` into `repo`, kind by kind in the order of `staged`,
    which has their sizes, and is empty afterwards. `repo.publishing` is held."""
    touched: set[str] = set()
    for kind, sizes in staged.items():
        for checksum, size in sizes.items():
            if kind is ObjectType.FILE:
                if checksum in repo.known:  # another transaction was first
                    stats.reused_objects += 1
                    stats.reused_bytes += size
                    continue
                stats.new_objects += 1
                stats.new_bytes += size
            prefix = checksum[:2]
            if prefix not in touched:
                touched.add(prefix)
                with suppress(FileExistsError):
                    os.mkdir(f"objects/{prefix}", 0o755, dir_fd=repo.fd)
            os.rename(
                f"{checksum}.{kind.value}",
                repo.object_path(checksum, kind),
                src_dir_fd=staging,
                dst_dir_fd=repo.fd,
            )
            repo.damaged.discard(checksum)
            if kind is ObjectType.FILE:
                repo.known.add(checksum)
        sizes.clear()
    for prefix in sorted(touched):
        durable.sync_directory(f"objects/{prefix}", repo.fd)
    durable.sync_directory("objects", repo.fd)


def beside(repo: Repository, staging: int, staged: str, path: str) -> None:
    """Move the file `staged`, which is no object, to `path` in `repo`."""
    directory, _, name = path.rpartition("/")
    fd = durable.make_directories(directory, repo.fd)
    try:
        os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=fd)
        os.fsync(fd)
    finally:
        os.close(fd)
