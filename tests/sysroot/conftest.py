"""A sysroot written by hand: what `Sysroot.load` reads, with no repository behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.sysroot.sysroot import Sysroot

BOOTCSUM = "b0" * 32


@dataclass(frozen=True)
class Fake:
    """Where it is, and how to add to it."""

    path: Path

    def entry(
        self,
        checksum: str,
        version: int,
        serial: int = 0,
        stateroot: str = "default",
        options: str = "rw",
        origin: str | None = "[origin]\nrefspec=x\n",
        name: str = "",
    ) -> Path:
        """Add a deployment with its boot entry, link and origin; return its directory."""
        root = self.path / f"ostree/deploy/{stateroot}/deploy/{checksum}.{serial}"
        root.mkdir(parents=True)
        if origin is not None:
            root.with_name(f"{root.name}.origin").write_text(origin)
        links = self.path / f"ostree/boot.1.1/{stateroot}/{BOOTCSUM}"
        links.mkdir(parents=True, exist_ok=True)
        number = len(list(links.iterdir()))
        (links / str(number)).symlink_to(f"../../../deploy/{stateroot}/deploy/{root.name}")
        entries = self.path / "boot/loader.1/entries"
        entries.mkdir(parents=True, exist_ok=True)
        link = f"/ostree/boot.1/{stateroot}/{BOOTCSUM}/{number}"
        (entries / (name or f"ostree-{version}.conf")).write_text(
            f"title Fake\nversion {version}\noptions {options} ostree={link}\n"
        )
        return root


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    for name in ("boot", "ostree/deploy", "ostree/repo"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ostree/repo/config").write_text("[core]\nrepo_version=1\nmode=bare\n")
    (tmp_path / "boot/loader").symlink_to("loader.1")
    (tmp_path / "ostree/boot.1").symlink_to("boot.1.1")
    return Fake(tmp_path)


@pytest.fixture
def sysroot(fake: Fake) -> Iterator[Sysroot]:
    with Sysroot.open(fake.path) as opened:
        yield opened


@pytest.fixture
def opened() -> Iterator[Callable[[Path], int]]:
    """Open directories that are closed when the test is over."""
    fds: list[int] = []

    def open_directory(path: Path) -> int:
        fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return fds[-1]

    yield open_directory
    for fd in fds:
        os.close(fd)
