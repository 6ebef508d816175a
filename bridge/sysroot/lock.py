"""The lock on a sysroot: `ostree/lock`, so that we and `ostree admin` exclude one another.

libostree takes an open-file-description lock (fcntl `F_OFD_SETLK`), which a flock(2) lock would
not meet, and removes the file when it lets go. Readers take no lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from bridge.errors import Busy
from bridge.sysroot import files

NAME = "lock"


@contextlib.contextmanager
def exclusive(ostree_fd: int, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the sysroot whose `ostree` directory is `ostree_fd`.

    `what` names the sysroot in messages. Raises `Busy` at once when another process holds it,
    unless told to `wait` for it.
    """
    with files.doing(f"locking {what}"):
        fd = _acquire(ostree_fd, what, wait)
    try:
        yield
    finally:
        # Removed while it is still held, as libostree does: who waits for it looks again.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(NAME, dir_fd=ostree_fd)
        os.close(fd)


def _acquire(ostree_fd: int, what: str, wait: bool) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    while True:
        fd = os.open(NAME, flags, 0o600, dir_fd=ostree_fd)
        try:
            # struct flock: l_type, l_whence, l_start, l_len, l_pid
            request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
            if os.fstat(fd).st_nlink > 0:
                return fd
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Busy(
                    f"{what} is locked by another process; try again when it is done"
                ) from None
            raise
        # The holder removed the file between our open and our lock: that lock guards nothing.
        os.close(fd)
