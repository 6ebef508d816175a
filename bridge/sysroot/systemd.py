"""What is asked of the running systemd, through `systemctl`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bridge.errors import BridgeError


def reboot() -> None:
    """Have the machine reboot, in order: what is staged is finalised; returns at once."""
    _systemctl("reboot")


def is_running() -> bool:
    """Return whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def start_and_wait(unit: str) -> None:
    """Have a unit started; `BridgeError` where it does not start."""
    _systemctl("start", "--quiet", unit)


def start(unit: str) -> None:
    """Have a unit started, without waiting for it."""
    _systemctl("start", "--no-block", unit)


def _systemctl(*arguments: str) -> None:
    what = " ".join(arguments)
    try:
        done = subprocess.run(
            ["systemctl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise BridgeError(f"systemctl {what}: {error.strerror}") from error
    if done.returncode:
        raise BridgeError(f"systemctl {what}: {done.stderr.strip() or done.returncode}")
