"""Whether a new deployment is staged for the shutdown, or written at once."""

from __future__ import annotations

from bridge.sysroot import staged
from bridge.sysroot.deploy import Stage
from bridge.sysroot.sysroot import Sysroot


def how(sysroot: Sysroot, *, locked: bool = False) -> Stage | None:
    """Return how to stage, on the running system; None where it is to be written at once.

    A boot loader that needs more than boot entries would not get that from libostree.
    """
    if not (sysroot.is_booted and sysroot.loader.follows_entries and staged.possible()):
        return None
    return Stage.LOCKED if locked else Stage.FINAL
