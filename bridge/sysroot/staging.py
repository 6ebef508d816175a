"""Whether a new deployment is staged for the shutdown, or written at once."""

from __future__ import annotations

from collections.abc import Callable

from bridge.errors import BridgeError
from bridge.sysroot import staged, systemd
from bridge.sysroot.deploy import Stage
from bridge.sysroot.sysroot import Sysroot


def how(sysroot: Sysroot, tell: Callable[[str], None], *, locked: bool = False) -> Stage | None:
    """Return how to stage, on the running system; None where it is to be written at once.

    A boot loader that needs more than boot entries would not get that from libostree. Where
    libostree's unit does not start, `tell` gets a line with what that means and what to look at.
    """
    if not (sysroot.is_booted and sysroot.loader.follows_entries and systemd.is_running()):
        return None
    try:
        systemd.start_and_wait(staged.SERVICE)
    except BridgeError as error:
        tell(
            f"warning: nothing can be staged ({error}); the deployment is written at once, and "
            f"later changes in /etc are not taken along; see: systemctl status {staged.SERVICE}"
        )
        return None
    return Stage.LOCKED if locked else Stage.FINAL
