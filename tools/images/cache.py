"""The cache directory, whose entries are either whole or not there.

An entry is named NAME-KEY, where the key says what it was made from.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH = ".work-"
_HOUR = 3600
_SUPERSEDED = 2 * _HOUR
"""Seconds an entry is kept after its last use when another of its name was used since."""
_UNUSED = 7 * 24 * _HOUR
"""Seconds any entry is kept after its last use."""


def root() -> Path:
    """The cache directory: $BOOTC_PY_CACHE, else bootc-py in the user's cache."""
    if own := os.environ.get("BOOTC_PY_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "bootc-py"


def entry(name: str, make: Callable[[Path], None]) -> Path:
    """The cache's directory `name`; `make` fills it, in a temporary place, if it is missing.

    Two processes that ask for the same entry make it once: the second waits.
    """
    path = root() / name
    if path.is_dir():
        os.utime(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.with_name(f".{path.name}.lock")):
        if not path.is_dir():
            with scratch(path.parent) as temporary:
                filled = temporary / path.name
                filled.mkdir()
                make(filled)
                filled.rename(path)
    return path


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A temporary directory in `parent`, gone afterwards; if we are killed, `tidy` removes it."""
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
    path.chmod(0o755)
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        _remove(path)
        os.close(held)


def tidy(now: float | None = None) -> list[Path]:
    """Removes what killed processes left in the cache, and entries nobody asks for any more.

    Each change of what an image is made from leaves one behind: without this the disk fills up.
    Returns what was removed.
    """
    now = time.time() if now is None else now
    gone = [path for path in root().glob(f"*/{_SCRATCH}*") if _abandoned(path, now)]
    used: dict[Path, list[tuple[float, Path]]] = {}
    for path in root().glob("*/*"):
        if not path.name.startswith(".") and path.is_dir():
            name, _, key = path.name.rpartition("-")
            family = path.with_name(name or key)
            used.setdefault(family, []).append((path.stat().st_mtime, path))
    for family in used.values():
        newest = max(family)
        for at, path in family:
            if now - at > (_UNUSED if path == newest[1] else _SUPERSEDED):
                gone.append(path)
    for path in gone:
        _remove(path)
    return gone


def _abandoned(path: Path, now: float) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # One that was made this moment may not be locked yet.
        return now - os.fstat(descriptor).st_mtime > _HOUR
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    # The top of a deployment is immutable, and what cannot be emptied cannot be removed.
    deployments = ["-type", "d", "-path", "*/ostree/deploy/*/deploy/*", "-prune"]
    command = ["find", path, *deployments, "-exec", "chattr", "-f", "-i", "{}", "+"]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
