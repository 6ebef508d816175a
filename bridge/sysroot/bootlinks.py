"""`ostree/boot.N`: symbolic links from what the kernel command line says to a deployment.

    ostree/boot.1 -> boot.1.0
    ostree/boot.1.0/STATEROOT/BOOTCSUM/BOOTSERIAL -> ../../../deploy/STATEROOT/deploy/CHECKSUM.N

The first number, the bootversion, follows `/boot/loader`. The second, the subbootversion, lets
the links change without touching /boot, when new deployments boot with the same kernel and the
same arguments as those they replace.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from bridge.ostree import durable
from bridge.sysroot import files
from bridge.sysroot.deployment import BootLink, Deployment


def boot_links(deployments: Sequence[Deployment], bootversion: int) -> list[BootLink]:
    """Return each deployment's link; those that share a bootcsum are numbered in boot order."""
    counts: dict[str, int] = {}
    links: list[BootLink] = []
    for each in deployments:
        serial = counts.get(each.bootcsum, 0)
        counts[each.bootcsum] = serial + 1
        links.append(BootLink(bootversion, each.stateroot, each.bootcsum, serial))
    return links


def create(ostree_fd: int, directory: str, deployments: Sequence[Deployment]) -> None:
    """Make `ostree/DIRECTORY` (`boot.N.M`) anew with the links of all deployments."""
    durable.remove_tree(directory, ostree_fd)
    with files.directory(ostree_fd, directory, create=0o755) as top:
        for link, each in zip(boot_links(deployments, 0), deployments, strict=True):
            with files.directory(top, f"{link.stateroot}/{link.bootcsum}", create=0o755) as fd:
                os.symlink(f"../../../{each.path}", str(link.bootserial), dir_fd=fd)


def swap(ostree_fd: int, bootversion: int, subbootversion: int) -> None:
    """Make `boot.BOOTVERSION.SUBBOOTVERSION` the live one of its bootversion, in one step."""
    files.replace_link(ostree_fd, f"boot.{bootversion}", f"boot.{bootversion}.{subbootversion}")
    os.fsync(ostree_fd)


def remove_others(ostree_fd: int, bootversion: int, subbootversion: int) -> None:
    """Remove the links of every version but the live one."""
    other = 1 - bootversion
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"boot.{other}", dir_fd=ostree_fd)
    for name in (f"boot.{other}.0", f"boot.{other}.1", f"boot.{bootversion}.{1 - subbootversion}"):
        durable.remove_tree(name, ostree_fd)
