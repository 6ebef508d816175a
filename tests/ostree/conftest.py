"""Repositories of every mode that this user may have, and a tree with every kind of thing."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

ROOT = os.geteuid() == 0
MODES = ("bare", "bare-user", "archive") if ROOT else ("bare-user", "archive")
"""Only root can own what a bare repository stores; the others are tested for any user."""


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def repo(tmp_path: Path, mode: str) -> Iterator[Repository]:
    with Repository.create(tmp_path / "repo", mode) as made:
        yield made


@dataclass(frozen=True)
class Item:
    """A content object to store, and its payload (empty for links)."""

    meta: FileMeta
    payload: bytes = b""


def regular(mode: int, uid: int = 0, gid: int = 0, *xattrs: tuple[bytes, bytes]) -> FileMeta:
    return FileMeta(uid, gid, stat.S_IFREG | mode, xattrs)


def link(target: str, uid: int = 0, gid: int = 0) -> FileMeta:
    return FileMeta(uid, gid, stat.S_IFLNK | 0o777, (), target)


BIG = bytes(range(256)) * 12_345
ITEMS = {
    "plain": Item(regular(0o644), b"hello\n"),
    "empty": Item(regular(0o600)),
    "setuid": Item(regular(0o4755), b"#!/bin/sh\n"),
    "readonly": Item(regular(0o444, 1000, 1001), b"look, do not touch"),
    "unreadable": Item(regular(0o000, 5), b"nobody reads this"),
    "world": Item(regular(0o666), b"any umask"),
    "xattrs": Item(
        regular(0o640, 0, 0, (b"user.a", b"1"), (b"user.bin", b"\0\xff")), b"some text\n"
    ),
    "xattr-readonly": Item(regular(0o444, 0, 0, (b"user.a", b"")), b"x"),
    "big": Item(regular(0o755, 7, 8), BIG),
    "link": Item(link("plain"), b""),
    "owned-link": Item(link("/no/such/ü", 3, 4), b""),
}


def store(transaction: Transaction, item: Item, *, stream: bool = False) -> str:
    """Store one item by the way that is meant for it."""
    if item.meta.is_symlink:
        return transaction.write_link(item.meta)
    if stream:
        chunks = (item.payload[at : at + 99_991] for at in range(0, len(item.payload), 99_991))
        return transaction.write_stream(item.meta, len(item.payload), chunks)
    return transaction.write_payload(item.meta, item.payload)


def store_all(repo: Repository, ref: str = "test/all") -> str:
    """Publish a commit with every item twice: in the root and in `sub/dir`."""
    with Transaction(repo) as transaction:
        files = {name: store(transaction, item) for name, item in ITEMS.items()}
        top = transaction.write_dirmeta(DirMeta(0, 0, stat.S_IFDIR | 0o755))
        sticky = transaction.write_dirmeta(
            DirMeta(9, 10, stat.S_IFDIR | 0o1777, ((b"user.d", b"v"),))
        )
        leaf = transaction.write_dirtree(DirTree(files, {}))
        sub = transaction.write_dirtree(DirTree({}, {"dir": (leaf, sticky)}))
        root = transaction.write_dirtree(DirTree(files, {"sub": (sub, top)}))
        commit = transaction.write_commit(Commit(root, top, {"version": "1"}, timestamp=1))
        transaction.set_ref(ref, commit)
        transaction.publish()
    return commit


def read(repo: Repository, checksum: str) -> tuple[FileMeta, bytes]:
    """Return a content object's metadata and all of its payload."""
    meta, payload = repo.open_file(checksum)
    if payload is None:
        return meta, b""
    with payload:
        parts = []
        while chunk := payload.read(1 << 16):
            parts.append(chunk)
        return meta, b"".join(parts)


def objects_below(repo: Repository) -> set[str]:
    """Return the names of all object files."""
    top = Path(repo.path) / "objects"
    return {f"{each.parent.name}{each.name}" for each in top.glob("*/*")}


@pytest.fixture
def other_process() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Run Python code in a process that goes on until it is killed; it has printed a line."""
    running: list[subprocess.Popen[bytes]] = []

    def start(code: str) -> subprocess.Popen[bytes]:
        hold = f"{code}\nprint('ready', flush=True)\nimport signal\nsignal.pause()\n"
        process = subprocess.Popen(
            [sys.executable, "-c", hold],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def as_user() -> Iterator[Callable[[Callable[[Path], Any]], Any]]:
    """Call a function with a directory of its own, as a user who is not root; its result."""
    top = Path(tempfile.mkdtemp(prefix="bootc-py-test-"))
    user = 54_321 if ROOT else os.geteuid()
    os.chown(top, user, user if ROOT else -1)

    def call(work: Callable[[Path], Any]) -> Any:
        # That user may not be able to read the interpreter's modules: have them all loaded.
        with tempfile.TemporaryDirectory() as elsewhere:
            work(Path(elsewhere))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            answer: Any = "died"
            try:
                if ROOT:
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                    assert os.geteuid() != 0
                answer = work(top)
            except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
                answer = repr(error)
            finally:
                os.write(writer, json.dumps(answer).encode())
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            answer = json.loads(pipe.read())
        os.waitpid(child, 0)
        return answer

    yield call
    shutil.rmtree(top)
