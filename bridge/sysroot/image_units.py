"""Our systemd units, put into the root of an image while it is built."""

from __future__ import annotations

import os
import subprocess
from importlib import resources

from bridge.errors import BridgeError, NotFound
from bridge.ostree import durable
from bridge.sysroot import files

_PROGRAM = "usr/bin/bootc-py"
_UNITS = "usr/lib/systemd/system"
_PRESETS = "usr/lib/systemd/system-preset"


def units() -> dict[str, bytes]:
    """Return our units and the preset that enables them, by name."""
    directory = resources.files("bridge") / "units"
    return {each.name: each.read_bytes() for each in directory.iterdir()}


def install(root: str) -> list[str]:
    """Write our units below `root`, and enable those that the preset names; return all names.

    Links in directories' places are not followed. Raises `NotFound` where the image has not got
    the program that the units run.
    """
    found = units()
    with files.doing(f"installing units in {root}"):
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if files.lstat(root_fd, _PROGRAM) is None:
                raise NotFound(
                    f"{root} has no {_PROGRAM}, which the units run; link bootc-py there first"
                )
            for name, data in found.items():
                place = _PRESETS if name.endswith(".preset") else _UNITS
                with files.directory(root_fd, place, create=0o755) as fd:
                    durable.replace_file(name, data, fd)
        finally:
            os.close(root_fd)
    _enable(root, sorted(name for name in found if not name.endswith(".preset")))
    return sorted(found)


def _enable(root: str, names: list[str]) -> None:
    command = ["systemctl", f"--root={root}", "preset", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BridgeError(f"enabling units in {root}: systemctl: {error.strerror}") from error
    if done.returncode:
        raise BridgeError(f"enabling units in {root}: {done.stderr.strip()}")
