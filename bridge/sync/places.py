"""Where sync jobs keep what they know between runs."""

from __future__ import annotations

import hashlib
import os
import re

from bridge.errors import BridgeError

_NAME_LENGTH = 40


def usual() -> str:
    """Return the directory of all that is kept, unless another one is named."""
    if os.geteuid() == 0:
        return "/var/lib/bootc-py/sync"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "bootc-py/sync")


def state_directory(config: str, target: str | None = None) -> str:
    """Return where the state of a configuration is kept, by its file's path and its target, if
    that is not in the file: two files may give jobs the same name."""
    full = os.path.realpath(config)
    about = hashlib.sha256(f"{full}\0{target or ''}".encode(errors="surrogateescape"))
    name = os.path.splitext(os.path.basename(full))[0]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_NAME_LENGTH]
    return os.path.join(usual(), f"{name}-{about.hexdigest()[:12]}")


def make(directory: str) -> None:
    """Make a state directory, for its owner alone, where there is none."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise BridgeError(
            f"making {directory}, for the state of sync jobs: {error.strerror}; name another "
            "directory with --state"
        ) from error


def all_usual() -> list[str]:
    """Return the state directories in the usual place."""
    try:
        with os.scandir(usual()) as entries:
            return sorted(each.path for each in entries if each.is_dir(follow_symlinks=False))
    except OSError:
        return []
