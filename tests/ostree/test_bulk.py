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
import zstandard

from bridge.errors import DamagedRepository
from bridge.ostree.bulk import BulkReader, Request
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


def packed(between: bytes) -> list[bytes]:
    frame = zstandard.compress(between, 1)
    return [frame[:7], frame[7:]]


def read(repo: Repository, wanted: Sequence[Request], between: bytes = b"") -> list[bytes]:
    """Each payload with what comes before it; then the rest."""
    with BulkReader(repo, wanted, packed(between)) as reader:
        found = [b"".join(reader.read(each.before + each.size)) for each in wanted]
        rest = len(between) - sum(each.before for each in wanted)
        found.append(b"".join(reader.read(rest)))
        with pytest.raises(DamagedRepository):
            next(reader.read(1))
    return found


def test_all_is_read_in_order(repo: Repository, stored: list[str]) -> None:
    chance = random.Random(8)
    order = [chance.randrange(len(SIZES)) for _ in range(2000)]
    order = [each for each in order if SIZES[each] < 1_000_000 or chance.random() < 0.05]
    wanted = [Request(0, stored[each], 0, SIZES[each]) for each in order]
    assert read(repo, wanted) == [*(PAYLOADS[each] for each in order), b""]


def test_parts_of_payloads_and_what_is_between_them(repo: Repository, stored: list[str]) -> None:
    chance = random.Random(9)
    between = chance.randbytes(500_000) + bytes(1_000_000)
    wanted, expected = [], []
    at = 0
    for number, (checksum, payload) in enumerate(zip(stored, PAYLOADS, strict=True)):
        for _ in range(20):
            before = chance.choice((0, 1, 512, 1024, 60_000 if number == 3 else 1536))
            before = min(before, len(between) - at)
            offset = chance.randrange(len(payload))
            size = chance.randint(1, len(payload) - offset)
            if chance.random() < 0.2:  # somebody else has it
                wanted.append(Request(before))
                size = 0
            else:
                wanted.append(Request(before, checksum, offset, size))
            expected.append(between[at : at + before] + payload[offset : offset + size])
            at += before
    assert 0 < at < len(between)
    assert read(repo, wanted, between) == [*expected, between[at:]]


def test_nothing_is_wanted(repo: Repository) -> None:
    assert read(repo, []) == [b""]
    assert read(repo, [Request(3), Request(2)], b"abcdefg") == [b"abc", b"de", b"fg"]


@pytest.mark.parametrize(
    ("between", "before"),
    [(packed(b"four"), 5), ([b"not a frame"], 1), ([b""], 1), (packed(bytes(9))[:1], 9)],
    ids=["too short", "no frame", "nothing", "cut off"],
)
def test_what_is_between_is_not_there(repo: Repository, between: list[bytes], before: int) -> None:
    with (
        BulkReader(repo, [Request(before)], between) as reader,
        pytest.raises(DamagedRepository, match="cannot be read"),
    ):
        list(reader.read(before))


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
    wanted = [Request(0, checksum, 0, size) for checksum, size in zip(stored, SIZES, strict=True)]
    with (
        BulkReader(repo, wanted, packed(b"")) as reader,
        pytest.raises(DamagedRepository, match="cannot be read"),
    ):
        for payload in PAYLOADS:
            data = b"".join(reader.read(len(payload)))
            assert data == payload


def test_nothing_of_it_stays_when_it_is_left_early(repo: Repository, stored: list[str]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    wanted = [Request(0, stored[-1], 0, SIZES[-1])] * 50
    with BulkReader(repo, wanted, packed(b"")) as reader:
        assert next(reader.read(10)) == PAYLOADS[-1][:10]
        process = reader._process
    assert process.returncode is not None
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_it_ends_when_whoever_reads_is_killed(repo: Repository, stored: list[str]) -> None:
    script = (
        "import os, signal, sys\n"
        "import zstandard\n"
        "from bridge.ostree.bulk import BulkReader, Request\n"
        "from bridge.ostree.repository import Repository\n"
        f"repo = Repository.open({os.fspath(repo.path)!r})\n"
        f"wanted = [Request(0, {stored[-1]!r}, 0, {SIZES[-1]})] * 50\n"
        "reader = BulkReader(repo, wanted, [zstandard.compress(b'')])\n"
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
