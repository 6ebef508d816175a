"""Switch, upgrade: an image is pulled into a sysroot's repository and deployed from there."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bridge import limits
from bridge.errors import BridgeError, NotFound, UsageError
from bridge.oci.model import Descriptor, Platform
from bridge.oci.reference import ImageReference, origin_form, parse_origin
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.plan import Depth, Mode, plan
from bridge.pull.progress import Progress, Stage
from bridge.pull.pull import preview
from bridge.pull.refnames import image_ref
from bridge.pull.report import Deployed, TransferPlan, TransferReport
from bridge.pull.resolve import Resolved, resolve
from bridge.pull.source import open_source
from bridge.registry.options import NetworkOptions
from bridge.sysroot import (
    bls,
    cached_update,
    deploy,
    files,
    make_space,
    replaced,
    selinux_off,
    staged,
    staging,
)
from bridge.sysroot.cleanup import cleanup
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.initialise import initialise
from bridge.sysroot.origin import Origin
from bridge.sysroot.settings import DeploymentSettings
from bridge.sysroot.sysroot import State, Sysroot


@dataclass(frozen=True, slots=True)
class Check:
    """What an upgrade would do, from the manifest alone."""

    reference: str
    changed: bool
    current: str | None
    """Digest of the manifest that the current deployment was made from."""
    available: str
    version: str | None
    layers: tuple[Descriptor, ...] = field(default=())
    """Those of the new image that are not in the store."""
    image_bytes: int = 0

    @property
    def transfer_bytes(self) -> int:
        """Blob bytes that an upgrade would move."""
        return sum(layer.size for layer in self.layers)


def tracked(sysroot: Sysroot) -> ImageReference:
    """Return the image that the current deployment follows; `NotFound` if it follows none."""
    current = sysroot.load().current
    if current is not None and current.problem:
        raise BridgeError(
            f"it is not known which image deployment {current.name} follows: {current.problem}; "
            "use: bootc-py switch IMAGE"
        )
    if current is None or current.image_reference is None:
        raise NotFound(f"{sysroot.path} has no deployment of an image; use: bootc-py switch IMAGE")
    return parse_origin(current.image_reference)


def switch(
    path: str | Path,
    reference: ImageReference,
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    retain: bool = False,
    depth: Depth = Depth.CHUNKS,
    keep: int | None = None,
    labelled: bool = True,
) -> TransferReport:
    """Make the sysroot at `path` boot the image `reference` from the next boot on.

    An empty directory is made a sysroot first. Where that image is what boots next already,
    nothing is deployed. Images that no deployment needs any more are dropped, unless `retain`.
    Where the image has an SELinux policy its files are labelled by it, unless not `labelled`;
    then SELinux is off, and `upgrade` does the same.
    The sysroot's lock is held from beginning to end: what was pulled is what is deployed.
    On the running system the deployment is staged, where something is there to finalise it.
    Of deployments `keep` stay, or as many as the host's settings say.
    """
    progress = progress or Progress()
    with initialise(path) as sysroot, sysroot.locked():
        _refuse_layered(sysroot)
        return _update(
            sysroot,
            reference,
            network,
            progress,
            depth,
            retain=retain,
            settings=_keeping(keep),
            labelled=labelled,
        )


def upgrade(
    path: str | Path,
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    depth: Depth = Depth.CHUNKS,
    download_only: bool = False,
    keep: int | None = None,
    labelled: bool = True,
) -> TransferReport:
    """Bring the newest state of the tracked image to the next boot of the sysroot at `path`.

    With `download_only` it is brought here, and staged where that is done, but not for the next
    boot: `use_downloaded` does the rest. It is labelled for SELinux where the current deployment
    is and `labelled` is true.
    """
    progress = progress or Progress()
    with Sysroot.open(path, writable=True) as sysroot, sysroot.locked():
        _refuse_layered(sysroot)
        current = sysroot.load().current
        labelled = labelled and (current is None or selinux_off.is_labelled(current))
        return _update(
            sysroot,
            tracked(sysroot),
            network,
            progress,
            depth,
            download_only=download_only,
            settings=_keeping(keep),
            labelled=labelled,
        )


def use_downloaded(path: str | Path, *, progress: Progress | None = None) -> Deployment:
    """Have the sysroot at `path` boot next what was downloaded only; no network is asked.

    That is the staged deployment, or else the newest state of the tracked image in the store.
    Raises `NotFound` where nothing newer than what boots next is there.
    """
    progress = progress or Progress()
    with Sysroot.open(path, writable=True) as sysroot, sysroot.locked():
        _refuse_layered(sysroot)
        state = sysroot.load_to_change()
        if state.staged is not None and state.staged_locked:
            staged.unlock()
            sysroot.bump()
            return state.staged
        reference = tracked(sysroot)
        commit = refs.current(sysroot.repo, image_ref(reference))
        labelled = state.current is None or selinux_off.is_labelled(state.current)
        origin = Origin.for_image(origin_form(reference), labelled=labelled)
        if commit is None or (state.next is not None and _is(state.next, commit, origin)):
            raise NotFound("nothing was downloaded that does not boot next already")
        progress.stage(Stage.DEPLOYING)
        return deploy_and_drop(
            sysroot, commit, origin, progress, stage=staging.how(sysroot, progress.message)
        ).deployment


def boots_another(path: str | Path) -> bool:
    """Return whether another deployment than the running one is what boots next."""
    with Sysroot.open(path) as sysroot:
        if not sysroot.is_booted:
            raise UsageError(f"{path} is not the running system, so there is nothing to restart")
        state = sysroot.load()
        return state.next is not None and not state.next.is_same(state.booted)


def preview_switch(
    path: str | Path,
    reference: ImageReference,
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    depth: Depth = Depth.CHUNKS,
) -> TransferPlan:
    """Return what `switch` would move; nothing is made of a directory that is no sysroot yet."""
    with ExitStack() as stack:
        repo = None
        with suppress(NotFound):
            repo = stack.enter_context(Sysroot.open(path, writable=True)).repo
        return preview(
            repo, reference, network=network, bootable=True, progress=progress, depth=depth
        )


def preview_upgrade(
    path: str | Path,
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    depth: Depth = Depth.CHUNKS,
) -> TransferPlan:
    """Return what `upgrade` would move."""
    with Sysroot.open(path, writable=True) as sysroot:
        return preview(
            sysroot.repo,
            tracked(sysroot),
            network=network,
            bootable=True,
            progress=progress,
            depth=depth,
        )


def check(path: str | Path, *, network: NetworkOptions) -> Check:
    """Ask whether there is something newer; only the manifest and the configuration are read."""
    with ExitStack() as stack:
        sysroot = stack.enter_context(Sysroot.open(path, writable=os.geteuid() == 0))
        reference = tracked(sysroot)
        source = open_source(reference, network, sysroot.repo, stack)
        found = resolve(source, Platform.host(), sysroot.repo)
        current = sysroot.load().current
        assert current is not None
        try:
            stored = images.load(sysroot.repo, str(reference), current.checksum)
        except BridgeError:
            stored = None
        digest = None if stored is None else stored.manifest_digest
        with suppress(BridgeError, OSError):  # for `status`; who may only read can check as well
            _keep_seen(sysroot.repo, current.checksum, found, digest)
        return Check(
            reference=str(reference),
            changed=digest != found.manifest.digest,
            current=digest,
            available=found.manifest.digest,
            version=found.config.labels.get("org.opencontainers.image.version"),
            layers=tuple(
                each.layer
                for each in plan(sysroot.repo, found.manifest, found.config)
                if each.mode is Mode.WHOLE
            ),
            image_bytes=found.manifest.image_bytes,
        )


def _keep_seen(repo: Repository, commit: str, found: Resolved, current: str | None) -> None:
    if current is None:
        return  # nothing can be told of what cannot be read
    if found.manifest.digest == current:
        cached_update.forget(repo, commit)
    else:
        manifest = found.manifest
        cached_update.write(repo, commit, manifest.digest, manifest.raw, found.config.raw)


def _refuse_layered(sysroot: Sysroot) -> None:
    """Raise `BridgeError` where rpm-ostree has changed what runs: an update would lose that."""
    current = sysroot.load().current
    if current is not None and current.origin is not None and current.origin.incompatible:
        raise BridgeError(
            f"deployment {current.name} was changed by rpm-ostree (packages or overrides), which "
            "an image cannot have; undo that with `rpm-ostree reset` and reboot, or update with "
            "rpm-ostree"
        )


def _keeping(keep: int | None) -> DeploymentSettings | None:
    if keep is None:
        return None
    if keep < limits.DEPLOYMENTS_KEPT:
        raise UsageError(
            f"{keep} deployments are too few: what runs and what boots next are "
            f"{limits.DEPLOYMENTS_KEPT}"
        )
    return DeploymentSettings(keep=keep)


def _update(
    sysroot: Sysroot,
    reference: ImageReference,
    network: NetworkOptions,
    progress: Progress,
    depth: Depth,
    *,
    retain: bool = False,
    download_only: bool = False,
    settings: DeploymentSettings | None = None,
    labelled: bool = True,
) -> TransferReport:
    # Before anything moves, for they may be wrong.
    settings = settings or deploy.host_settings(sysroot, sysroot.load())
    report = make_space.pull_with_room(
        sysroot, reference, network, progress, depth, retain=retain, labelled=labelled
    )
    started = time.monotonic()
    origin = Origin.for_image(origin_form(reference), labelled=labelled)
    state = sysroot.load()
    wanted = [each for each in state.all if _is(each, report.commit, origin)]
    if state.next is not None and state.next in wanted:
        if download_only and state.next.staged:
            staged.lock()
            sysroot.bump()
        _finish(sysroot, progress, retain=retain)
        report.changed = False
        report.deployment = _deployed(state.next, sysroot.load())
    elif download_only and (
        wanted or (stage := staging.how(sysroot, progress.message, locked=True)) is None
    ):
        # It is in the store, or staged already and locked; nothing boots differently for that.
        report.changed = report.store.new_objects > 0
        report.deployment = _deployed(wanted[0], state) if wanted else None
    elif state.staged is not None and state.staged in wanted:
        staged.unlock()
        sysroot.bump()
        report.changed = True
        report.deployment = _deployed(state.staged, sysroot.load())
    else:
        progress.stage(Stage.DEPLOYING)
        if not download_only:
            stage = staging.how(sysroot, progress.message)
        done = deploy_and_drop(
            sysroot, report.commit, origin, progress, retain=retain, stage=stage, settings=settings
        )
        report.changed = True
        report.deployment = _deployed(done.deployment, done.state)
    report.seconds.deploy = time.monotonic() - started
    report.seconds.total += report.seconds.deploy
    return report


def _deployed(deployment: Deployment, state: State) -> Deployed:
    entry = None
    if not deployment.staged:
        entry = bls.file_name(len(state.deployments) - deployment.index)
    locked = deployment.staged and state.staged_locked
    return Deployed(deployment.checksum, deployment.serial, entry, deployment.staged, locked)


def _is(deployment: Deployment, commit: str, origin: Origin) -> bool:
    return (
        deployment.checksum == commit
        and deployment.image_reference == origin.image_reference
        and selinux_off.is_labelled(deployment) == origin.labelled
    )


def deploy_and_drop(
    sysroot: Sysroot,
    commit: str,
    origin: Origin,
    progress: Progress,
    *,
    retain: bool = False,
    stage: deploy.Stage | None,
    settings: DeploymentSettings | None = None,
    stateroot: str | None = None,
    arguments: deploy.KernelArguments | None = None,
) -> deploy.Deployed:
    """Deploy as `deploy.deploy`, and unless `retain` drop the images that this replaces."""
    unfinished = replaced.note(sysroot, () if retain else sysroot.load().all)
    done = deploy.deploy(
        sysroot,
        commit,
        origin,
        stateroot=stateroot,
        arguments=arguments or selinux_off.arguments(sysroot, commit, origin),
        stage=stage,
        settings=settings,
    )
    if stage is not None and not retain:
        return done  # what goes, goes at shutdown; the next update that finds the note prunes
    with files.after(f"{done.deployment.name} boots next"):
        if retain or not (done.removed or unfinished):
            replaced.forget_note(sysroot.repo)
        else:
            make_space.collect(sysroot, progress)
    return done


def _finish(sysroot: Sysroot, progress: Progress, *, retain: bool) -> None:
    """Finish an update that was cut off, or failed, after it had made its deployment boot next."""
    if replaced.noted(sysroot.repo) is None or sysroot.load().staged is not None:
        return
    with sysroot.locked():
        cleanup(sysroot, sysroot.load_to_change())
        if retain:
            replaced.forget_note(sysroot.repo)
        else:
            make_space.collect(sysroot, progress)
