"""Reading pieces back: the right bytes or nothing, in every mode, and what catching up finds."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bridge import limits
from bridge.errors import DamagedRepository
from bridge.ostree import lock
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull.catch_up import catch_up
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.places import read_place, stream_place

META = FileMeta(0, 0, stat.S_IFREG | 0o644)
LINK = FileMeta(0, 0, stat.S_IFLNK | 0o777, target="to")
LARGE = random.Random(1).randbytes(2 * limits.MIB + 12345) + bytes(limits.MIB) + b"end"
SMALL = b"a small file's content"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture(params=["bare-user", "archive", *(["bare"] if os.geteuid() == 0 else [])])
def repo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    with Repository.create(tmp_path / "repo", request.param) as made:
        yield made


def stored(repo: Repository) -> tuple[str, str]:
    """Put the two files into the store, an empty one and a link; return the files' checksums."""
    with Transaction(repo) as transaction:
        small = transaction.write_payload(META, SMALL)
        large = transaction.write_stream(META, len(LARGE), [LARGE[:1000], LARGE[1000:]])
        transaction.write_payload(META, b"")
        transaction.write_link(LINK)
        transaction.publish()
    return small, large


@pytest.mark.parametrize(
    ("offset", "size"), [(0, len(SMALL)), (2, 5), (len(SMALL) - 1, 1), (0, 0), (3, 0)]
)
def test_a_part_of_a_small_object(repo: Repository, offset: int, size: int) -> None:
    small, _large = stored(repo)
    data = SMALL[offset : offset + size]
    assert read_place(repo, Place(small, offset, size), sha256(data)) == data


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (0, len(LARGE)),
        (0, limits.MIB),
        (1, limits.MIB),
        (limits.BLOB_BUFFER - 1, 2),
        (len(LARGE) - 3, 3),
        (2 * limits.MIB, limits.MIB + 1),
    ],
)
def test_a_part_of_a_large_object(repo: Repository, offset: int, size: int) -> None:
    _small, large = stored(repo)
    data = LARGE[offset : offset + size]
    place = Place(large, offset, size)
    chunks = stream_place(repo, place, sha256(data))
    assert chunks is not None
    parts = list(chunks)
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= limits.BLOB_BUFFER
    assert read_place(repo, place, sha256(data)) == (data if size <= limits.MIB else None)


def test_pieces_in_any_order(repo: Repository) -> None:
    _small, large = stored(repo)
    step = 300_001
    pieces = [(at, LARGE[at : at + step]) for at in range(0, len(LARGE), step)]
    random.Random(2).shuffle(pieces)
    for offset, data in sorted(pieces) + pieces:
        assert read_place(repo, Place(large, offset, len(data)), sha256(data)) == data
    repo.close()
    assert not [each for each in os.listdir("/proc/self/fd") if large[2:] in target(each)]


def target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


def test_what_is_not_what_it_should_be_is_nothing(repo: Repository) -> None:
    small, large = stored(repo)
    link = "".join(each for each, kind in repo.objects() if is_link(repo, each, kind))
    digest = sha256(SMALL)
    wrong = [
        Place(small, 0, len(SMALL) - 1),
        Place(small, 1, len(SMALL)),
        Place(small, -1, len(SMALL)),
        Place(small, 0, -1),
        Place(small, 0, 2**70),
        Place(small, 2**70, 1),
        Place(large, 0, len(SMALL)),
        Place(link, 0, 2),
        Place("0" * 64, 0, 1),
        Place("../../config", 0, 1),
    ]
    assert read_place(repo, Place(small, 0, len(SMALL)), digest) == SMALL
    for place in wrong:
        assert read_place(repo, place, digest) is None
        assert stream_place(repo, place, digest) is None


def is_link(repo: Repository, checksum: str, kind: ObjectType) -> bool:
    if kind is not ObjectType.FILE:
        return False
    meta, payload = repo.open_file(checksum)
    if payload is not None:
        payload.close()
    return meta.is_symlink


def test_an_object_that_was_changed_is_nothing(repo: Repository) -> None:
    small, large = stored(repo)
    for checksum, data in ((small, SMALL), (large, LARGE)):
        place = Place(checksum, 0, len(data))
        path = Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)
        raw = bytearray(path.read_bytes())
        raw[-8] ^= 1
        path.write_bytes(raw)
        assert stream_place(repo, place, sha256(data)) is None
        path.write_bytes(raw[: len(raw) // 2])
        assert stream_place(repo, place, sha256(data)) is None
        path.unlink()
        os.mkfifo(path)
        assert stream_place(repo, place, sha256(data)) is None
        assert read_place(repo, place, sha256(data)) is None


def test_an_object_that_becomes_shorter_while_it_is_read_is_an_error(repo: Repository) -> None:
    _small, large = stored(repo)
    chunks = stream_place(repo, Place(large, 0, len(LARGE)), sha256(LARGE))
    assert chunks is not None
    next(chunks)
    os.truncate(Path(repo.path) / repo.object_path(large, ObjectType.FILE), 1000)
    with pytest.raises(DamagedRepository):
        list(chunks)


def test_catching_up_finds_every_payload(repo: Repository) -> None:
    small, large = stored(repo)
    with lock.writing(repo), ContentIndex.open(repo) as index:
        assert catch_up(repo, index) == 4
        found = index.find([sha256(SMALL), sha256(LARGE), sha256(b""), sha256(b"to\0")])
        assert found == {
            sha256(SMALL): Place(small, 0, len(SMALL)),
            sha256(LARGE): Place(large, 0, len(LARGE)),
        }
        assert index.size().objects == 4
        told: list[tuple[int, int]] = []
        assert catch_up(repo, index, lambda *each: told.append(each)) == 0
        assert told == []


def test_catching_up_finds_the_pieces_of_each_payload(repo: Repository) -> None:
    small, large = stored(repo)

    def cut(chunks: Iterable[bytes]) -> list[tuple[int, bool]]:
        data = b"".join(chunks)
        parts = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
        return [(len(part), not any(part)) for part in parts]

    with lock.writing(repo), ContentIndex.open(repo) as index:
        assert catch_up(repo, index, cut=cut) == 4
        pieces = {
            sha256(LARGE[at : at + 100_000]): Place(large, at, min(100_000, len(LARGE) - at))
            for at in range(0, len(LARGE), 100_000)
        }
        assert len(pieces) == 24
        del pieces[sha256(bytes(100_000))]
        wholes = {
            sha256(SMALL): Place(small, 0, len(SMALL)),
            sha256(LARGE): Place(large, 0, len(LARGE)),
        }
        assert index.find([*pieces, *wholes, sha256(bytes(100_000))]) == pieces | wholes
        assert index.size().pieces == len(pieces) + 2


def test_catching_up_goes_on_where_it_was_cut_off(repo: Repository) -> None:
    with Transaction(repo) as transaction:
        for each in range(2000):
            transaction.write_payload(META, b"%d" % each)
        transaction.publish()

    class CutOff(Exception):
        pass

    def cut_off(done: int, total: int) -> None:
        assert 0 < done < total == 2000
        raise CutOff

    with lock.writing(repo):
        with ContentIndex.open(repo) as index, pytest.raises(CutOff):
            catch_up(repo, index, cut_off)
        with ContentIndex.open(repo) as index:
            before = index.size().objects
            assert 0 < before < 2000
            assert catch_up(repo, index) == 2000 - before
            digests = [sha256(b"%d" % each) for each in range(2000)]
            assert index.find(digests).keys() == set(digests)


def test_catching_up_leaves_what_cannot_be_read(repo: Repository) -> None:
    small, large = stored(repo)
    path = Path(repo.path) / repo.object_path(large, ObjectType.FILE)
    path.unlink()
    path.mkdir()
    with lock.writing(repo), ContentIndex.open(repo) as index:
        assert catch_up(repo, index) == 3
        assert large not in index.objects()
        assert small in index.objects()
