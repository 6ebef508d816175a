"""Room in /boot, looked at before an image is pulled that is going to be deployed.

The new kernel is not known then, so the current deployment's is the measure; the check that
counts is the deploy's own, when the new one is there and nothing was changed yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection

from bridge import limits
from bridge.errors import NoSpace
from bridge.sysroot import files, kernel, retention
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import State, Sysroot

KERNEL_DIRECTORY = re.compile(r".+-([0-9a-f]{64})")
"""In `boot/ostree`: STATEROOT-BOOTCSUM."""


def freed(sysroot: Sysroot, needed: Collection[str]) -> int:
    """Return the bytes in /boot of all kernels whose checksum is not among the needed ones."""
    try:
        with files.directory(sysroot.boot_fd, "ostree") as fd:
            names = os.listdir(fd)
    except FileNotFoundError:
        return 0
    found = ((name, KERNEL_DIRECTORY.fullmatch(name)) for name in names)
    return sum(
        kernel.size_in_boot(sysroot.boot_fd, f"ostree/{name}")
        for name, match in found
        if match is not None and match[1] not in needed
    )


def look_ahead(sysroot: Sysroot, tell: Callable[[str], None]) -> None:
    """Call `tell` with a line where a new kernel may not fit into /boot.

    Raises `NoSpace` where not even a boot entry would, whatever goes with the next deployment.
    Says nothing where /boot is on the file system of the deployments: kernels are links there.
    """
    with files.doing(f"looking at the room in /boot of {sysroot.path}"):
        if os.fstat(sysroot.ostree_fd).st_dev == os.fstat(sysroot.boot_fd).st_dev:
            return
        state = sysroot.load()
        kept = _kept(state)
        where = os.fstatvfs(sysroot.boot_fd)
        room = where.f_bavail * where.f_frsize
        room += freed(sysroot, {each.bootcsum for each in kept})
        # A file each, a file that replaces each, three directories.
        if room < (2 * (len(kept) + 1) + 3) * where.f_frsize:
            raise NoSpace(
                f"/boot of {sysroot.path} has no room for a boot entry: {room} bytes are left; "
                "remove files from it, or a pinned deployment, or make it larger"
            )
        current = state.current
        if current is None:
            return
        name = f"ostree/{current.stateroot}-{current.bootcsum}"
        wanted = kernel.size_in_boot(sysroot.boot_fd, name) + limits.BOOT_MARGIN
        if wanted > room:
            tell(
                f"warning: /boot of {sysroot.path} may have no room for another kernel: the "
                f"current one takes {_mib(wanted)} MiB with some to spare, {_mib(room)} MiB are "
                "left; an image that brings a new kernel will not be deployed"
            )


def _kept(state: State) -> list[Deployment]:
    if state.current is None:
        return []
    stateroot = state.current.stateroot
    merge_from = state.merge_deployment(stateroot)
    return [each for each in state.deployments if retention.must_stay(each, stateroot, merge_from)]


def _mib(size: int) -> int:
    return -(-size // limits.MIB)
