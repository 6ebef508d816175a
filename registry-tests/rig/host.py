"""A piece of host for images to reach for: nothing of it may change, or get anywhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.crafted.case import HOST, SECRET

State = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Host:
    """Directories and files below `HOST`, the path that crafted images name."""

    path: Path

    @property
    def work(self) -> Path:
        """Where commands are to be run, for links that mean the working directory."""
        return self.path / "work"

    def state(self) -> State:
        """What every file is, and when it was last changed in anything but being read."""
        found: State = {}
        for parent, directories, files in os.walk(self.path):
            for name in [".", *directories, *files]:
                status = os.lstat(os.path.join(parent, name))
                found[os.path.join(parent, name)] = (
                    status.st_ino,
                    status.st_mode,
                    status.st_uid,
                    status.st_nlink,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
        return found


@contextmanager
def run_host() -> Iterator[Host]:
    """The piece of host, until the context ends."""
    host = Host(Path(HOST))
    for name in ("secret", "work/secret", "work/a", "etc/passwd", "usr/lib/x", "x/secret"):
        (host.path / name).parent.mkdir(parents=True, exist_ok=True)
        (host.path / name).write_bytes(SECRET)
    try:
        yield host
    finally:
        shutil.rmtree(host.path)
