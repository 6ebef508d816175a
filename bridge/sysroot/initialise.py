"""Make a sysroot and its stateroots: `ostree admin init-fs --modern` and `os-init`."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.errors import UsageError
from bridge.ostree.repository import Repository
from bridge.sysroot import files
from bridge.sysroot.sysroot import Sysroot, check_stateroot

DEFAULT_STATEROOT = "default"


def initialise(path: str | Path, stateroot: str = DEFAULT_STATEROOT) -> Sysroot:
    """Make the directory `path` a sysroot with one stateroot, and open it.

    The directory may hold a mounted `boot`, an empty `lost+found` and nothing else; one that is a
    sysroot already is left as it is, apart from a missing stateroot. Raises `UsageError` for a
    directory with other things in it.

    `/boot` and `/ostree` are all that is made, as by `init-fs --modern`: the rest comes from the
    deployment that is mounted over it. Boot entries name kernels below `/boot` unless that is a
    file system of its own, for then a boot loader sees it as its root (`sysroot.bootprefix`). No
    boot loader's configuration is generated from the entries (`sysroot.bootloader=none`).
    """
    check_stateroot(stateroot)
    path = Path(path)
    if path.resolve() == Path("/"):
        # The running system: never to be made one, and perhaps mounted read-only.
        return Sysroot.open(path, writable=True)
    with files.doing(f"making a sysroot of {path}"):
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "ostree" / "repo" / "config").exists():
            present = {name for name in os.listdir(path) if name != "lost+found"} - {"boot"}
            # A run that was cut off leaves `ostree` with no config in its repository.
            if present - {"ostree"}:
                raise UsageError(
                    f"{path} is neither empty nor an OSTree sysroot: it has "
                    f"{', '.join(sorted(present)[:3])}; give an empty directory"
                )
            (path / "boot").mkdir(mode=0o755, exist_ok=True)
            (path / "ostree").mkdir(mode=0o755, exist_ok=True)
            (path / "ostree" / "deploy").mkdir(mode=0o755, exist_ok=True)
            _create_repository(path / "ostree" / "repo", bootprefix=not (path / "boot").is_mount())
    sysroot = Sysroot.open(path, writable=True)
    with files.doing(f"making the stateroot {stateroot} in {path}"):
        add_stateroot(sysroot, stateroot)
    return sysroot


def add_stateroot(sysroot: Sysroot, stateroot: str) -> None:
    """Make the stateroot when it is missing, with an empty `var`.

    libostree since 2024.3 does the same: the first deployment fills `var` from its image.
    """
    check_stateroot(stateroot)
    with files.directory(sysroot.ostree_fd, "deploy", create=0o755) as fd:
        missing = files.lstat(fd, f"{stateroot}/var") is None
        files.make_directories(fd, f"{stateroot}/var")
    if missing:
        sysroot.bump()


def _create_repository(path: Path, *, bootprefix: bool) -> None:
    prefix = ("sysroot", "bootprefix", str(bootprefix).lower())
    Repository.create(path, "bare", (("sysroot", "bootloader", "none"), prefix)).close()
