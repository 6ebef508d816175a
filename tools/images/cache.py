"""The cache directory, whose entries are either whole or not there."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


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
    """A temporary directory in `parent`, gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".work-", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    # The top of a deployment is immutable, and what cannot be emptied cannot be removed.
    for deployment in path.glob("*/ostree/deploy/*/deploy/*/"):
        subprocess.run(["chattr", "-i", deployment], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
