"""Payloads that a process of its own reads: all of them, in order, or a clear end."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.errors import DamagedRepository
from bridge.ostree.bulk import BulkReader
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

from .conftest import regular

CHANCE = random.Random(7)
SIZES = (1, 5, 4096, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 3_000_000)
PAYLOADS = [CHANCE.randbytes(size) for size in SIZES]


@pytest.fixture(params=["bare", "bare-user"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    if request.param == "bare" and os.geteuid():
        pytest.skip("bare needs root")
    return Repository.create(tmp_path / "repo", request.param)


@pytest.fixture
def stored(repo: Repository) -> list[str]:
    with Transaction(repo) as transaction:
        found = [transaction.write_stream(regular(0o644), len(p), [p]) for p in PAYLOADS]
        transaction.publish()
    return found


def path_of(repo: Repository, checksum: str) -> Path:
    return Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)


def read(repo: Repository, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
    with BulkReader(repo, wanted) as reader:
        return [b"".join(reader.read(size)) for _checksum, _offset, size in wanted]


def test_all_is_read_in_order(repo: Repository, stored: list[str]) -> None:
    order = [CHANCE.randrange(len(SIZES)) for _ in range(2000)]
    order = [each for each in order if SIZES[each] < 1_000_000 or CHANCE.random() < 0.05]
    wanted = [(stored[each], 0, SIZES[each]) for each in order]
    found = read(repo, wanted)
    assert found == [PAYLOADS[each] for each in order]


def test_parts_of_payloads(repo: Repository, stored: list[str]) -> None:
    wanted, expected = [], []
    for checksum, payload in zip(stored, PAYLOADS, strict=True):
        for _ in range(20):
            offset = CHANCE.randrange(len(payload))
            size = CHANCE.randint(1, len(payload) - offset)
            wanted.append((checksum, offset, size))
            expected.append(payload[offset : offset + size])
    assert read(repo, wanted) == expected


@pytest.mark.parametrize("at", range(len(SIZES)), ids=map(str, SIZES))
@pytest.mark.parametrize("damage", ["shorter", "gone", "a link", "a directory"])
def test_what_is_not_there_ends_it(
    repo: Repository, stored: list[str], at: int, damage: str
) -> None:
    path = path_of(repo, stored[at])
    if damage == "shorter":
        os.truncate(path, SIZES[at] - 1)
    else:
        path.unlink()
        if damage == "a link":
            path.symlink_to("/etc/passwd")
        if damage == "a directory":
            path.mkdir()
    wanted = [(checksum, 0, size) for checksum, size in zip(stored, SIZES, strict=True)]
    with (
        BulkReader(repo, wanted) as reader,
        pytest.raises(DamagedRepository, match="cannot be read"),
    ):
        for payload in PAYLOADS:
            data = b"".join(reader.read(len(payload)))
            assert data == payload


def test_nothing_of_it_stays_when_it_is_left_early(repo: Repository, stored: list[str]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with BulkReader(repo, [(stored[-1], 0, SIZES[-1])] * 50) as reader:
        assert next(reader.read(10)) == PAYLOADS[-1][:10]
        process = reader._process
    assert process.returncode is not None
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_it_ends_when_whoever_reads_is_killed(repo: Repository, stored: list[str]) -> None:
    script = (
        "import os, signal, sys\n"
        "from bridge.ostree.bulk import BulkReader\n"
        "from bridge.ostree.repository import Repository\n"
        f"repo = Repository.open({os.fspath(repo.path)!r})\n"
        f"reader = BulkReader(repo, [({stored[-1]!r}, 0, {SIZES[-1]})] * 50)\n"
        "print(reader._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    with suppress(ProcessLookupError):  # it is gone already
        reader = os.pidfd_open(int(done.stdout))
        assert select.select([reader], [], [], 60) == ([reader], [], [])
        os.close(reader)
