"""Mounts that are nobody else's.

Whoever makes a mount namespace takes a copy of all mounts there are, and a disk's stays in it
mounted after it was unmounted here: what is read of that disk from then on may be what it was, and
two kernels write to it. So the tests have a namespace of their own, before they mount anything.
"""

from __future__ import annotations

import ctypes
import os

_NEW_NAMESPACE = 0x20000  # CLONE_NEWNS, linux/sched.h
_RECURSIVELY_PRIVATE = 0x4000 | 1 << 18  # MS_REC | MS_PRIVATE, linux/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


def be_private() -> None:
    """Have what this process and its children mount from now on seen by none but them."""
    if os.geteuid() != 0:
        return  # who is not root mounts nothing
    _check(_libc.unshare(_NEW_NAMESPACE))
    _check(_libc.mount(b"none", b"/", None, _RECURSIVELY_PRIVATE, None))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
