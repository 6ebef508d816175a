"""Heal a sysroot: its repository from where its images came from, and its deployments from that."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from bridge.errors import BridgeError, DamagedRepository
from bridge.oci.reference import ImageReference, parse_origin
from bridge.ostree import refs
from bridge.ostree.fsck import Fault
from bridge.pull import images, repair
from bridge.pull.progress import Progress
from bridge.pull.refnames import image_ref
from bridge.pull.repair import Repair
from bridge.pull.restore_refs import missing_refs
from bridge.registry.options import NetworkOptions
from bridge.sysroot import cleanup, deployed_files
from bridge.sysroot.deployed_files import DeployedFault
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import State, Sysroot


def heal(
    sysroot: Sysroot,
    faults: Iterable[Fault],
    *,
    network: NetworkOptions,
    progress: Progress | None = None,
    only: Iterable[ImageReference] = (),
) -> tuple[Repair, list[DeployedFault]]:
    """Repair the repository, name the deployed commits by refs, and mend the deployments' files.

    Returns what became of the repository, and the files that were put right. The sysroot's lock
    is held; raises `Busy`, `NoSpace`, and `BridgeError` where a file cannot be replaced.
    """
    state = sysroot.load()
    cleanup.write_refs(sysroot, state)
    done = repair.repair(
        sysroot.repo,
        faults,
        origins=origins(state),
        network=network,
        progress=progress,
        only=only,
    )
    return done, deployed_files.verify(sysroot, state, mend=True)


def origins(state: State) -> list[tuple[str, ImageReference]]:
    """Return the deployed commits with the images that they follow, in boot order."""
    found = []
    for each in state.all:
        reference = _reference(each)
        if reference is not None:
            found.append((each.checksum, reference))
    return found


def problems(sysroot: Sysroot, state: State) -> list[str]:
    """Return what is wrong with each deployment, beyond what `status` shows; one line each."""
    found = list(state.problems)
    for each in state.all:
        found += [f"deployment {each.name}: {problem}" for problem in _problems(sysroot, each)]
    return found


def _problems(sysroot: Sysroot, each: Deployment) -> list[str]:
    repo = sysroot.repo
    found = [each.problem] if each.problem else []
    try:
        repo.read_commit(each.checksum)
    except DamagedRepository as error:
        return [*found, f"{error}; `fsck --repair` may heal it"]
    reference = _reference(each)
    if reference is None:
        return found
    hint = "`image repair` writes it again"
    if refs.current(repo, image_ref(reference)) is None:
        found.append(f"its image's ref is missing or broken: {reference}; {hint}")
    with suppress(BridgeError):
        lost = missing_refs(repo, images.load(repo, str(reference), each.checksum))
        if lost:
            found.append(f"refs of {len(lost)} of its layers are missing or broken; {hint}")
    return found


def _reference(each: Deployment) -> ImageReference | None:
    if each.image_reference is None:
        return None
    try:
        return parse_origin(each.image_reference)
    except BridgeError:
        return None
