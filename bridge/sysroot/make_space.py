"""Room for an image: what no deployment needs goes before it is pulled."""

from __future__ import annotations

from bridge.pull import images
from bridge.pull.progress import Progress, Stage
from bridge.sysroot import boot_order, retention
from bridge.sysroot.cleanup import cleanup
from bridge.sysroot.sysroot import Sysroot


def make_space(sysroot: Sysroot, progress: Progress) -> int:
    """Drop what is kept for the settings' sake alone, then all that nothing refers to.

    What runs, what it can be rolled back to, what is pinned and what is staged stays. The sysroot's
    lock is held. Returns the bytes that this freed. Raises `Busy` while the store is in use.
    """
    progress.stage(Stage.PRUNING)
    state = sysroot.load_to_change()
    current = state.current
    if current is not None:
        staying = [
            each
            for each in state.deployments
            if retention.must_stay(each, current.stateroot, current) or each.index < 2
        ]
        if len(staying) < len(state.deployments):
            progress.message("space is short: deployments beyond the least of two are dropped")
            state = boot_order.write(sysroot, state, staying)
    cleanup(sysroot, state)
    _layers, pruned = images.prune(sysroot.repo)
    return pruned.bytes
