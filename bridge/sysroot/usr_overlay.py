"""A writable `/usr` until the next boot, as `ostree admin unlock` makes it.

An overlay whose upper directory is in `/var/tmp`; the deployment itself stays as it is. That it is
there, `/run/ostree/deployment-state/CHECKSUM.SERIAL/unlocked-development` says. Source: libostree,
ostree-sysroot.c, ostree_sysroot_deployment_unlock, as it was up to 2024.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import shutil
import stat
import tempfile
from pathlib import Path

from bridge.errors import BridgeError
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import Sysroot

RUN = Path("/run/ostree/deployment-state")
_LABEL = "security.selinux"


class Overlay(enum.Enum):
    """What lies over `/usr`, by libostree's names."""

    DEVELOPMENT = "development"
    """Writable until the next boot."""
    TRANSIENT = "transient"
    """Read-only, for who mounts it writable in a namespace of their own."""
    HOTFIX = "hotfix"
    """Writable, now and later."""


def over(deployment: Deployment) -> Overlay | None:
    """Return what lies over `/usr` of the running deployment."""
    for each in (Overlay.DEVELOPMENT, Overlay.TRANSIENT):
        if _mark(deployment, each).exists():
            return each
    origin = deployment.origin
    if origin is not None and origin.get("origin", "unlocked") == Overlay.HOTFIX.value:
        return Overlay.HOTFIX
    return None


def unlock(sysroot: Sysroot, where: Path = Path("/")) -> Path:
    """Make `/usr` of the running deployment writable until the next boot; the upper directory.

    No lock is taken, for the sysroot may be mounted read-only, and nothing in it changes; the mark
    is what excludes others. `where` is the running deployment's root. Raises `BridgeError` where
    nothing of this sysroot runs, or something lies over its `/usr` already.
    """
    booted = sysroot.load().booted
    if booted is None:
        raise BridgeError(f"{sysroot.path} is not the running system; only that has a /usr")
    already = over(booted)
    if already is not None:
        raise BridgeError(f"an overlay lies over /usr already, libostree's {already.value}")
    mark = _mark(booted, Overlay.DEVELOPMENT)
    with files.doing("making /usr writable"):
        mark.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mark.touch(exist_ok=False)
        try:
            top = _directories(where)
            try:
                _mount(where, f"lowerdir=usr,upperdir={top}/upper,workdir={top}/work")
            except BaseException:
                shutil.rmtree(top)
                raise
        except BaseException:
            mark.unlink()
            raise
    with contextlib.suppress(BridgeError, OSError):
        sysroot.bump()  # for who watches it; a read-only one is not watched for changes
    return top


def _mark(deployment: Deployment, overlay: Overlay) -> Path:
    return RUN / deployment.name / f"unlocked-{overlay.value}"


def _directories(where: Path) -> Path:
    """Make what the overlay is written to. What is seen of it in place of /usr is its upper
    directory: that has /usr's mode and label."""
    top = Path(tempfile.mkdtemp(prefix="ostree-unlock-ovl.", dir=where / "var/tmp"))
    usr = where / "usr"
    for name in ("upper", "work"):
        (top / name).mkdir()
        (top / name).chmod(stat.S_IMODE(usr.stat().st_mode))
        with contextlib.suppress(OSError):  # there is no label
            os.setxattr(top / name, _LABEL, os.getxattr(usr, _LABEL))
    return top


def _mount(where: Path, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(where)  # as libostree, which other tools recognise by lowerdir=usr
        if libc.mount(b"overlay", b"usr", b"overlay", 0, options.encode()):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(where / "usr"))
    finally:
        os.fchdir(here)
        os.close(here)
