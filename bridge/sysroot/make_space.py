"""Room for an image: what no deployment needs goes before it is pulled."""

from __future__ import annotations

from collections.abc import Collection

from bridge.errors import Busy, DamagedRepository, MayNotFit, NoSpace
from bridge.oci.reference import ImageReference
from bridge.pull.plan import Depth
from bridge.pull.progress import Progress, Stage
from bridge.pull.pull import pull
from bridge.pull.report import TransferReport
from bridge.registry.options import NetworkOptions
from bridge.sysroot import boot_order, boot_space, replaced, retention
from bridge.sysroot.cleanup import cleanup
from bridge.sysroot.rollback import rollback_deployment
from bridge.sysroot.sysroot import Sysroot


def pull_with_room(
    sysroot: Sysroot,
    reference: ImageReference,
    network: NetworkOptions,
    progress: Progress,
    depth: Depth,
    *,
    retain: bool,
    labelled: bool,
) -> TransferReport:
    """Pull what is to be deployed. Where space is short, or may be, garbage is collected first;
    while there is too little still, deployments that only the settings keep go, the last first.
    Unless `retain`.
    """
    spent: list[tuple[int, int, int]] = []

    def attempt(*, careful: bool = False) -> TransferReport:
        try:
            report = pull(
                sysroot.repo,
                reference,
                network=network,
                bootable=True,
                labelled=labelled,
                depth=depth,
                before_layers=lambda: boot_space.look_ahead(sysroot, progress.message),
                careful=careful,
                progress=progress,
            )
        except NoSpace as error:
            spent.append(error.received)
            raise
        report.received_bytes += sum(each[0] for each in spent)
        report.requests += sum(each[1] for each in spent)
        report.retries += sum(each[2] for each in spent)
        return report

    if retain:
        return attempt()
    try:
        return attempt(careful=True)
    except MayNotFit as error:
        collect(sysroot, progress, error.wanted)
    except NoSpace as error:
        if not error.wanted:  # it is /boot that has no room
            raise
        if not (
            collect(sysroot, progress, error.wanted) or drop_last(sysroot, progress, error.wanted)
        ):
            raise
    while True:
        try:
            return attempt()
        except NoSpace as error:
            if not error.wanted or not drop_last(sysroot, progress, error.wanted):
                raise


def collect(sysroot: Sysroot, progress: Progress, spare: Collection[str] = ()) -> int:
    """Drop the images of deployments that are gone, and what nothing refers to; the bytes freed.

    `spare` are refs of layers that stay whatever needs them. The sysroot's lock is held. Where the
    store is in use, or damaged, nothing goes; that is told.
    """
    progress.stage(Stage.PRUNING)
    try:
        return replaced.drop(sysroot, spare)
    except (Busy, DamagedRepository) as error:
        # The deployments stand, and nothing that was to be on the disk is not; the next update
        # goes on from the note.
        progress.message(f"warning: nothing was pruned: {error}")
        return 0


def drop_last(sysroot: Sysroot, progress: Progress, spare: Collection[str] = ()) -> bool:
    """Drop the last of the deployments that only the settings keep, and what only it needed.

    What runs, what boots next, what a rollback goes to, what is pinned and what is staged stays.
    Returns whether there was one.
    """
    state = sysroot.load_to_change()
    current = state.current
    if current is None:
        return False
    safe = (
        state.deployments[0],
        rollback_deployment(state),
        retention.fallback(state.deployments, current.stateroot),
    )
    going = [
        each
        for each in state.deployments
        if each not in safe and not retention.must_stay(each, current.stateroot, current)
    ]
    if not going:
        return False
    progress.message(f"warning: space is short: {going[-1].name}, kept by the settings alone, goes")
    replaced.note(sysroot, state.all)
    staying = [each for each in state.deployments if each is not going[-1]]
    cleanup(sysroot, boot_order.write(sysroot, state, staying))
    collect(sysroot, progress, spare)
    return True
