"""The budget: bytes and inodes of a file system that says what a test tells it to."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.errors import NoSpace, is_full
from bridge.limits import SPACE_LOOK_EVERY
from bridge.ostree import durable
from bridge.ostree.config import Config
from bridge.ostree.repository import Repository
from bridge.ostree.space import Room, measure, stored_bytes
from bridge.ostree.transaction import Transaction

from .conftest import regular, store_all

BLOCK = 4096
FILE = BLOCK + 512
"""What a file costs beside its bytes."""


@dataclass
class Disk:
    """A file system of 1000 blocks, and how often it was looked at and synced."""

    free: int
    inodes: int = 1_000
    looks: int = 0
    syncs: int = 0

    def statvfs(self, _fd: int) -> os.statvfs_result:
        self.looks += 1
        free, total = self.free // BLOCK, 2_000 if self.inodes >= 0 else 0
        # Root may have more than others; that is not counted on. Blocks are counted in f_frsize.
        numbers = (65536, BLOCK, 1000, free + 9, free, total, self.inodes, self.inodes)
        return os.statvfs_result((*numbers, 0, 255))

    def syncfs(self, _fd: int) -> None:
        self.syncs += 1


@pytest.fixture
def disk(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(free=100 * BLOCK)
    monkeypatch.setattr(os, "fstatvfs", made.statvfs)
    monkeypatch.setattr(durable, "syncfs", made.syncfs)
    repo.config = Config(repo.mode, min_free_percent=0)
    return made


def take(repo: Repository, size: int, files: int = 0) -> None:
    with repo.space.writing(size, files):
        pass


@pytest.mark.parametrize(
    ("config", "room"),
    [
        (Config("bare"), 70 * BLOCK),
        (Config("bare", min_free_percent=0), 100 * BLOCK),
        (Config("bare", min_free_percent=50), -400 * BLOCK),
        (Config("bare", min_free_percent=50, min_free_bytes=10 * BLOCK), 90 * BLOCK),
    ],
)
def test_what_has_to_stay_free_is_no_room(
    repo: Repository, disk: Disk, config: Config, room: int
) -> None:
    repo.config = config
    keep = 100 * BLOCK - room
    assert measure(repo) == Room(room, keep, BLOCK, 1_000)
    disk.inodes = -1  # btrfs: as many as are needed
    assert measure(repo).inodes is None
    if room > 0:
        take(repo, room)
    with pytest.raises(NoSpace, match=f"the {keep} bytes that min-free-space keeps"):
        take(repo, room + 1)


def test_what_was_taken_is_not_there_twice(repo: Repository, disk: Disk) -> None:
    repo.space.look()
    with repo.space.writing(60 * BLOCK):
        # It may not be on the disk yet: the disk still says that all is free.
        with pytest.raises(NoSpace):
            take(repo, 41 * BLOCK)
        take(repo, 40 * BLOCK)
    assert disk.syncs == 1


def test_the_disk_is_asked_before_anything_is_refused(repo: Repository, disk: Disk) -> None:
    repo.space.look()
    take(repo, 90 * BLOCK)
    assert (disk.looks, disk.syncs) == (1, 0)
    # Compressed, a hole, or removed since: there is more than was counted.
    take(repo, 50 * BLOCK)
    assert (disk.looks, disk.syncs) == (2, 1)
    disk.free = 50 * BLOCK
    with pytest.raises(NoSpace):
        take(repo, 51 * BLOCK)


def test_others_write_too(repo: Repository, disk: Disk) -> None:
    disk.free = 10 * SPACE_LOOK_EVERY
    repo.space.look()
    take(repo, SPACE_LOOK_EVERY)
    disk.free = SPACE_LOOK_EVERY // 2
    with pytest.raises(NoSpace):
        take(repo, SPACE_LOOK_EVERY)


def test_a_look_in_between_believes_in_less_only(repo: Repository, disk: Disk) -> None:
    """What was written and is in memory still, a file system may not have counted."""
    disk.free = 10 * SPACE_LOOK_EVERY
    repo.space.look()
    for _ in range(10):
        take(repo, SPACE_LOOK_EVERY)
    assert disk.looks > 5 and disk.syncs == 0
    take(repo, 1)
    assert disk.syncs == 1


def test_what_is_given_back_can_be_taken_again(repo: Repository, disk: Disk) -> None:
    repo.space.look()
    disk.free = 0  # only the count knows
    for _ in range(10):
        take(repo, 50 * BLOCK - FILE, files=1)
        repo.space.give_back(50 * BLOCK - FILE, files=1)
    take(repo, 100 * BLOCK - FILE, files=1)
    with pytest.raises(NoSpace):
        take(repo, 1)


def test_inodes_run_out_too(repo: Repository, disk: Disk) -> None:
    disk.inodes = 3
    repo.space.look()
    with repo.space.writing(1, files=2):
        take(repo, 0, files=1)
        disk.inodes = 1  # the one that is being written may be among those that are gone
        with pytest.raises(NoSpace, match="no inode is left"):
            take(repo, 0, files=1)
    disk.inodes = -1
    take(repo, 0, files=50_000 // BLOCK)


def test_a_failed_sync_is_no_answer(
    repo: Repository, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "syncfs: it failed")

    monkeypatch.setattr(durable, "syncfs", fail)
    with pytest.raises(OSError, match="it failed"):
        take(repo, 101 * BLOCK)


def test_many_threads_take_no_more_than_there_is(repo: Repository, disk: Disk) -> None:
    """Each byte that was granted is gone from the disk; there never are fewer than has to stay."""
    repo.config = Config(repo.mode, min_free_bytes=20 * BLOCK)
    lock = threading.Lock()
    least = disk.free

    def write(_: int) -> int:
        nonlocal least
        granted = 0
        try:
            while True:
                with repo.space.writing(BLOCK), lock:
                    disk.free -= BLOCK
                    least = min(least, disk.free)
                    granted += BLOCK
        except NoSpace:
            return granted

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 80 * BLOCK
    assert least == 20 * BLOCK


def test_all_transactions_share_one_budget(repo: Repository, disk: Disk) -> None:
    disk.free = 10 * BLOCK
    with Transaction(repo) as one, Transaction(repo) as two:
        one.write_payload(regular(0o644), b"1" * (6 * BLOCK))
        disk.free = 4 * BLOCK
        with pytest.raises(NoSpace):
            two.write_payload(regular(0o644), b"2" * (6 * BLOCK))


def test_what_the_store_holds(repo: Repository) -> None:
    assert stored_bytes(repo) == 0
    store_all(repo)
    found = [*(Path(repo.path) / "objects").glob("*/*.file*")]
    assert stored_bytes(repo) == sum(each.lstat().st_size for each in found) > 0


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EIO, "x"), False),
        (NoSpace("x"), True),
        (ValueError("x"), False),
    ],
)
def test_a_full_disk_is_told_from_others(error: Exception, full: bool) -> None:
    assert is_full(error) is full
