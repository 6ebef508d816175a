"""Remove what no boot entry refers to, and name the deployed commits with refs.

As libostree's ostree_sysroot_prepare_cleanup. The repository is not pruned here: that is the
caller's, who knows the other refs.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

from bridge.ostree import durable, refs
from bridge.sysroot import bootlinks, files
from bridge.sysroot.boot_space import KERNEL_DIRECTORY
from bridge.sysroot.deployment import Deployment, parse_name
from bridge.sysroot.sysroot import State, Sysroot

_DEPLOYMENT_REF = re.compile(r"ostree/[01]/[01]/[0-9]+")


def cleanup(sysroot: Sysroot, state: State) -> None:
    """Bring disk and refs in line with the boot order `state`. The sysroot's lock is held.

    Half-made deployments of a run that was cut off go too. While some boot entry cannot be read,
    nothing is removed: it may be in use.
    """
    with files.doing(f"cleaning up {sysroot.path}"):
        if not state.problems:
            # Nothing goes before the order that does without it is on the disk, whoever wrote it.
            os.fsync(sysroot.boot_fd)
            os.fsync(sysroot.ostree_fd)
            # Nor before the boot loader's own copy of it, which a run that was cut off left behind.
            sysroot.loader.publish(sysroot.boot_fd, [each.entry for each in state.deployments])
            bootlinks.remove_others(sysroot.ostree_fd, state.bootversion, state.subbootversion)
            durable.remove_tree(f"loader.{1 - state.bootversion}", sysroot.boot_fd)
            _remove_deployments(sysroot, state)
            remove_kernels(sysroot, state)
        write_refs(sysroot, state)


def write_refs(sysroot: Sysroot, state: State) -> None:
    """Name the deployed commits `ostree/BOOTVERSION/SUBBOOTVERSION/INDEX`, so that none is pruned.

    New names come before old ones go.
    """
    wanted = {
        f"ostree/{state.bootversion}/{state.subbootversion}/{index}": each.checksum
        for index, each in enumerate(state.all)
    }
    present = refs.listing(sysroot.repo, "ostree/")
    for name, commit in wanted.items():
        if present.get(name) != commit:
            refs.write(sysroot.repo, name, commit)
    if not state.problems:
        for name in present:
            if name not in wanted and _DEPLOYMENT_REF.fullmatch(name):
                refs.delete(sysroot.repo, name)
        for turn in ("0/0", "0/1", "1/0", "1/1"):
            if turn != f"{state.bootversion}/{state.subbootversion}":
                # Refs that were never finished keep these directories.
                durable.remove_tree(f"{refs.HEADS}/ostree/{turn}", sysroot.repo.fd)


def remove_deployment(sysroot: Sysroot, deployment: Deployment) -> None:
    """Remove a deployment's directory with its origin; the running one is left alone."""
    with files.directory(sysroot.ostree_fd, f"deploy/{deployment.stateroot}") as top:
        with contextlib.suppress(FileNotFoundError):
            durable.remove_tree(f"backing/{deployment.name}", top)
        with files.directory(top, "deploy") as parent:
            with (
                contextlib.suppress(FileNotFoundError),
                files.directory(parent, deployment.name) as fd,
            ):
                if os.path.samestat(os.fstat(fd), os.stat("/")):
                    return
                files.set_immutable(fd, False)
            # The directory goes last: it is what says that the deployment is there.
            durable.remove_tree(f"{deployment.name}.origin", parent)
            durable.remove_tree(deployment.name, parent)


def _remove_deployments(sysroot: Sysroot, state: State) -> None:
    active = {each.path for each in state.all}
    with files.directory(sysroot.ostree_fd, "deploy") as top:
        for stateroot in sorted(os.listdir(top)):
            try:
                with files.directory(top, f"{stateroot}/deploy") as fd:
                    names = sorted(os.listdir(fd))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for name in {each.removesuffix(".origin") for each in names}:
                parsed = parse_name(name)
                if parsed is not None:
                    deployment = Deployment(stateroot, *parsed, bootcsum="")
                    if deployment.path not in active:
                        remove_deployment(sysroot, deployment)


def remove_kernels(sysroot: Sysroot, state: State) -> None:
    """Remove the kernels and initrds in /boot that no deployment of `state` boots with."""
    active = {each.bootcsum for each in state.deployments}
    overlays = {
        path.rpartition("/")[2]
        for each in state.deployments
        for path in each.entry.get_all("initrd")[1:]
    }
    with contextlib.suppress(FileNotFoundError), files.directory(sysroot.boot_fd, "ostree") as fd:
        for name in os.listdir(fd):
            match = KERNEL_DIRECTORY.fullmatch(name)
            if match is not None and match[1] not in active:
                durable.remove_tree(name, fd)
        with (
            contextlib.suppress(FileNotFoundError),
            files.directory(fd, "initramfs-overlays") as images,
        ):
            for name in os.listdir(images):
                found = files.lstat(images, name)
                if name not in overlays and found is not None and stat.S_ISREG(found.st_mode):
                    os.unlink(name, dir_fd=images)
