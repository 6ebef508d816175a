"""Kept downloads: blobs that are not used up yet, as files in the repository's own corner.

They can be removed at any time while the lock of our own writers is held: all they save is a
second transfer.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from bridge.oci.digest import Digest
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository

DIRECTORY = f"{EXTENSION}/downloads"


def name(digest: Digest) -> str:
    """Return the name of a blob's file."""
    return f"{digest.algorithm}-{digest.hex}"


def sizes(repo: Repository) -> dict[str, int]:
    """Return the bytes that are kept of each blob, by the names of their files."""
    try:
        fd = durable.open_directory(DIRECTORY, repo.fd)
    except FileNotFoundError:
        return {}
    try:
        with os.scandir(fd) as entries:
            return {each.name: each.stat(follow_symlinks=False).st_size for each in entries}
    finally:
        os.close(fd)


def remove_others(repo: Repository, wanted: Collection[Digest]) -> None:
    """Remove what is kept of all blobs but the wanted ones."""
    spared = {name(digest) for digest in wanted}
    for each in sizes(repo).keys() - spared:
        durable.remove_tree(f"{DIRECTORY}/{each}", repo.fd)
