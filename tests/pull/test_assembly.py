"""A stream that a process of its own puts together: all of it, in order, or a clear end."""

from __future__ import annotations

import hashlib
import os
import random
import select
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
import zstandard

from bridge.errors import DamagedRepository
from bridge.layer.blob_index import BlobIndex, File, Placed
from bridge.layer.tar_split import PackedTarSplit
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull.assembly import Assembly
from bridge.pull.content_index import Place

CHANCE = random.Random(7)
SIZES = (1, 5, 4096, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3_000_000)
PAYLOADS = [CHANCE.randbytes(size) for size in SIZES]
META = FileMeta(0, 0, stat.S_IFREG | 0o644)

Part = bytes | tuple[int, Place | None]
"""Bytes of a skeleton; or a file's size, and where it is."""


@pytest.fixture(params=["bare", "bare-user"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    if request.param == "bare" and os.geteuid():
        pytest.skip("bare needs root")
    return Repository.create(tmp_path / "repo", request.param)


@pytest.fixture
def stored(repo: Repository) -> list[str]:
    with Transaction(repo) as transaction:
        found = [transaction.write_stream(META, len(p), [p]) for p in PAYLOADS]
        transaction.publish()
    return found


def path_of(repo: Repository, checksum: str) -> Path:
    return Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)


def indexed(parts: Sequence[Part]) -> tuple[BlobIndex, list[Place | None]]:
    """An index with such a tar-split, and the places of its files."""
    split = PackedTarSplit()
    files: list[File] = []
    places: list[Place | None] = []
    for part in parts:
        if isinstance(part, bytes):
            split.add(part)
            continue
        size, place = part
        file = File(f"file {len(files)}", size, hashlib.sha256(b"%d" % len(files)).digest(), ())
        split.content(file.path, size)
        files.append(file)
        places.append(place)
    return BlobIndex("zstd", tuple(files), *split.finish(), 0, 0, {}), places


def made(repo: Repository, parts: Sequence[Part]) -> list[bytes | File]:
    """What comes, bytes that follow one another joined; each file is placed where it comes."""
    index, places = indexed(parts)
    placed: Placed = {}
    found: list[bytes | File] = []
    with Assembly(repo, index, places, placed) as assembly:
        for _kind, run in groupby(assembly.parts(), type):
            together = list(run)
            data = b"".join(part for part in together if isinstance(part, bytes))
            found += [data] if data else together
        with pytest.raises(DamagedRepository):  # there is no more
            next(assembly.parts())
    offsets, at = [], 0
    for each in parts:
        if not isinstance(each, bytes):
            offsets.append(at)
        at += len(each) if isinstance(each, bytes) else each[0]
    assert placed == dict(zip(offsets, index.files, strict=True))
    return found


@pytest.mark.parametrize("before", [0, 512, 256 * 1024 - 1, 256 * 1024, 500_000])
@pytest.mark.parametrize("number", range(len(SIZES)), ids=map(str, SIZES))
def test_a_file_is_placed_before_its_header_comes(
    repo: Repository, stored: list[str], before: int, number: int
) -> None:
    size = SIZES[number]
    header = bytes(before)
    index, places = indexed([header, (size, Place(stored[number], 0, size)), header, (9, None)])
    placed: Placed = {}
    came = 0
    with Assembly(repo, index, places, placed) as assembly:
        for part in assembly.parts():
            if before <= came + (part.size if isinstance(part, File) else len(part)):
                assert before in placed
            came += part.size if isinstance(part, File) else len(part)
            if before and came >= 2 * before + size:
                assert 2 * before + size in placed
    assert came == 2 * before + size + 9


def test_all_is_read_in_order(repo: Repository, stored: list[str]) -> None:
    chance = random.Random(8)
    order = [chance.randrange(len(SIZES)) for _ in range(2000)]
    order = [each for each in order if SIZES[each] < 1_000_000 or chance.random() < 0.05]
    parts = [(SIZES[each], Place(stored[each], 0, SIZES[each])) for each in order]
    assert made(repo, parts) == [b"".join(PAYLOADS[each] for each in order)]


def test_parts_of_payloads_and_what_is_between_them(repo: Repository, stored: list[str]) -> None:
    chance = random.Random(9)
    parts: list[Part] = []
    expected: list[bytes | int] = [b""]
    for number, (checksum, payload) in enumerate(zip(stored, PAYLOADS, strict=True)):
        for _ in range(20):
            before = chance.randbytes(
                chance.choice((0, 1, 512, 1024, 400_000 if number == 3 else 1536))
            )
            offset = chance.randrange(len(payload))
            size = chance.randint(1, len(payload) - offset)
            parts.append(before)
            if chance.random() < 0.2:  # somebody else has it
                parts.append((size, None))
                expected += [expected.pop() + before, size, b""]
            else:
                parts.append((size, Place(checksum, offset, size)))
                expected.append(expected.pop() + before + payload[offset : offset + size])
    parts.append(bytes(1_000_000))
    expected.append(expected.pop() + bytes(1_000_000))
    found = made(repo, parts)
    assert [each if isinstance(each, bytes) else each.size for each in found] == [
        each for each in expected if each != b""
    ]


def test_nothing_is_in_the_store(repo: Repository) -> None:
    assert made(repo, []) == []
    assert made(repo, [b"abc", b"de"]) == [b"abcde"]
    first, second = made(repo, [(5, None), (7, None)])
    assert isinstance(first, File) and isinstance(second, File)
    assert (first.size, second.size) == (5, 7)


SPLIT = [b"header", (5, None), b"padding", (7, None)]
PACKED = b"".join(indexed(SPLIT)[0].tar_split)
LINES = zstandard.decompress(PACKED, 10_000)


def repacked(lines: bytes) -> tuple[list[bytes], int]:
    return [zstandard.compress(lines)], len(lines)


WRONG = {
    "no frame": ([b"not a frame"], len(LINES)),
    "nothing": ([], len(LINES)),
    "cut off": ([PACKED[:-1]], len(LINES)),
    "a byte more": ([PACKED], len(LINES) - 1),
    "a byte less": ([PACKED], len(LINES) + 1),
    "a bomb": ([zstandard.compress(bytes(1 << 26))], len(LINES)),
    "no lines": repacked(b"nonsense\n" * 9),
    "a file of another size": repacked(LINES.replace(b'"size":7', b'"size":8')),
    "files in another order": repacked(
        LINES.replace(b'"size":7', b'"size":_')
        .replace(b'"size":5', b'"size":7')
        .replace(b"_", b"5")
    ),
    "a file less": repacked(b"".join(LINES.splitlines(keepends=True)[:-1])),
    "a file more": repacked(
        LINES + b'{"type":1,"name":"more","size":9,"payload":null,"position":4}\n'
    ),
}


@pytest.mark.parametrize("split", WRONG.values(), ids=WRONG)
def test_a_tar_split_that_is_wrong(repo: Repository, split: tuple[list[bytes], int]) -> None:
    index, places = indexed(SPLIT)
    index = replace(index, tar_split=split[0], tar_split_size=split[1])
    with (
        Assembly(repo, index, places, {}) as assembly,
        pytest.raises(DamagedRepository, match="cannot be put together"),
    ):
        for _ in assembly.parts():
            pass


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
    index, places = indexed(
        [(size, Place(checksum, 0, size)) for checksum, size in zip(stored, SIZES, strict=True)]
    )
    found = b""
    with (
        Assembly(repo, index, places, {}) as assembly,
        pytest.raises(DamagedRepository, match="cannot be put together"),
    ):
        for part in assembly.parts():
            assert isinstance(part, bytes)
            found += part
    assert b"".join(PAYLOADS).startswith(found)
    assert len(found) < sum(SIZES[: at + 1])


def test_nothing_of_it_stays_when_it_is_left_early(repo: Repository, stored: list[str]) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    index, places = indexed([(SIZES[-1], Place(stored[-1], 0, SIZES[-1]))] * 50)
    with Assembly(repo, index, places, {}) as assembly:
        parts = assembly.parts()
        data = b""
        while len(data) < 10:
            part = next(parts)
            assert isinstance(part, bytes)
            data += part
        assert PAYLOADS[-1].startswith(data)
        process = assembly._process
    assert process.returncode is not None
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_it_ends_when_whoever_reads_is_killed(repo: Repository, stored: list[str]) -> None:
    script = (
        "import os, signal\n"
        "from bridge.layer.blob_index import BlobIndex, File\n"
        "from bridge.layer.tar_split import PackedTarSplit\n"
        "from bridge.ostree.repository import Repository\n"
        "from bridge.pull.assembly import Assembly\n"
        "from bridge.pull.content_index import Place\n"
        f"repo = Repository.open({os.fspath(repo.path)!r})\n"
        "split = PackedTarSplit()\n"
        f"files = [File(str(each), {SIZES[-1]}, b'', ()) for each in range(50)]\n"
        "for each in files:\n"
        "    split.content(each.path, each.size)\n"
        "index = BlobIndex('zstd', tuple(files), *split.finish(), 0, 0, {})\n"
        f"places = [Place({stored[-1]!r}, 0, {SIZES[-1]})] * 50\n"
        "assembly = Assembly(repo, index, places, {})\n"
        "print(assembly._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    with suppress(ProcessLookupError):  # it is gone already
        assembler = os.pidfd_open(int(done.stdout))
        assert select.select([assembler], [], [], 60) == ([assembler], [], [])
        os.close(assembler)
