"""Small file systems of their own, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rig.peers import require

MIB = 1024**2


@contextmanager
def ext4(
    mount: Path, mebibytes: int, inodes: int = 16_384, *, keep: bool = False
) -> Iterator[Path]:
    """An ext4 of that size at the new directory `mount`, in MOUNT.img; nothing in it."""
    image = mount.with_name(f"{mount.name}.img")
    with image.open("wb") as file:
        file.truncate(mebibytes * MIB)
    # No blocks are put by for root, so that what is free is what may be used.
    make = [require("mkfs.ext4"), "-q", "-F", "-m", "0", "-N", str(inodes), str(image)]
    subprocess.run(make, check=True)
    with mounted(mount, "-o", "loop", str(image)):
        (mount / "lost+found").rmdir()
        yield mount
    if not keep:
        image.unlink()


@contextmanager
def tmpfs(mount: Path, mebibytes: int) -> Iterator[Path]:
    """A tmpfs of that size at the new directory `mount`."""
    with mounted(mount, "-t", "tmpfs", "-o", f"size={mebibytes}M", "tmpfs"):
        yield mount


@contextmanager
def btrfs(mount: Path, mebibytes: int) -> Iterator[Path]:
    """A btrfs of that size that compresses, at the new directory `mount`, in MOUNT.img."""
    image = mount.with_name(f"{mount.name}.img")
    with image.open("wb") as file:
        file.truncate(mebibytes * MIB)
    subprocess.run([require("mkfs.btrfs"), "-q", "--mixed", str(image)], check=True)
    with mounted(mount, "-o", "loop,compress-force=zstd", str(image)):
        yield mount
    image.unlink()


KINDS = {"ext4": ext4, "tmpfs": tmpfs, "btrfs": btrfs}


@contextmanager
def mounted(mount: Path, *arguments: str) -> Iterator[None]:
    """Has what `arguments` of mount(8) say at `mount` until the context ends."""
    mount.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments, str(mount)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def free(path: Path) -> int:
    """The bytes that are free, when all that was written is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.sync()
        found = os.fstatvfs(fd)
    finally:
        os.close(fd)
    return found.f_bavail * found.f_frsize


def fill(path: Path, leave: int = 0) -> Path:
    """Takes all that is free on the file system of `path` but `leave` bytes; the file that does."""
    filler = path / "filler"
    with filler.open("wb") as file:
        step = max(0, free(path) - leave)
        while step >= 4096:
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
            left = max(0, free(path) - leave)
            step = min(step // 2, left)
    return filler
