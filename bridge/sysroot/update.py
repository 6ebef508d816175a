"""Switch, upgrade: an image is pulled into a sysroot's repository and deployed from there."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import BridgeError, Busy, DamagedRepository, NotFound
from bridge.oci.model import Descriptor, Platform
from bridge.oci.reference import ImageReference, origin_form, parse_origin
from bridge.ostree.selinux import COMMIT_KEY
from bridge.pull import images
from bridge.pull.plan import Depth, Mode, plan
from bridge.pull.progress import Progress, Stage
from bridge.pull.pull import preview, pull
from bridge.pull.report import Deployed, TransferPlan, TransferReport
from bridge.pull.resolve import resolve
from bridge.pull.source import open_source
from bridge.registry.options import NetworkOptions
from bridge.sysroot import bls, boot_space, deploy, files, replaced
from bridge.sysroot.cleanup import cleanup
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.initialise import initialise
from bridge.sysroot.origin import Origin
from bridge.sysroot.sysroot import Sysroot

_SELINUX_OFF = "selinux=0"
"""The kernel's argument; bootc sets it, too, where SELinux is to be off."""


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
    labelled: bool = True,
) -> TransferReport:
    """Make the sysroot at `path` boot the image `reference` from the next boot on.

    An empty directory is made a sysroot first. Where that image is what boots next already,
    nothing is deployed. Images that no deployment needs any more are dropped, unless `retain`.
    Where the image has an SELinux policy its files are labelled by it, unless not `labelled`;
    then SELinux is off, and `upgrade` does the same.
    The sysroot's lock is held from beginning to end: what was pulled is what is deployed.
    """
    progress = progress or Progress()
    with initialise(path) as sysroot, sysroot.locked():
        return _update(
            sysroot, reference, network, progress, depth, retain=retain, labelled=labelled
        )


def upgrade(
    path: str | Path,
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    depth: Depth = Depth.CHUNKS,
    labelled: bool = True,
) -> TransferReport:
    """Bring the newest state of the tracked image to the next boot of the sysroot at `path`.

    It is labelled for SELinux where the current deployment is and `labelled` is true.
    """
    progress = progress or Progress()
    with Sysroot.open(path, writable=True) as sysroot, sysroot.locked():
        reference = tracked(sysroot)
        current = sysroot.load().current
        labelled = labelled and (current is None or _is_labelled(current))
        return _update(
            sysroot, reference, network, progress, depth, retain=False, labelled=labelled
        )


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
        sysroot = stack.enter_context(Sysroot.open(path))
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


def _update(
    sysroot: Sysroot,
    reference: ImageReference,
    network: NetworkOptions,
    progress: Progress,
    depth: Depth,
    *,
    retain: bool,
    labelled: bool,
) -> TransferReport:
    report = pull(
        sysroot.repo,
        reference,
        network=network,
        bootable=True,
        depth=depth,
        before_layers=lambda: boot_space.look_ahead(sysroot, progress.message),
        progress=progress,
        labelled=labelled,
    )
    started = time.monotonic()
    origin = Origin.for_image(origin_form(reference), labelled=labelled)
    first = next(iter(sysroot.load().deployments), None)
    if first is not None and _is(first, report.commit, origin):
        _finish(sysroot, progress, retain=retain)
        report.changed = False
        count = len(sysroot.load().deployments)
        report.deployment = Deployed(first.checksum, first.serial, bls.file_name(count))
    else:
        progress.stage(Stage.DEPLOYING)
        with sysroot.locked():
            done = _deploy(sysroot, report.commit, origin, progress, retain=retain)
        report.changed = True
        report.deployment = Deployed(
            done.deployment.checksum, done.deployment.serial, done.boot_entry
        )
    report.seconds.deploy = time.monotonic() - started
    report.seconds.total += report.seconds.deploy
    return report


def _is(deployment: Deployment, commit: str, origin: Origin) -> bool:
    return (
        deployment.checksum == commit
        and deployment.image_reference == origin.image_reference
        and _is_labelled(deployment) == origin.labelled
    )


def _is_labelled(deployment: Deployment) -> bool:
    return deployment.origin is None or deployment.origin.labelled


def _kernel_arguments(sysroot: Sysroot, commit: str, origin: Origin) -> deploy.KernelArguments:
    """Return what turns SELinux off where the files have no labels, and on again where they do.

    With a policy that is enforced, and no labels, a system would not come up.
    """
    state = sysroot.load()
    current = state.current
    before = state.merge_deployment(current.stateroot) if current is not None else None
    off = before is not None and _SELINUX_OFF in before.kargs
    unlabelled = sysroot.repo.read_commit(commit).metadata.get(COMMIT_KEY) == ""
    if unlabelled:
        return deploy.KernelArguments(append=() if off else (_SELINUX_OFF,))
    if before is not None and off and origin.labelled and not _is_labelled(before):
        return deploy.KernelArguments(delete=(_SELINUX_OFF,))
    return deploy.KernelArguments()


def _deploy(
    sysroot: Sysroot, commit: str, origin: Origin, progress: Progress, *, retain: bool
) -> deploy.Deployed:
    unfinished = replaced.note(sysroot, () if retain else sysroot.load().deployments)
    arguments = _kernel_arguments(sysroot, commit, origin)
    done = deploy.deploy(sysroot, commit, origin, arguments=arguments)
    with files.after(f"{done.deployment.name} boots next"):
        if retain or not (done.removed or unfinished):
            replaced.forget_note(sysroot.repo)
        else:
            _drop_replaced(sysroot, progress)
    return done


def _finish(sysroot: Sysroot, progress: Progress, *, retain: bool) -> None:
    """Finish an update that was cut off, or failed, after it had made its deployment boot next."""
    if replaced.noted(sysroot.repo) is None:
        return
    with sysroot.locked():
        cleanup(sysroot, sysroot.load_to_change())
        if retain:
            replaced.forget_note(sysroot.repo)
        else:
            _drop_replaced(sysroot, progress)


def _drop_replaced(sysroot: Sysroot, progress: Progress) -> None:
    progress.stage(Stage.PRUNING)
    try:
        replaced.drop(sysroot)
    except (Busy, DamagedRepository) as error:
        # The deployment stands, and nothing that was to be on the disk is not; the next update
        # goes on from the note.
        progress.message(f"warning: nothing was pruned: {error}")
