"""Where sync jobs keep what they know between runs."""

from __future__ import annotations

import os

from bridge.errors import BridgeError


def usual() -> str:
    """Return the state directory where none is named. Configurations may share one: files in it
    are by what their jobs are."""
    if os.geteuid() == 0:
        return "/var/lib/bootc-py/sync"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "bootc-py/sync")


def make(directory: str) -> None:
    """Make a state directory, for its owner alone, where there is none."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise BridgeError(
            f"making {directory}, for the state of sync jobs: {error.strerror}; name another "
            "directory with --state"
        ) from error
