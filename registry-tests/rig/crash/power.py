"""Power cuts: a command works on a disk of its own, which keeps only what reached it.

The disk is a file behind a loop device with ext4 on it. What was written but never synced is in
the page cache of that ext4, not in the file: a copy of the file, taken while it is in use, is the
disk after the power went. Mounting the copy replays its journal.

A journal commits when it likes: every five seconds, or when anybody syncs anything. So half of
the cuts come right after somebody else's fsync, which takes all changed names to the disk, and no
file's content.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rig.command import Done
from rig.crash.rounds import Stage, copy, judge
from rig.crash.shim import Disturbance
from rig.peers import require

SIZE = 96 << 20


def cut(stage: Stage, disturbance: Disturbance, work: Path, *, commit: bool) -> Done:
    """One round: the command is disturbed, the power goes, the disk is judged.

    `work` is an empty directory. With `commit` the journal is committed just before. Fails where
    what is promised does not hold; returns how the command ended.
    """
    with disk(work) as top:
        root = copy(stage.root, top / "root")
        subprocess.run(["sync", "-f", top], check=True)
        done = stage.perform(root, disturbance)
        power_off(work, commit=commit)
    with disk_after(work) as top:
        judge(stage, top / "root", done)
    return done


@contextlib.contextmanager
def disk(work: Path) -> Iterator[Path]:
    """A new disk in the empty directory `work`, mounted."""
    image = work / "disk"
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([require("mkfs.ext4"), "-q", "-F", image], check=True)
    with _mounted(image, work / "mnt") as top:
        yield top


def power_off(work: Path, *, commit: bool) -> None:
    """Take what reached the disk in `work`, while it is still mounted."""
    if commit:
        fd = os.open(work / "mnt/another's", os.O_WRONLY | os.O_CREAT, 0o600)
        os.fsync(fd)
        os.close(fd)
    subprocess.run(["cp", "--sparse=always", work / "disk", work / "after"], check=True)


@contextlib.contextmanager
def disk_after(work: Path) -> Iterator[Path]:
    """What `power_off` took, mounted."""
    with _mounted(work / "after", work / "mnt") as top:
        yield top


@contextlib.contextmanager
def _mounted(disk: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    attach = [require("losetup"), "--direct-io=on", "--find", "--show", str(disk)]
    device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["mount", device, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
