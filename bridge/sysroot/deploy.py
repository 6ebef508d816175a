"""Deploy a commit: check it out, merge `/etc`, and put it first in the boot order."""

from __future__ import annotations

import contextlib
import enum
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bridge.errors import BridgeError, MalformedImage
from bridge.ostree import checkout, durable
from bridge.sysroot import (
    bls,
    boot_order,
    boot_space,
    composefs,
    files,
    kargs,
    kargs_d,
    kernel,
    labels,
    retention,
    staged,
    stateroot_var,
)
from bridge.sysroot.cleanup import cleanup, remove_deployment, remove_kernels
from bridge.sysroot.deployment import Deployment, parse_name
from bridge.sysroot.etc_merge import EtcMerge, check, merge
from bridge.sysroot.initialise import DEFAULT_STATEROOT, add_stateroot
from bridge.sysroot.origin import Origin
from bridge.sysroot.pin import write_origin
from bridge.sysroot.settings import DeploymentSettings, load_deployments
from bridge.sysroot.sysroot import State, Sysroot, check_stateroot


@dataclass(frozen=True, slots=True)
class KernelArguments:
    """Changes to the kernel arguments that a new deployment inherits."""

    override: Sequence[str] | None = None
    """These instead of the inherited ones."""
    append: Sequence[str] = ()
    delete: Sequence[str] = ()

    def apply(self, inherited: kargs.Arguments) -> kargs.Arguments:
        """Return the new deployment's arguments; `UsageError` when one to delete is not there."""
        arguments = inherited if self.override is None else kargs.append((), self.override)
        for each in self.delete:
            arguments = kargs.delete(arguments, each)
        return kargs.without(kargs.append(arguments, self.append), "ostree")


class Stage(enum.Enum):
    """How a deployment is staged."""

    FINAL = "final"
    """To boot next."""
    LOCKED = "locked"
    """To be there only, until somebody wants it to boot next."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a deploy did."""

    deployment: Deployment
    merge: EtcMerge
    """Changes of `/etc` taken over."""
    removed: tuple[Deployment, ...] = ()
    """Deployments that the new one put out of the boot order."""
    state: State = field(default_factory=lambda: State(0, 0, ()))
    """The sysroot as it is now."""

    @property
    def boot_entry(self) -> str | None:
        """File name of the new boot entry in `/boot/loader/entries`; None while it is staged."""
        if self.deployment.staged:
            return None
        return bls.file_name(len(self.state.deployments) - self.deployment.index)


def deploy(
    sysroot: Sysroot,
    commit: str,
    origin: Origin,
    *,
    stateroot: str | None = None,
    merge_deployment: Deployment | None = None,
    arguments: KernelArguments | None = None,
    retain: bool = False,
    stage: Stage | None = None,
    settings: DeploymentSettings | None = None,
    complete_etc: Callable[[int], None] | None = None,
) -> Deployed:
    """Deploy `commit` of the sysroot's repository and make it what boots next.

    With `stage` it is not put into the boot order by now: libostree does that when the machine goes
    down, and merges `/etc` then; what stands in the way of that is raised by now. What was staged
    before goes.

    `stateroot` is by default that of the current deployment, else `default`; a missing one is
    made. `/etc` changes, kernel arguments and foreign keys of the boot entry come from
    `merge_deployment`, by default the booted deployment, or on a sysroot that is not booted the
    first one of the stateroot. Kept are the new, the booted and the merge deployment, those that
    are pinned, those of other stateroots, and what the settings say (by default the host's own);
    with `retain` all. Where /boot is too small for what is kept by the settings, that goes. The
    repository is not pruned. `complete_etc` gets the deployment's directory when its `/etc` is
    there, before that is labelled.

    Takes the sysroot's lock. Raises `Busy`, `MalformedImage` (no kernel, no os-release, a tree
    that cannot be deployed), `NoSpace`, `NotFound` or `DamagedRepository` (the commit),
    `UsageError` (kernel arguments), `BridgeError` (`/etc` conflict, file system). When it raises,
    what boots next is what it was, unless the message says that it is the new deployment.
    """
    with sysroot.locked(), files.doing(f"deploying {commit}"):
        before = sysroot.load_to_change()
        name = check_stateroot(stateroot or _stateroot(before))
        add_stateroot(sysroot, name)
        cleanup(sysroot, before)
        merge_from = merge_deployment or before.merge_deployment(name)
        new = Deployment(name, commit, _serial(sysroot, name, commit), "", origin=origin)
        changes = arguments or KernelArguments()
        try:
            # Arguments that were changed since the machine was started are with what is staged.
            pending = before.staged if _is_of(before.staged, name) else merge_from
            inherited = _Inherited(merge_from, pending, changes)
            new, merged = _prepare(
                sysroot, new, inherited, later=stage is not None, complete_etc=complete_etc
            )
            kept = list(before.deployments)
            if not retain:
                wanted = settings or host_settings(sysroot, before)
                kept = retention.kept(kept, name, merge_from, wanted, time.time())
            least = [each for each in kept if retention.must_stay(each, name, merge_from)]
            order, kept = _make_room(sysroot, before, new, kept, least)
            if stage is not None:
                _require_room(sysroot, new)
                _keep_with_libostree(sysroot, order, kept, least)
                return _stage(sysroot, new, merge_from, merged, stage)
            after = boot_order.write(sysroot, order, [new, *kept])
        except BaseException:
            # Whatever it was, the half-made deployment goes; cleanup would find it otherwise.
            with contextlib.suppress(OSError, BridgeError):
                if not any(each.is_same(new) for each in sysroot.load().all):
                    remove_deployment(sysroot, new)
            raise
        with files.after(f"{new.name} boots next"):
            cleanup(sysroot, after)
    deployed = next(each for each in after.deployments if each.is_same(new))
    removed = tuple(each for each in before.deployments if each not in kept)
    return Deployed(deployed, merged, removed, after)


@dataclass(frozen=True, slots=True)
class _Inherited:
    """Where a new deployment has from what it does not get from its image."""

    merge_from: Deployment | None
    kargs_from: Deployment | None
    changes: KernelArguments


def _is_of(deployment: Deployment | None, stateroot: str) -> bool:
    return deployment is not None and deployment.stateroot == stateroot


def host_settings(sysroot: Sysroot, state: State) -> DeploymentSettings:
    """Return the settings that the current deployment holds; `UsageError` where they are wrong."""
    if state.current is None:
        return DeploymentSettings()
    with files.directory(sysroot.ostree_fd, state.current.path) as tree:
        return load_deployments(tree)


def _keep_with_libostree(
    sysroot: Sysroot, state: State, kept: Sequence[Deployment], least: Sequence[Deployment]
) -> None:
    """Pin what the settings keep, and nothing else: libostree finalises with a rule of its own."""
    wanted_paths = {each.path for each in kept} - {each.path for each in least}
    for each in state.deployments:
        wanted = each.path in wanted_paths
        if each.origin is not None and not each.pinned and each.origin.kept != wanted:
            write_origin(sysroot, each, each.origin.with_kept(wanted))


def _stage(
    sysroot: Sysroot,
    new: Deployment,
    merge_from: Deployment | None,
    merged: EtcMerge,
    stage: Stage,
) -> Deployed:
    durable.syncfs(sysroot.ostree_fd)
    staged.write(
        staged.Staged(
            new.stateroot,
            new.checksum,
            new.serial,
            new.bootcsum,
            staged.merge_of(merge_from),
            new.kargs,
            new.entry.unknown,
            locked=stage is Stage.LOCKED,
        )
    )
    sysroot.bump()
    after = sysroot.load()
    with files.after(f"{new.name} is staged"):
        cleanup(sysroot, after)
    assert after.staged is not None
    return Deployed(after.staged, merged, (), after)


def _stateroot(state: State) -> str:
    return state.current.stateroot if state.current else DEFAULT_STATEROOT


def _serial(sysroot: Sysroot, stateroot: str, commit: str) -> int:
    with files.directory(sysroot.ostree_fd, f"deploy/{stateroot}/deploy", create=0o755) as fd:
        parsed = [parse_name(name) for name in os.listdir(fd)]
    taken = [found[1] for found in parsed if found is not None and found[0] == commit]
    return max(taken, default=-1) + 1


def _prepare(
    sysroot: Sysroot,
    new: Deployment,
    inherited: _Inherited,
    *,
    later: bool,
    complete_etc: Callable[[int], None] | None,
) -> tuple[Deployment, EtcMerge]:
    """Make the new deployment's directory complete, with everything but a boot entry; or but for
    what libostree is going to do later, when it finalises it."""
    merged = EtcMerge()
    merge_from = inherited.merge_from
    parent, _, name = new.path.rpartition("/")
    with files.directory(sysroot.ostree_fd, parent) as fd:
        durable.remove_tree(name, fd)
        checkout.checkout(sysroot.repo, new.checksum, fd, name)
        with files.directory(fd, name) as tree:
            composefs.add(sysroot, new, tree)
            bootcsum = kernel.find(tree, f"image {new.checksum}").bootcsum
            options = inherited.changes.apply(_brought(sysroot, inherited.kargs_from, tree))
            kargs.check(options)
            _make_etc(sysroot, new, tree)
            stateroot_var.initialise(sysroot, new, tree)
            if merge_from is not None:
                merged = _merge_etc(sysroot, merge_from, tree, check if later else merge)
            if complete_etc is not None:
                complete_etc(tree)
            labels.label(sysroot, new, tree)
            # systemd's ConditionNeedsUpdate= services run when these stamps are missing.
            for stamp in (f"{new.path}/etc", f"deploy/{new.stateroot}/var"):
                _unlink(sysroot.ostree_fd, stamp, ".updated")
            if merge_from is not None and merge_from.booted:
                # The running system's /var may be a file system of its own.
                _unlink(sysroot.fd, "var", ".updated")
            if new.origin is not None:
                durable.replace_file(f"{name}.origin", new.origin.text.encode(), fd)
            files.set_immutable(tree, not later)
    entry = bls.Entry(merge_from.entry.unknown if merge_from else ())
    return replace(
        new, bootcsum=bootcsum, entry=entry.replace("options", kargs.join(options))
    ), merged


def _brought(sysroot: Sysroot, merge_from: Deployment | None, tree: int) -> kargs.Arguments:
    """Return a deployment's kernel arguments, changed as those that images bring did."""
    brings = kargs_d.read(tree, "the new image")
    if merge_from is None:
        return kargs_d.change((), (), brings)
    with files.directory(sysroot.ostree_fd, merge_from.path) as old:
        before = kargs_d.read(old, f"deployment {merge_from.name}")
    return kargs_d.change(merge_from.kargs, before, brings)


def _make_etc(sysroot: Sysroot, new: Deployment, tree: int) -> None:
    """Copy the image's `/usr/etc` to `/etc`: the copy is the administrator's to change."""
    defaults, etc = files.lstat(tree, "usr/etc"), files.lstat(tree, "etc")
    if etc is not None:
        if not stat.S_ISDIR(etc.st_mode):
            raise MalformedImage(f"/etc of {new.checksum} is no directory")
        with files.directory(tree, "etc") as fd:
            empty = not os.listdir(fd)
        if not empty:
            raise MalformedImage(f"{new.checksum} has files in /etc, which belong into /usr/etc")
        if defaults is not None:
            os.rmdir("etc", dir_fd=tree)
    if defaults is not None:
        checkout.checkout(
            sysroot.repo, new.checksum, tree, "etc", subpath="usr/etc", hardlink=False
        )
    elif etc is None:
        os.mkdir("etc", 0o755, dir_fd=tree)


def _merge_etc(
    sysroot: Sysroot,
    merge_from: Deployment,
    tree: int,
    merge_or_check: Callable[[int, int, int], EtcMerge],
) -> EtcMerge:
    with (
        files.directory(sysroot.ostree_fd, merge_from.path) as old,
        files.directory(tree, "etc") as new_etc,
        contextlib.ExitStack() as opened,
    ):
        try:
            defaults = opened.enter_context(files.directory(old, "usr/etc"))
            etc = opened.enter_context(files.directory(old, "etc"))
        except FileNotFoundError:
            return EtcMerge()
        return merge_or_check(defaults, etc, new_etc)


def _unlink(top: int, path: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError), files.directory(top, path) as fd:
        os.unlink(name, dir_fd=fd)


def _make_room(
    sysroot: Sysroot,
    before: State,
    new: Deployment,
    kept: list[Deployment],
    least: list[Deployment],
) -> tuple[State, list[Deployment]]:
    """Where /boot is too small for the old kernels and the new one, write a boot order without what
    is to go anyway, as libostree does, and without as much as it takes of what only the settings
    keep, the last first.

    Returns the order as it is now, and what is kept. Where all that is not enough nothing changes.
    """
    with files.directory(sysroot.ostree_fd, new.path) as tree:
        found = kernel.find(tree, f"image {new.checksum}", new.bootcsum)
        short = kernel.shortage(found, tree, sysroot.boot_fd, new.stateroot)
    if short <= 0:
        return before, kept
    going = [each for each in kept if each not in least]
    for count in range(len(going) + 1):
        staying = [each for each in kept if each not in going[len(going) - count :]]
        needed = {new.bootcsum, *(each.bootcsum for each in staying)}
        if staying and short <= boot_space.freed(sysroot, needed):
            order = boot_order.write(sysroot, before, staying)
            remove_kernels(sysroot, order)
            return order, staying
    return before, kept


def _require_room(sysroot: Sysroot, new: Deployment) -> None:
    """Raise `NoSpace` where the new kernel does not fit into /boot, while somebody is there to see
    it: libostree would find that out when the machine goes down."""
    with files.directory(sysroot.ostree_fd, new.path) as tree:
        found = kernel.find(tree, f"image {new.checksum}", new.bootcsum)
        kernel.require_room(found, tree, sysroot.boot_fd, new.stateroot)
