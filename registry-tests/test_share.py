"""Files with the same payload share blocks, on file systems that can and on such that cannot."""

from __future__ import annotations

import os
import random
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import disk
from rig.disk import MIB
from rig.peers import require

from bridge.ostree.fsck import fsck
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

PAYLOAD = random.Random(4).randbytes(24 * MIB + 12_345)
FIRST = FileMeta(0, 0, stat.S_IFREG | 0o644)
SECOND = FileMeta(7, 8, stat.S_IFREG | 0o4755, ((b"user.x", b"y"),))


@pytest.fixture(scope="module", params=["btrfs", "ext4", "tmpfs"])
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    mount = tmp_path_factory.mktemp("disk") / request.param
    with disk.KINDS[request.param](mount, 256):
        yield mount


@pytest.mark.parametrize("mode", ["bare", "bare-user", "archive"])
def test_other_metadata_costs_no_second_payload(kind: Path, mode: str) -> None:
    can = kind.name == "btrfs" and mode != "archive"
    with Repository.create(kind / mode, mode) as repo:
        with Transaction(repo) as transaction:
            first = transaction.write_stream(FIRST, len(PAYLOAD), [PAYLOAD])
            transaction.publish()
        before = disk.free(kind)
        with Transaction(repo) as transaction:
            second = transaction.write_stream(SECOND, len(PAYLOAD), [PAYLOAD])
            assert second != first
            assert transaction.share(second, first) == (len(PAYLOAD) if can else 0)
            transaction.publish()
        used = before - disk.free(kind)
        assert (used < MIB) is can
        assert repo.shares is can
        assert not fsck(repo).faults
        meta, payload = repo.open_file(second)
        assert meta == SECOND and payload is not None
        with payload:
            assert payload.read() == PAYLOAD
        if mode != "archive":
            status = os.stat(repo.object_path(second, ObjectType.FILE), dir_fd=repo.fd)
            assert status.st_mtime == 0
    subprocess.run([require("ostree"), "fsck", f"--repo={kind / mode}", "-q"], check=True)
    subprocess.run(["rm", "-r", str(kind / mode)], check=True)


@pytest.mark.parametrize("kind", ["btrfs"], indirect=True)
def test_nothing_but_the_same_bytes_is_shared(kind: Path) -> None:
    other = bytearray(PAYLOAD)
    other[20 * MIB] ^= 1
    with Repository.create(kind / "differs", "bare-user") as repo, Transaction(repo) as transaction:
        first = transaction.write_stream(FIRST, len(PAYLOAD), [PAYLOAD])
        small = transaction.write_payload(FIRST, b"small")
        transaction.publish()
        second = transaction.write_stream(SECOND, len(other), [other])
        assert transaction.share(second, first) == 16 * MIB
        assert transaction.share(second, "0" * 64) == 0
        assert transaction.share(transaction.write_payload(SECOND, b"small"), small) == 0
        assert transaction.share(first, first) == 0  # published already
        transaction.publish()
        assert repo.shares and not fsck(repo).faults
        _meta, payload = repo.open_file(second)
        assert payload is not None
        with payload:
            assert payload.read() == other
