"""The wheels for an image that has bootc-py in it: ours, from this checkout, and what it needs."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from tools.images import cache

ROOT = Path(__file__).resolve().parents[2]
_PYTHON = "3.11"
"""Debian 12's."""
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")


def sources() -> list[Path]:
    """All that our own wheel is made of."""
    package = ROOT / "bridge"
    files = [
        each for each in package.rglob("*") if each.is_file() and "__pycache__" not in each.parts
    ]
    return [ROOT / "pyproject.toml", *sorted(files)]


def collect(target: Path, run: Callable[..., None], epoch: int) -> None:
    """Fill the directory `target` with all wheels; `run` runs a command with more variables."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"]
    machine = platform.machine()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wanted = [
        *pip, "download", "--only-binary=:all:", "--implementation=cp",
        f"--python-version={_PYTHON}", *(f"--platform={each}_{machine}" for each in _PLATFORMS),
    ]  # fmt: skip
    key = hashlib.sha256("\0".join([*wanted[1:], *needed]).encode()).hexdigest()[:12]
    others = cache.entry(
        f"wheels/{key}", lambda directory: run(*wanted, f"--dest={directory}", *needed)
    )
    target.mkdir()
    for wheel in others.glob("*.whl"):
        shutil.copy(wheel, target)
    run(
        *pip, "wheel", "--no-deps", f"--wheel-dir={target}", str(ROOT),
        SOURCE_DATE_EPOCH=str(epoch),
    )  # fmt: skip
