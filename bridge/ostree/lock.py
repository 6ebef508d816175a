"""Locks that die with their holder, in libostree's form so that both exclude one another.

libostree locks `.lock` in the repository with an open-file-description lock: shared while
objects are added, exclusive while they are pruned. Our own writers also exclude one another,
by `extensions/bootc-py/lock`; readers take no lock at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.errors import Busy
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository

_FLOCK = struct.Struct("hhqqi4x")


@contextmanager
def held(dir_fd: int, name: str, what: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `name` in `dir_fd`; `Busy` at once where another process holds it."""
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660, dir_fd=dir_fd)
    try:
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Busy(
                    f"{what} is locked by another process; try again when that has finished"
                ) from None
            raise
        yield
    finally:
        os.close(fd)


@contextmanager
def writing(repo: Repository) -> Iterator[None]:
    """Hold the lock of our own writers: one pull, or one prune of images, at a time; or `Busy`."""
    fd = durable.make_directories(EXTENSION, repo.fd)
    try:
        with held(fd, "lock", repo.path):
            yield
    finally:
        os.close(fd)
