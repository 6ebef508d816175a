"""Write a new boot order: boot entries, kernels and links, and the one step that makes it live.

As libostree's ostree_sysroot_write_deployments. Everything new is written beside the old and
synced; then one rename (of `/boot/loader`, or of `ostree/boot.N` when /boot does not change)
switches from old to new. Cut off anywhere, the machine boots by the old order or by the new one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from bridge.errors import BridgeError
from bridge.ostree import durable
from bridge.sysroot import bls, bootentry, bootlinks, files, kernel, loaders
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import State, Sysroot

_IN_DOUBT = "the new boot order may be in place; `status` tells"


def write(sysroot: Sysroot, state: State, deployments: Sequence[Deployment]) -> State:
    """Make `deployments` the boot order of the sysroot, whose lock is held; return its new state.

    The deployments' directories must be there. Those of the old order that are not in the new one
    stay on disk until `cleanup`. Raises `BridgeError`, `NoSpace`, `MalformedImage`; the old order
    is live then, unless it was the last sync that failed, as the message says.
    """
    booted = state.booted
    if booted is not None and not any(each.is_same(booted) for each in deployments):
        raise BridgeError("the booted deployment cannot be taken out of the boot order")
    with files.doing(f"writing the boot order of {sysroot.path}"):
        if not _is_unchanged(state, deployments):
            if _needs_bootloader(sysroot, state, deployments):
                _swap_loader(sysroot, state, deployments)
            else:
                _swap_links(sysroot, state, deployments)
        with files.doing(_IN_DOUBT):
            sysroot.bump()
    return sysroot.load()


def use_loader(sysroot: Sysroot, name: str) -> None:
    """Keep the boot loader `name` up to date from now on, with the entries there are to begin with.

    The sysroot's lock is held. Raises `UsageError` for a loader that is not known, and what the
    loader raises.
    """
    chosen = loaders.named(name)
    state = sysroot.load()
    with files.doing(f"setting up the boot loader {name}"):
        with files.directory(sysroot.boot_fd, f"loader.{state.bootversion}") as fd:
            chosen.prepare(sysroot.boot_fd, fd, [each.entry for each in state.deployments])
        chosen.publish(sysroot.boot_fd, [each.entry for each in state.deployments])
        _sync(sysroot)
        sysroot.repo.set_value(*loaders.KEY, None if name == "none" else name)


def _is_unchanged(state: State, deployments: Sequence[Deployment]) -> bool:
    return (
        not state.problems
        and len(deployments) == len(state.deployments)
        and all(
            new.is_same(old) and new.kargs == old.kargs
            for new, old in zip(deployments, state.deployments, strict=True)
        )
    )


def _needs_bootloader(sysroot: Sysroot, state: State, deployments: Sequence[Deployment]) -> bool:
    """Tell whether /boot has to change: its entries name kernels, arguments and versions."""
    if len(deployments) != len(state.deployments) or state.problems:
        return True
    return any(
        (new.bootcsum, new.stateroot, new.kargs, commit_version(sysroot, new))
        != (old.bootcsum, old.stateroot, old.kargs, commit_version(sysroot, old))
        or new.entry.get_all("initrd")[1:] != old.entry.get_all("initrd")[1:]
        for new, old in zip(deployments, state.deployments, strict=True)
    )


def commit_version(sysroot: Sysroot, deployment: Deployment) -> str | None:
    """Return the commit's metadata key `version`; `None` when it has none or cannot be read."""
    try:
        version = sysroot.repo.read_commit(deployment.checksum).metadata.get("version")
    except BridgeError:
        return None
    return version if isinstance(version, str) else None


def _swap_links(sysroot: Sysroot, state: State, deployments: Sequence[Deployment]) -> None:
    new = 1 - state.subbootversion
    bootlinks.create(sysroot.ostree_fd, f"boot.{state.bootversion}.{new}", deployments)
    _sync(sysroot)
    with files.doing(_IN_DOUBT):
        bootlinks.swap(sysroot.ostree_fd, state.bootversion, new)


def _swap_loader(sysroot: Sysroot, state: State, deployments: Sequence[Deployment]) -> None:
    new = 1 - state.bootversion
    directory = f"loader.{new}"
    if not state.problems:
        # A loader that was left behind goes by the links that are about to be replaced.
        sysroot.loader.publish(sysroot.boot_fd, [each.entry for each in state.deployments])
    durable.remove_tree(directory, sysroot.boot_fd)
    entries = _install(sysroot, state, new, deployments)
    with files.directory(sysroot.boot_fd, f"{directory}/entries", create=0o755) as fd:
        for place, entry in enumerate(entries):
            name = bls.file_name(len(entries) - place)
            durable.replace_file(name, bls.render(entry).encode(), fd)
    with files.directory(sysroot.boot_fd, directory) as fd:
        sysroot.loader.prepare(sysroot.boot_fd, fd, entries)
    subbootversion = 1 - sysroot.subbootversion(new)
    bootlinks.create(sysroot.ostree_fd, f"boot.{new}.{subbootversion}", deployments)
    bootlinks.swap(sysroot.ostree_fd, new, subbootversion)
    if files.lstat(sysroot.boot_fd, "boot") is None:
        # So that a path with /boot before it and one without both work, whatever is mounted.
        os.symlink(".", "boot", dir_fd=sysroot.boot_fd)
    durable.remove_tree("loader.tmp", sysroot.boot_fd)
    os.symlink(directory, "loader.tmp", dir_fd=sysroot.boot_fd)
    _sync(sysroot)
    os.rename("loader.tmp", "loader", src_dir_fd=sysroot.boot_fd, dst_dir_fd=sysroot.boot_fd)
    with files.doing(_IN_DOUBT):
        os.fsync(sysroot.boot_fd)
        durable.syncfs(sysroot.boot_fd)
        sysroot.loader.publish(sysroot.boot_fd, entries)


def _install(
    sysroot: Sysroot, state: State, bootversion: int, deployments: Sequence[Deployment]
) -> list[bls.Entry]:
    """Put every deployment's kernel into /boot; return their entries in boot order."""
    show_stateroot = len({each.stateroot for each in deployments}) > 1
    links = bootlinks.boot_links(deployments, bootversion)
    entries: list[bls.Entry] = []
    for index, (each, link) in enumerate(zip(deployments, links, strict=True)):
        with files.directory(sysroot.ostree_fd, each.path) as tree:
            found = kernel.find(tree, f"deployment {each.name}", each.bootcsum)
            is_new = not any(each.is_same(old) for old in state.deployments)
            kernel.install(found, tree, sysroot.boot_fd, each.stateroot, check_content=is_new)
            version = commit_version(sysroot, each)
            title = bootentry.title(tree, each, index, version, show_stateroot)
        prefix = "/boot/" if sysroot.bootprefix else "/"
        entries.append(
            bootentry.compose(each, found, link, title, len(deployments) - index, prefix)
        )
    return entries


def _sync(sysroot: Sysroot) -> None:
    durable.syncfs(sysroot.fd)
    durable.syncfs(sysroot.ostree_fd)
    durable.syncfs(sysroot.boot_fd)
