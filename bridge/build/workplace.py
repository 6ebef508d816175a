"""Where a build works: a directory beside the store's objects, gone when the build has ended.

What a build left that was killed goes when the next one begins, with the names under which it had
its images stored.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bridge.errors import BridgeError, UsageError
from bridge.oci.reference import parse_reference
from bridge.ostree import durable
from bridge.ostree.repository import Repository
from bridge.pull import images

_PREFIX = "build-"
IMAGES = ("steps", "layers")
"""Layouts in it, which are pulled: what buildah made, and what was made of that."""


@contextmanager
def workplace(repo: Repository) -> Iterator[str]:
    """Give the path of an empty directory; when the context ends, it and its images are gone."""
    base = _base(repo)
    if ":" in base:
        raise UsageError(f"{base}: no layout can have a colon in its path; give another --repo")
    top = durable.open_directory("tmp", repo.fd)
    try:
        # Between its making and its lock it must not be taken for one that was left.
        fcntl.flock(top, fcntl.LOCK_EX)
        for name in os.listdir(top):
            if name.startswith(_PREFIX):
                _remove_abandoned(repo, top, name)
        path = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        name = os.path.basename(path)
        held = durable.open_directory(name, top)
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.flock(top, fcntl.LOCK_UN)
        try:
            yield path
        finally:
            _remove(repo, top, name)
            os.close(held)
    finally:
        os.close(top)


def _remove_abandoned(repo: Repository, top: int, name: str) -> None:
    try:
        fd = durable.open_directory(name, top)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(repo, top, name)
    except BlockingIOError:
        return  # someone is at work in it
    finally:
        os.close(fd)


def _remove(repo: Repository, top: int, name: str) -> None:
    for each in IMAGES:
        with suppress(BridgeError):
            images.remove(repo, parse_reference(f"oci:{_base(repo)}/{name}/{each}"))
    durable.remove_tree(name, top)


def _base(repo: Repository) -> str:
    return f"{os.path.realpath(repo.path)}/tmp"
