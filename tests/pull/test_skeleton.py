"""Skeletons: what is recorded is read again, what is damaged is told, nothing stays for ever."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import file, image, tar, write_layout

from bridge import limits
from bridge.errors import DamagedRepository, NotFound
from bridge.oci.digest import Digest
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import images, skeleton
from bridge.pull.ingest import ingest
from bridge.pull.pull import pull
from bridge.pull.skeleton import Payload, Recorder, parts, path_of

MAGIC = b"bootc-py skeleton 1\n"
ANY = Digest.of(b"")


def record(repo: Repository, stream: bytes, cuts: list[int]) -> bytes:
    """Import a layer, cut into chunks, and return its skeleton."""
    edges = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    chunks = [stream[start:stop] for start, stop in itertools.pairwise(edges)]
    with Transaction(repo) as transaction:
        recorder = Recorder(transaction, ANY)
        layer = ingest(chunks, transaction, on_file=recorder.file, on_skeleton=recorder.rest)
        assert layer is not None
        recorder.finish(layer)
        transaction.publish()
    return (Path(repo.path) / path_of(ANY)).read_bytes()


def put_together(repo: Repository, raw: bytes) -> bytes:
    stream = bytearray()
    for part in parts(io.BytesIO(raw)):
        if isinstance(part, bytes):
            assert 0 < len(part) <= limits.SKELETON_LITERAL
            stream += part
            continue
        _meta, content = repo.open_file(part.checksum)
        assert content is not None
        with content:
            data = content.read()
        assert len(data) == part.size
        stream += data
    return bytes(stream)


@pytest.fixture(params=["bare-user", "archive"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    with Repository.create(tmp_path / "store", request.param) as made:
        yield made


LARGE = bytes(range(256)) * 8192 + b"x"
STREAM = tar(
    [
        file("usr/a", b"a"),
        file("usr/empty"),
        file("usr/large", LARGE),
        file("dev/left-out", b"o" * 200_000),
        file("usr/twice", LARGE + b"first"),
        file("usr/twice", b"second"),
        file("usr/again", b"a"),
    ]
)


def test_what_is_recorded_is_the_stream(store: Repository) -> None:
    raw = record(store, STREAM + b"\0" * 3000, [])
    assert put_together(store, raw) == STREAM + b"\0" * 3000
    named = [part for part in parts(io.BytesIO(raw)) if isinstance(part, Payload)]
    assert [part.size for part in named] == [1, len(LARGE), 6, 1]
    assert len(raw) < 10_000


def test_what_a_layer_has_twice_is_kept_without_the_object(store: Repository) -> None:
    """The object of the first one goes with the next prune: no tree has it."""
    raw = record(store, STREAM, [])
    named = {part.checksum for part in parts(io.BytesIO(raw)) if isinstance(part, Payload)}
    gone = {checksum for checksum, kind in store.objects() if kind.value == "file"} - named
    for checksum in gone:
        for found in (Path(store.path) / "objects" / checksum[:2]).glob(f"{checksum[2:]}.*"):
            found.unlink()
    assert len(gone) == 2  # and the empty file's, which nobody needs either
    assert put_together(store, raw) == STREAM


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_chunks_change_nothing(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    with Repository.create(tmp_path_factory.mktemp("chunks") / "repo", "bare-user") as repo:
        assert record(repo, STREAM, cuts) == record(repo, STREAM, [])


# -- what is no skeleton -----------------------------------------------------------------------


def packed(*pieces: bytes, level: int = 1) -> bytes:
    return zstandard.ZstdCompressor(level, write_checksum=True).compress(b"".join(pieces))


def head(literal: int, size: int) -> bytes:
    return struct.pack("<IQ", literal, size)


END = head(0, 0)
GOOD = packed(MAGIC, head(3, 0), b"abc", head(1, 5), b"d", bytes(32), END, struct.pack("<Q", 9))
BAD = {
    "nothing": b"",
    "no zstd": b"not compressed at all",
    "another magic": packed(b"bootc-py skeleton 2\n", END, bytes(8)),
    "cut off in the magic": packed(MAGIC[:5]),
    "cut off before a record": packed(MAGIC),
    "cut off in a head": packed(MAGIC, head(3, 0)[:7]),
    "cut off in a literal": packed(MAGIC, head(4, 0), b"abc"),
    "cut off in a checksum": packed(MAGIC, head(0, 4), bytes(31)),
    "without a total": packed(MAGIC, head(3, 0), b"abc", END),
    "a total that is wrong": packed(MAGIC, head(3, 0), b"abc", END, struct.pack("<Q", 4)),
    "more after the end": packed(MAGIC, head(3, 0), b"abc", END, struct.pack("<Q", 3), b"x"),
    "a literal that is too long": packed(
        MAGIC,
        head(limits.SKELETON_LITERAL + 1, 0),
        bytes(limits.SKELETON_LITERAL + 1),
        END,
        struct.pack("<Q", limits.SKELETON_LITERAL + 1),
    ),
    "more than 64 bits of bytes": packed(
        MAGIC, *[head(0, 2**64 - 1), bytes(32)] * 2, END, b"\xfe" + b"\xff" * 7
    ),
    "the zstd cut off": GOOD[:-6],
    "a bit of the zstd flipped": GOOD[:-2] + bytes([GOOD[-2] ^ 1]) + GOOD[-1:],
    "a window that is too large": zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27)
    )
    .compressobj()
    .compress(MAGIC)
    + b"\0" * 20,
}


def test_good_is_good() -> None:
    assert list(parts(io.BytesIO(GOOD))) == [b"abc", b"d", Payload("00" * 32, 5)]


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_what_is_no_skeleton_is_told(raw: bytes) -> None:
    with pytest.raises(DamagedRepository):
        list(parts(io.BytesIO(raw)))


@settings(deadline=None, max_examples=150)
@given(
    at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), end=st.integers(0, len(GOOD) - 1)
)
def test_damage_is_told_or_harmless(at: int, byte: int, end: int) -> None:
    """zstd's checksum covers the content: what is read is right, or is refused."""
    for raw in (GOOD[:at] + bytes([byte]) + GOOD[at + 1 :], GOOD[:end]):
        try:
            found = list(parts(io.BytesIO(raw)))
        except DamagedRepository:
            continue
        assert found == [b"abc", b"d", Payload("00" * 32, 5)]


# -- in a repository ---------------------------------------------------------------------------


def test_a_prune_leaves_those_of_layers_that_are_there(repo: Repository, tmp_path: Path) -> None:
    base, first, second = (tar([file(f"usr/{name}", name)]) for name in ("base", "one", "two"))
    names = [
        parse_reference(f"oci:{write_layout(tmp_path / str(at), image(base, top))}")
        for at, top in enumerate((first, second))
    ]
    for name in names:
        pull(repo, name)
    directory = Path(repo.path) / skeleton.DIRECTORY

    def there() -> set[str]:
        return {path.name for path in directory.iterdir()}

    def of(*streams: bytes) -> set[str]:
        return {f"sha256-{Digest.of(each).hex}" for each in streams}

    assert there() == of(base, first, second)
    (directory / "sha256-leftover").write_bytes(b"")
    images.prune(repo)
    assert there() == of(base, first, second)
    images.remove(repo, names[0])
    images.prune(repo)
    assert there() == of(base, second)
    list(skeleton.read(repo, Digest.of(base)))
    with pytest.raises(NotFound, match="pull the image again"):
        skeleton.read(repo, Digest.of(first))


def test_what_was_not_verified_leaves_no_skeleton(repo: Repository) -> None:
    def broken() -> Iterator[bytes]:
        yield STREAM
        raise DamagedRepository("not what it should be")

    with Transaction(repo) as transaction, pytest.raises(DamagedRepository):
        recorder = Recorder(transaction, ANY)
        ingest(broken(), transaction, on_file=recorder.file, on_skeleton=recorder.rest)
    assert not (Path(repo.path) / skeleton.DIRECTORY).exists()
    assert [each.name for each in (Path(repo.path) / "tmp").iterdir()] == ["cache"]
