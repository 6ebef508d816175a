"""Roll back: make the previous deployment what boots next, as `bootc rollback`."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import NotFound
from bridge.sysroot import boot_order, files, staged
from bridge.sysroot.cleanup import cleanup
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import State, Sysroot


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did."""

    deployment: Deployment
    """What boots next now."""
    reverted: bool
    """Whether this took back an earlier rollback: the running deployment boots next again."""
    state: State


def rollback_deployment(state: State) -> Deployment | None:
    """Return the rollback deployment: the first of the current one's stateroot that is not it.

    When a rollback is queued it stands before the current one (bootc's and libostree's rule).
    """
    current = state.current
    for each in state.deployments:
        if current is not None and each.stateroot == current.stateroot and each is not current:
            return each
    return None


def rollback(sysroot: Sysroot, to: Deployment | None = None) -> RolledBack:
    """Swap the current and the rollback deployment in the boot order; a second time undoes it.

    With `to`, put that deployment first. On a sysroot that is not booted the first entry counts as
    the current one. `/etc` and kernel arguments are those that each deployment has.

    A staged deployment would boot next all the same: it is held back, until the rollback is undone
    or an update wants it.

    Takes the sysroot's lock; raises `NotFound` when there is nothing to roll back to.
    """
    with sysroot.locked(), files.doing(f"rolling back {sysroot.path}"):
        state = sysroot.load_to_change()
        if to is None:
            target = rollback_deployment(state)
        else:
            target = next((each for each in state.deployments if each.is_same(to)), None)
        current = state.current
        if current is None or target is None:
            raise NotFound(
                f"{sysroot.path} has no deployment to roll back to; `status` lists what there is"
            )
        reverted = target.index < current.index
        first = [current, target] if reverted and to is None else [target, current]
        if target is current:
            first = [current]
        rest = [each for each in state.deployments if each not in first]
        if state.staged is not None:
            staged.let_go() if reverted and to is None else staged.hold_back()
        after = boot_order.write(sysroot, state, [*first, *rest])
        with files.after(f"{after.deployments[0].name} boots next"):
            cleanup(sysroot, after)
    return RolledBack(after.deployments[0], reverted and to is None, after)
