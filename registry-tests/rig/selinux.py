"""Labels as SELinux's own matchpathcon(8) gives them, by a policy's file_contexts."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from rig.peers import require

_CLASSES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "lnk_file"}
_AT_ONCE = 1000


def expected(file_contexts: Path, modes: Mapping[str, int]) -> dict[str, str | None]:
    """The context of each path by its file type; None where the policy says that it gets none."""
    found: dict[str, str | None] = {}
    for kind, name in _CLASSES.items():
        paths = [path for path, mode in modes.items() if stat.S_IFMT(mode) == kind]
        for start in range(0, len(paths), _AT_ONCE):
            part = paths[start : start + _AT_ONCE]
            # libostree labels the place where /proc is mounted as such a place.
            asked = ["/mnt" if path == "/proc" else path for path in part]
            command = [require("matchpathcon"), "-f", file_contexts, "-m", name, "-n", *asked]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            contexts = done.stdout.decode().splitlines()
            found |= {
                path: None if context == "<<none>>" else context
                for path, context in zip(part, contexts, strict=True)
            }
    return found


def of_files(top: Path, name: str) -> tuple[dict[str, int], dict[str, str | None]]:
    """Modes and contexts of the directory `top` and all below it, as paths below `name`."""
    modes: dict[str, int] = {}
    contexts: dict[str, str | None] = {}
    for parent, directories, files in os.walk(top):
        for each in ["", *files, *(d for d in directories if os.path.islink(f"{parent}/{d}"))]:
            path = os.path.join(parent, each) if each else parent
            shown = name + path.removeprefix(str(top))
            modes[shown] = os.lstat(path).st_mode
            contexts[shown] = context(path)
    return modes, contexts


def context(path: str | Path) -> str | None:
    """The context of a file, no link followed; None for none."""
    if "security.selinux" not in os.listxattr(path, follow_symlinks=False):
        return None
    raw = os.getxattr(path, "security.selinux", follow_symlinks=False)
    assert raw.endswith(b"\0"), raw
    return raw[:-1].decode()
