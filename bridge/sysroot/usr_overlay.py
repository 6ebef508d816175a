"""A writable `/usr` until the next boot, as `ostree admin unlock` makes it.

An overlay whose upper directory is in `/var/tmp`; the deployment itself stays as it is. That it is
there, `/run/ostree/deployment-state/NAME/unlocked-development` says. Source: libostree,
ostree-sysroot.c, ostree_sysroot_deployment_unlock.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from pathlib import Path

from bridge.errors import BridgeError
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import Sysroot

_STATE = Path("/run/ostree/deployment-state")
_MARK = "unlocked-development"


def is_unlocked(deployment: Deployment) -> bool:
    """Return whether `/usr` of the deployment was made writable for this boot."""
    return (_STATE / deployment.name / _MARK).exists()


def unlock(sysroot: Sysroot) -> Path:
    """Make `/usr` of the running deployment writable until the next boot; the upper directory.

    Raises `BridgeError` where nothing of this sysroot runs, or it was done already.
    """
    with sysroot.locked():
        booted = sysroot.load().booted
        if booted is None:
            raise BridgeError(f"{sysroot.path} is not the running system; only that has a /usr")
        if is_unlocked(booted):
            raise BridgeError("/usr is writable already, until the next boot")
        with files.doing("making /usr writable"):
            top = Path(tempfile.mkdtemp(prefix="ostree-unlock-ovl.", dir="/var/tmp"))
            # What is looked at through the overlay has the upper directory's mode.
            mode = os.stat("/usr").st_mode & 0o7777
            for name in ("upper", "work"):
                (top / name).mkdir()
                (top / name).chmod(mode)
            _mount(f"lowerdir=usr,upperdir={top}/upper,workdir={top}/work")
            mark = _STATE / booted.name
            mark.mkdir(parents=True, exist_ok=True)
            (mark / _MARK).touch()
        return top


def _mount(options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir("/")  # lowerdir is relative: a path with a colon in it would be two
        if libc.mount(b"overlay", b"/usr", b"overlay", 0, options.encode()):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), "/usr")
    finally:
        os.fchdir(here)
        os.close(here)
