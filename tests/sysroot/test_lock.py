"""The sysroot's lock: one holder at a time, none left behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import Busy
from bridge.sysroot import lock
from bridge.sysroot.sysroot import Sysroot

from .conftest import Fake


def test_a_second_holder_is_refused(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    fd = opened(tmp_path)
    with lock.exclusive(fd, "the sysroot /x"):
        assert (tmp_path / "lock").exists()
        with (
            pytest.raises(Busy, match="the sysroot /x is locked by another process"),
            lock.exclusive(fd, "the sysroot /x"),
        ):
            pass
    assert not (tmp_path / "lock").exists()
    with lock.exclusive(fd, "again"):
        pass


def test_one_sysroot_may_nest_its_own(fake: Fake, sysroot: Sysroot) -> None:
    with sysroot.locked():
        with sysroot.locked():
            pass
        assert (fake.path / "ostree/lock").exists()
        with Sysroot.open(fake.path) as other, pytest.raises(Busy), other.locked():
            pass
    assert not (fake.path / "ostree/lock").exists()


def _hold(path: Path, ready: object, done: object) -> None:
    with Sysroot.open(path) as sysroot, sysroot.locked():
        ready.set()  # type: ignore[attr-defined]
        done.wait()  # type: ignore[attr-defined]


def test_a_holder_that_dies_leaves_no_lock(fake: Fake, sysroot: Sysroot) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(fake.path, ready, done))
    process.start()
    ready.wait()
    with pytest.raises(Busy), sysroot.locked():
        pass
    process.kill()
    process.join()
    assert (fake.path / "ostree/lock").exists(), "the file stays, the lock does not"
    with sysroot.locked():
        pass
    assert not (fake.path / "ostree/lock").exists()
