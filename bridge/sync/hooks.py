"""Programs that are told of what a job does: before an image is copied, after, and when it need
not be.

`exec` runs a program with its arguments. What it is about stands in its environment:
`BOOTC_PY_SYNC_EVENT` (pre, post, unchanged), `_JOB`, `_SOURCE` and `_TARGET` (references with
their tags), `_DIGEST` and, after the copy, `_TARGET_DIGEST`. Its output goes to standard error.
"""

from __future__ import annotations

import os
import subprocess
import sys

from bridge import limits
from bridge.errors import BridgeError, UsageError
from bridge.sync.model import Hook

_PREFIX = "BOOTC_PY_SYNC_"


def check(hook: Hook) -> None:
    """Raise `UsageError` for a hook of a kind that there is not."""
    if hook.kind != "exec" or not hook.parameters:
        raise UsageError(
            f"a hook of type {hook.kind!r:.50}: there is exec, with a program and its arguments"
        )


def run(hook: Hook | None, event: str, about: dict[str, str]) -> None:
    """Run a hook, if there is one; `BridgeError` where it fails."""
    if hook is None:
        return
    check(hook)
    given = {f"{_PREFIX}{name.upper()}": value for name, value in about.items()}
    what = f"the {event} hook {hook.parameters[0]}"
    try:
        done = subprocess.run(
            hook.parameters,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            env={**os.environ, **given, f"{_PREFIX}EVENT": event},
            timeout=limits.SYNC_HOOK_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BridgeError(f"{what} took more than {limits.SYNC_HOOK_TIMEOUT:g} seconds") from None
    except OSError as error:
        raise BridgeError(f"{what} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise BridgeError(f"{what} ended with {done.returncode}")
