"""Make the running system's sysroot writable for this process alone.

With `sysroot.readonly` /sysroot is mounted read-only, and /boot may be. As libostree does, we go
into a mount namespace of our own and mount both writable there; nobody else sees it.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterable

from bridge.errors import BridgeError
from bridge.sysroot import files

_CLONE_NEWNS = 0x20000
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def make_writable(paths: Iterable[str] = ("/sysroot", "/boot")) -> None:
    """Mount those of `paths` that are mounted read-only writable, in a namespace of our own.

    To be called before anything below them is opened and before there are other threads, which
    would stay in the old namespace. Raises `BridgeError`.
    """
    read_only = [path for path in paths if _is_read_only(path)]
    if not read_only:
        return
    with files.doing(f"mounting {' and '.join(read_only)} writable"):
        if threading.active_count() > 1:
            raise BridgeError("cannot change mounts once there are several threads")
        own_namespace()
        for path in read_only:
            # The mount's own flag first; then, where that is not all, the file system's.
            _mount(path, _MS_REMOUNT | _MS_BIND)
            if _is_read_only(path):
                _mount(path, _MS_REMOUNT)


def own_namespace() -> None:
    """Have what is mounted from now on be seen by this thread, and those that it starts, only.

    It ends with them, and nobody else can keep it from being unmounted. Raises `OSError`.
    """
    _call(_libc.unshare, _CLONE_NEWNS)
    _mount("/", _MS_REC | _MS_PRIVATE)


def _is_read_only(path: str) -> bool:
    # What is not mounted has no flags of its own: early in a boot /boot may be a plain directory.
    return _is_mounted(path) and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _is_mounted(path: str) -> bool:
    # Not `os.path.ismount`, which compares file systems: /sysroot is on the same one as /.
    wanted = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return any(_unescape(line.split()[4]) == wanted for line in mounts)


def _unescape(text: str) -> str:
    """Return a path of mountinfo, in which spaces and the like are three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _mount(path: str, flags: int) -> None:
    _call(_libc.mount, b"none", os.fsencode(path), None, flags, None)


def _call(function: ctypes._NamedFuncPointer, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
