"""The shim between a process and libc: compiled when it is needed, told what to do."""

from __future__ import annotations

import errno
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rig.peers import require
from tools.images import cache

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_GROWING = frozenset({
    "copy_file_range", "fallocate", "link", "mkdir", "open", "pwrite", "sendfile", "setxattr",
    "symlink", "write", "writev",
})  # fmt: skip
"""The calls that need space, as in shim.c."""
_SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True)
class Call:
    """One call that changes a file: its number in the process, its name, the path."""

    number: int
    name: str
    path: str


@dataclass(frozen=True)
class Disturbance:
    """What happens to a process's call number `at` (none: 0)."""

    at: int = 0
    how: str | int = "kill"
    """`kill` before the call, `tear` after it or in its middle, or an error number."""
    call: str = ""
    """Number the calls of this name only."""
    lasting: bool = False
    """All later calls fail too."""
    lie: bool = False
    """Nothing is synced, whatever is said."""
    log: Path | None = None

    def hits(self, call: Call) -> bool:
        """Whether this is what happens to the call."""
        if self.lasting and self.how in NO_SPACE:
            return call.number >= self.at and call.name in _GROWING
        return call.number == self.at

    @property
    def environment(self) -> dict[str, str]:
        chosen = {
            "CRASH_AT": str(self.at) if self.at else "",
            "CRASH_HOW": str(self.how),
            "CRASH_CALL": self.call,
            "CRASH_ON": "1" if self.lasting else "",
            "CRASH_LIE": "1" if self.lie else "",
            "CRASH_LOG": str(self.log or ""),
        }
        return {name: value for name, value in chosen.items() if value}


def library() -> Path:
    """The shim, to be named in LD_PRELOAD; compiled unless the cache has it."""
    key = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]

    def make(directory: Path) -> None:
        target = directory / "shim.so"
        command = [require("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([*command, "-o", target, _SOURCE], check=True)

    return cache.entry(f"shim/{key}", make) / "shim.so"


def read_log(path: Path) -> list[Call]:
    """The calls that a process made, in their order."""
    calls = []
    for line in path.read_text(errors="surrogateescape").splitlines():
        number, name, where = line.split(" ", 2)
        calls.append(Call(int(number), name, where))
    return sorted(calls, key=lambda call: call.number)
