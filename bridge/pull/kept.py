"""Kept downloads: blobs that are not used up yet, as files in the repository's own corner.

A blob that is fetched from its start is a file that grows; of one that is fetched in parts there
are a sparse file and a list of the parts in it. They can be removed at any time while the lock of
our own writers is held: all they save is a second transfer.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from bridge.errors import BridgeError, NoSpace, is_full
from bridge.oci.digest import Digest
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository
from bridge.ostree.space import Space

DIRECTORY = f"{EXTENSION}/downloads"
_PARTS, _JOURNAL = ".parts", ".ranges"


def name(digest: Digest) -> str:
    """Return the name of a blob's file."""
    return f"{digest.algorithm}-{digest.hex}"


def parts_names(digest: Digest) -> tuple[str, str]:
    """Return the names of the sparse file with a blob's parts, and of the list of them."""
    return f"{name(digest)}{_PARTS}", f"{name(digest)}{_JOURNAL}"


def open_file(name: str, space: Space, dir_fd: int, more_flags: int = 0) -> int:
    """Open a file for what is downloaded, made if need be; never one behind a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with space.writing(0, files=1):
        return os.open(name, flags | more_flags, 0o600, dir_fd=dir_fd)


def write_at(fd: int, data: bytes, offset: int, space: Space) -> None:
    """Write bytes from the network; `NoSpace` where there is no room for them."""
    try:
        with space.writing(len(data)):
            durable.write_all_at(fd, data, offset)
    except OSError as error:
        kind = NoSpace if is_full(error) else BridgeError
        raise kind(f"cannot keep a downloaded blob: {error.strerror}") from error


def forget(name: str, space: Space, dir_fd: int) -> None:
    """Remove a file, if it is there, and give its room back."""
    try:
        held = _held(name, os.stat(name, dir_fd=dir_fd, follow_symlinks=False))
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    space.give_back(held, files=1)


def sizes(repo: Repository) -> dict[str, int]:
    """Return the bytes that are kept of each blob, by the names of their files.

    Parts count for the blob that they are of, with the room that they take.
    """
    found: dict[str, int] = {}
    for each, held in _files(repo).items():
        found[_blob(each)] = found.get(_blob(each), 0) + held
    return found


def remove_others(repo: Repository, wanted: Collection[Digest]) -> None:
    """Remove what is kept of all blobs but the wanted ones."""
    spared = {name(digest) for digest in wanted}
    for each in _files(repo):
        if _blob(each) not in spared:
            durable.remove_tree(f"{DIRECTORY}/{each}", repo.fd)


def _files(repo: Repository) -> dict[str, int]:
    try:
        fd = durable.open_directory(DIRECTORY, repo.fd)
    except FileNotFoundError:
        return {}
    try:
        with os.scandir(fd) as entries:
            return {
                each.name: _held(each.name, each.stat(follow_symlinks=False)) for each in entries
            }
    finally:
        os.close(fd)


def _blob(file: str) -> str:
    return file.removesuffix(_PARTS).removesuffix(_JOURNAL)


def _held(file: str, found: os.stat_result) -> int:
    """Return the bytes that a file holds: of a sparse one its holes do not count."""
    return min(found.st_size, found.st_blocks * 512) if file.endswith(_PARTS) else found.st_size
