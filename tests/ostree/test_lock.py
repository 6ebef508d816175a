"""Locks: against other processes, gone with their holder."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import Busy
from bridge.ostree import lock
from bridge.ostree.prune import prune
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

HOLD = """
import contextlib
from bridge.ostree import lock
from bridge.ostree.repository import Repository
repo = Repository.open({path!r})
held = contextlib.ExitStack()
held.enter_context(lock.held(repo.fd, ".lock", repo.path, shared={shared}))
"""


@pytest.mark.parametrize(
    ("theirs", "ours", "free"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
    ids=["both shared", "theirs shared", "ours shared", "both exclusive"],
)
def test_another_process(
    repo: Repository, other_process: Callable[[str], Any], theirs: bool, ours: bool, free: bool
) -> None:
    holder = other_process(HOLD.format(path=repo.path, shared=theirs))
    if free:
        with lock.held(repo.fd, ".lock", repo.path, shared=ours):
            pass
    else:
        with (
            pytest.raises(Busy, match=r"locked by another process"),
            lock.held(repo.fd, ".lock", repo.path, shared=ours),
        ):
            pass
    holder.kill()  # SIGKILL: nobody gets to clean up
    holder.wait()
    with lock.held(repo.fd, ".lock", repo.path, shared=ours):
        pass


def test_writers_and_prunes_of_different_processes(
    repo: Repository, other_process: Callable[[str], Any]
) -> None:
    holder = other_process(HOLD.format(path=repo.path, shared=False))
    with pytest.raises(Busy):
        Transaction(repo)
    holder.kill()
    holder.wait()
    other_process(HOLD.format(path=repo.path, shared=True))
    with Transaction(repo):
        pass
    with pytest.raises(Busy):
        prune(repo)


def test_a_lock_is_given_back_whatever_happens(repo: Repository) -> None:
    with pytest.raises(RuntimeError), lock.held(repo.fd, ".lock", repo.path):
        raise RuntimeError
    with (
        lock.held(repo.fd, ".lock", repo.path),
        pytest.raises(Busy),
        lock.held(repo.fd, ".lock", repo.path),
    ):
        pass


def test_the_file_is_libostrees(repo: Repository) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with lock.held(repo.fd, ".lock", repo.path):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
    file = Path(repo.path) / ".lock"
    assert stat.S_IMODE(file.stat().st_mode) & 0o666 == 0o660 & ~_umask()
    assert file.stat().st_size == 0


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
