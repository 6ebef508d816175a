"""Reading back what the content index says is in the store.

An object may have been changed on the disk since it was written, or the index may be wrong: what
is read is hashed, so that it is that or nothing, or the caller has it hashed with all the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bridge import limits
from bridge.errors import DamagedRepository
from bridge.ostree.repository import Repository
from bridge.pull.content_index import Place


def read_place(repo: Repository, place: Place, digest: bytes | None) -> bytes | None:
    """Return the bytes of a place of at most `SMALL_FILE` bytes that hash to `digest`; None where
    they do not, or cannot be read. Without a digest they are as many as they should be."""
    checksum, offset, size = place
    if not 0 <= size <= limits.SMALL_FILE:
        return None
    try:
        data = repo.read_payload(checksum, offset, size)
    except DamagedRepository:
        return None
    if len(data) != size:
        return None
    return data if digest is None or hashlib.sha256(data).digest() == digest else None


def stream_place(repo: Repository, place: Place, digest: bytes | None) -> Iterator[bytes] | None:
    """Return the bytes of a place of any size that hash to `digest`, in pieces of at most 256 KiB;
    None where they do not, or cannot be read.

    They are read twice: once to see that they are right, before any of them is used, and once
    to be used. Whatever they are put into is to be hashed once more: a disk may fail between.
    Without a digest they are just used. `DamagedRepository` where they cannot be read then, or end
    before they should.
    """
    if digest is None:
        return _used(repo, place)
    hashed = hashlib.sha256()
    left = place.size
    try:
        for chunk in repo.stream_payload(*place):
            hashed.update(chunk)
            left -= len(chunk)
    except DamagedRepository:
        return None
    return _used(repo, place) if not left and hashed.digest() == digest else None


def _used(repo: Repository, place: Place) -> Iterator[bytes]:
    left = place.size
    for chunk in repo.stream_payload(*place):
        left -= len(chunk)
        yield chunk
    if left:
        raise DamagedRepository(f"file {place.checksum} in {repo.path} has become shorter")
