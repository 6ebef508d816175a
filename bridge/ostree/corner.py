"""Small files of ours beside a repository's objects, with what can be found out again at any time.

A first line that names the form, the sha256 of what follows, and that: whatever was cut off or
changed is none. They may be deleted whenever.
"""

from __future__ import annotations

import hashlib
import os

from bridge.errors import NoSpace
from bridge.ostree import durable
from bridge.ostree.content import READ_FLAGS
from bridge.ostree.repository import EXTENSION, Repository

_HASH = 32


def read(repo: Repository, name: str, magic: bytes, limit: int) -> bytes | None:
    """Return what `write` was given under that name and form; None where there is no such file, or
    another, or more than `limit` bytes."""
    try:
        fd = os.open(f"{EXTENSION}/{name}", READ_FLAGS, dir_fd=repo.fd)
        with open(fd, "rb") as file:
            head = file.read(len(magic) + _HASH)
            body = file.read(limit + 1)
    except OSError:
        return None
    whole = len(body) <= limit and head == magic + hashlib.sha256(body).digest()
    return body if whole else None


def write(repo: Repository, name: str, magic: bytes, limit: int, body: bytes) -> None:
    """Keep `body`. Where there is no room for it, or it has more than `limit` bytes, what was there
    stays."""
    if len(body) > limit:
        return
    data = magic + hashlib.sha256(body).digest() + body
    fd = durable.make_directories(EXTENSION, repo.fd)
    try:
        with repo.space.writing(len(data), files=1):
            durable.replace_file(name, data, fd)
    except (NoSpace, OSError):
        return
    finally:
        os.close(fd)
