"""Reading back what the content index says is in the store: hashed, so that it is that or nothing.

An object may have been changed on the disk since it was written, or the index may be wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bridge import limits
from bridge.errors import DamagedRepository
from bridge.ostree.repository import Repository
from bridge.pull.content_index import Place


def read_place(repo: Repository, place: Place, digest: bytes) -> bytes | None:
    """Return the bytes of a place of at most `SMALL_FILE` bytes that hash to `digest`; None where
    they do not, or cannot be read."""
    checksum, offset, size = place
    if not 0 <= size <= limits.SMALL_FILE:
        return None
    try:
        data = repo.read_payload(checksum, offset, size)
    except DamagedRepository:
        return None
    return data if len(data) == size and hashlib.sha256(data).digest() == digest else None


def stream_place(repo: Repository, place: Place, digest: bytes) -> Iterator[bytes] | None:
    """Return the bytes of a place of any size that hash to `digest`, in pieces of at most 256 KiB;
    None where they do not, or cannot be read.

    They are read twice: once to see that they are right, before any of them is used, and once
    to be used. Whatever they are put into is to be hashed once more: a disk may fail between.
    `DamagedRepository` where the second time they cannot be read, or end before they should.
    """
    hashed = hashlib.sha256()
    left = place.size
    try:
        for chunk in repo.stream_payload(*place):
            hashed.update(chunk)
            left -= len(chunk)
    except DamagedRepository:
        return None
    return _again(repo, place) if not left and hashed.digest() == digest else None


def _again(repo: Repository, place: Place) -> Iterator[bytes]:
    left = place.size
    for chunk in repo.stream_payload(*place):
        left -= len(chunk)
        yield chunk
    if left:
        raise DamagedRepository(f"file {place.checksum} in {repo.path} has become shorter")
