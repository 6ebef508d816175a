"""A layer's tar stream out of what the store has and what was fetched: to the byte, or an error."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from support.chunked import Blob, chunked
from support.images import directory, file, symlink, tar

from bridge import limits
from bridge.errors import (
    BridgeError,
    DamagedRepository,
    MalformedImage,
    RangeRefused,
    VerificationFailed,
)
from bridge.layer.blob_index import Piece, Placed
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import rebuild
from bridge.pull.content_index import Place
from bridge.pull.partial_plan import missing, partial_plan
from bridge.pull.plan import Inside
from bridge.pull.rebuild import Rebuild

META = FileMeta(0, 0, stat.S_IFREG | 0o600)
CHANCE = random.Random(5)
ONE = b"a small file's content"
SEVERAL = CHANCE.randbytes(200_000) + bytes(3000) + CHANCE.randbytes(150_000)
LARGE = CHANCE.randbytes(limits.SMALL_FILE) + bytes(70_000) + CHANCE.randbytes(100_000)
CONTENTS = {
    "one": ONE,
    "several": SEVERAL,
    "zeros": bytes(600_000),
    "large": LARGE,
    "last": b"the last one's content",
}
TAR = tar(
    [
        directory("etc"),
        file("one", ONE),
        file("empty"),
        file("several", SEVERAL),
        symlink("link", "one"),
        file("zeros", CONTENTS["zeros"]),
        file("large", LARGE),
        file("last", CONTENTS["last"]),
    ]
)
BLOB = chunked(TAR)
FILES = {each.path: each for each in BLOB.index.files}


def offsets() -> dict[str, int]:
    placed: Placed = {}
    for _part in BLOB.index.skeleton(placed):
        pass
    return {file.path: at for at, file in placed.items()}


OFFSETS = offsets()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_the_layer_has_what_the_cases_need() -> None:
    assert {path: len(each.pieces) > 1 for path, each in FILES.items()} == {
        "one": False, "several": True, "zeros": False, "large": True, "last": False
    }  # fmt: skip
    for path in ("several", "large"):
        zeros = [piece.zeros for piece in FILES[path].pieces]
        assert zeros.count(True) == 1 and not zeros[0] and not zeros[-1]
    assert len(SEVERAL) < limits.SMALL_FILE < len(LARGE)


@dataclass
class MemoryParts:
    """Ranges of a blob in memory. What comes of a range first can be made to be something else."""

    data: bytes
    ranges: Sequence[tuple[int, int]] = ()
    first: Mapping[int, Callable[[bytes], bytes]] = field(default_factory=dict)
    """By where it begins: what comes instead, at first."""
    second: Mapping[int, Callable[[bytes], bytes]] = field(default_factory=dict)
    """The same, of what is fetched once more."""
    reads: list[tuple[int, int]] = field(default_factory=list)
    agains: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, end: int) -> bytes:
        assert any(a <= start < end <= b for a, b in self.ranges), "this was not to be fetched"
        self.reads.append((start, end))
        return self.first.get(start, bytes)(self.data[start:end])

    def again(self, start: int, end: int) -> bytes:
        self.agains.append((start, end))
        return self.second.get(start, bytes)(self.data[start:end])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(params=["bare-user", "archive", *(["bare"] if os.geteuid() == 0 else [])])
def each_mode(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    with Repository.create(tmp_path / "repo", request.param) as made:
        yield made


@dataclass
class Run:
    """What came of a rebuild."""

    parts: MemoryParts
    fetched: int = 0
    wrong: list[Place] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)

    @property
    def stream(self) -> bytes:
        return b"".join(self.chunks)


def run(
    repo: Repository,
    places: Mapping[bytes, Place],
    blob: Blob = BLOB,
    *,
    careful: bool = True,
    **parts: Any,
) -> tuple[Run, BridgeError | None]:
    """Rebuild the layer where the store has `places`."""
    index = blob.index
    lacking = missing(index, places)
    plan = partial_plan(lacking, places, lacking.ranges)
    memory = MemoryParts(blob.data, plan.ranges, **parts)
    done = Run(memory)

    def fetched(size: int) -> None:
        done.fetched += size

    layer = Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", Digest.of(b""), 1)
    rebuilt = Rebuild(
        repo, layer, Inside(blob.tail, index), plan, memory, {},
        careful=careful, fetched=fetched, wrong=done.wrong.append,
    )  # fmt: skip
    try:
        for chunk in rebuilt:
            done.chunks.append(chunk)
    except BridgeError as error:
        return done, error
    return done, None


def good(repo: Repository, places: Mapping[bytes, Place], **parts: Any) -> Run:
    done, error = run(repo, places, **parts)
    assert error is None, error
    assert done.stream == TAR
    return done


def store(repo: Repository, *contents: bytes) -> list[str]:
    """Put objects into the store; return their checksums."""
    with Transaction(repo) as transaction:
        found = [transaction.write_stream(META, len(each), [each]) for each in contents]
        transaction.publish()
    return found


def whole(repo: Repository, *paths: str) -> dict[bytes, Place]:
    """Put files into the store as they are, and return the places."""
    checksums = store(repo, *(CONTENTS[path] for path in paths))
    return {
        sha(CONTENTS[path]): Place(checksum, 0, len(CONTENTS[path]))
        for path, checksum in zip(paths, checksums, strict=True)
    }


def pieces_of(path: str) -> tuple[Piece, ...]:
    return tuple(piece for piece in FILES[path].pieces if not piece.zeros)


def where(*pieces: Piece) -> set[tuple[int, int]]:
    return {(piece.start, piece.end) for piece in pieces}


ALL = [piece for path in FILES for piece in pieces_of(path)]

# -- what is here ----------------------------------------------------------------------------


def test_nothing_is_here(repo: Repository) -> None:
    done = good(repo, {})
    assert set(done.parts.reads) == where(*ALL) and len(done.parts.reads) == len(ALL)
    assert done.fetched == sum(piece.end - piece.start for piece in ALL)
    assert done.parts.agains == [] and done.wrong == []


def test_all_is_here(each_mode: Repository) -> None:
    done = good(each_mode, whole(each_mode, *CONTENTS))
    assert done.parts.ranges == () and done.fetched == 0
    assert done.parts.reads == done.parts.agains == [] and done.wrong == []


@pytest.mark.parametrize("path", CONTENTS)
def test_one_file_is_here(each_mode: Repository, path: str) -> None:
    done = good(each_mode, whole(each_mode, path))
    mine = [piece for each in FILES if each != path for piece in pieces_of(each)]
    assert set(done.parts.reads) == where(*mine)


@pytest.mark.parametrize("path", CONTENTS)
def test_one_file_is_not_here(each_mode: Repository, path: str) -> None:
    done = good(each_mode, whole(each_mode, *(each for each in CONTENTS if each != path)))
    assert set(done.parts.reads) == where(*pieces_of(path))


def test_a_file_is_here_within_another_object(each_mode: Repository) -> None:
    """A place need not begin where an object does."""
    [checksum] = store(each_mode, b"before it" + LARGE + b"behind" + ONE)
    places = {
        sha(LARGE): Place(checksum, 9, len(LARGE)),
        sha(ONE): Place(checksum, 15 + len(LARGE), len(ONE)),
    }
    done = good(each_mode, places)
    assert not where(*pieces_of("large"), *pieces_of("one")) & set(done.parts.reads)


def split_up(repo: Repository, path: str, every: int) -> dict[bytes, Place]:
    """Put every so many pieces of a file into the store, all in one object."""
    data, found = b"", []
    at = 0
    for number, piece in enumerate(FILES[path].pieces):
        if not piece.zeros and number % every == 0:
            found.append((piece.digest, len(data), piece.size))
            data += CONTENTS[path][at : at + piece.size]
        at += piece.size
    [checksum] = store(repo, data)
    return {digest: Place(checksum, offset, size) for digest, offset, size in found}


@pytest.mark.parametrize("path", ["several", "large"])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_pieces_of_a_file_are_here(each_mode: Repository, path: str, every: int) -> None:
    places = split_up(each_mode, path, every)
    done = good(each_mode, places)
    assert places
    lacking = [piece for piece in ALL if piece.digest not in places]
    assert set(done.parts.reads) == where(*lacking)
    assert done.wrong == []


def test_content_that_the_layer_has_twice_is_fetched_from_one_place(repo: Repository) -> None:
    stream = tar([file("a", SEVERAL), file("b", SEVERAL), file("c", SEVERAL[:-1])])
    blob = chunked(stream)
    done, error = run(repo, {}, blob)
    assert error is None and done.stream == stream
    one, other, _ = blob.index.files
    assert not where(*other.pieces) & set(done.parts.reads)
    assert where(*(each for each in one.pieces if not each.zeros)) <= set(done.parts.reads)


def test_chunks_are_of_bounded_size_and_seldom_small(repo: Repository) -> None:
    small = [file(f"f{number}", b"%d" % number) for number in range(2000)]
    stream = tar([*small, file("large", LARGE)])
    done, error = run(repo, {}, chunked(stream))
    assert error is None and done.stream == stream
    assert max(map(len, done.chunks)) < 2 * limits.BLOB_BUFFER + limits.PIECE_HELD_MAX
    assert len(done.chunks) < 2 * len(stream) // limits.BLOB_BUFFER + 2


# -- pieces that are not held ----------------------------------------------------------------


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PIECE_HELD_MAX", 1000)


@pytest.mark.usefixtures("streamed")
def test_large_pieces_pass_in_slices(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "BLOB_BUFFER", 5000)
    done = good(repo, {})
    assert max(end - start for start, end in done.parts.reads) <= 5000
    assert done.fetched == sum(piece.end - piece.start for piece in ALL)
    good(repo, whole(repo, "large"))
    good(repo, split_up(repo, "several", 2))


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("path", ["several", "large"])
def test_a_large_piece_that_is_wrong_ends_it(repo: Repository, path: str) -> None:
    """It has gone into the stream before it is known: there is no second try."""
    piece = FILES[path].pieces[0]
    other = FILES["one"].pieces[0]
    for damage in (halved, nothing, lambda _: BLOB.data[other.start : other.end]):
        done, error = run(repo, {}, first={piece.start: damage})
        assert isinstance(error, MalformedImage | VerificationFailed)
        assert done.parts.agains == []
        assert TAR.startswith(done.stream[: OFFSETS[path]])


@pytest.mark.usefixtures("streamed")
def test_a_large_piece_of_the_right_size_that_is_wrong_ends_it(repo: Repository) -> None:
    data = bytearray(LARGE)
    data[5] ^= 1
    other = chunked(tar([file("large", bytes(data))]))
    mine, theirs = FILES["large"].pieces[0], other.index.files[0].pieces[0]
    assert mine.size == theirs.size
    frame = other.data[theirs.start : theirs.end]
    _, error = run(repo, {}, first={mine.start: lambda _: frame})
    assert isinstance(error, VerificationFailed)


# -- damage on the way -----------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[:-1]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(_data: bytes) -> bytes:
    return b""


def flipped(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def another(_data: bytes) -> bytes:
    piece = FILES["last"].pieces[0]
    return BLOB.data[piece.start : piece.end]


DAMAGES = {"cut": cut, "nothing": nothing, "a bit": flipped, "zeros": zeroed, "another": another}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("path", ["one", "several", "large"])
def test_a_piece_that_is_wrong_is_fetched_once_more(
    repo: Repository, path: str, damage: Callable[[bytes], bytes]
) -> None:
    piece = pieces_of(path)[-1]
    done = good(repo, {}, first={piece.start: damage})
    assert done.parts.agains == [(piece.start, piece.end)]
    assert done.wrong == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("path", ["one", "several", "large"])
def test_a_piece_that_is_wrong_twice_ends_it(
    repo: Repository, path: str, damage: Callable[[bytes], bytes]
) -> None:
    piece = pieces_of(path)[-1]
    done, error = run(repo, {}, first={piece.start: flipped}, second={piece.start: damage})
    assert isinstance(error, VerificationFailed)
    assert error.exit_code == 6
    assert f"bytes {piece.start} to {piece.end}" in str(error)
    assert done.parts.agains == [(piece.start, piece.end)]
    assert TAR.startswith(done.stream), "nothing wrong goes into the stream"


def test_every_piece_once_wrong(repo: Repository) -> None:
    done = good(repo, {}, first={piece.start: flipped for piece in ALL})
    assert set(done.parts.agains) == where(*ALL)


def test_what_parts_raise_goes_through(repo: Repository) -> None:
    def refuse(_data: bytes) -> bytes:
        raise RangeRefused("no ranges any more")

    for changes in ({"first": refuse}, {"first": cut, "second": refuse}):
        at = pieces_of("several")[1].start
        parts = {when: {at: change} for when, change in changes.items()}
        _, error = run(repo, {}, **parts)
        assert isinstance(error, RangeRefused)


# -- damage in the store ---------------------------------------------------------------------


def object_path(repo: Repository, checksum: str) -> Path:
    return Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    path.write_bytes(data)


STORE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "cut off": truncate,
    "a bit": change_byte,
    "empty": lambda path: os.truncate(path, 0),
}
STORE = pytest.mark.parametrize("damage", STORE_DAMAGES.values(), ids=STORE_DAMAGES)


@pytest.mark.parametrize("path", ["several", "large"])
def test_it_is_the_same_without_a_look_at_what_the_store_has(
    each_mode: Repository, path: str
) -> None:
    for places in (
        whole(each_mode, *CONTENTS),
        whole(each_mode, path),
        split_up(each_mode, path, 2),
    ):
        one, error = run(each_mode, places, careful=False)
        other = good(each_mode, places)
        assert error is None and one.stream == TAR
        assert (one.parts.reads, one.parts.agains, one.fetched, one.wrong) == (
            other.parts.reads, other.parts.agains, other.fetched, other.wrong,
        )  # fmt: skip


@STORE
@pytest.mark.parametrize("path", ["one", "several", "large"])
def test_damage_that_is_not_looked_for_shows_in_the_stream(
    each_mode: Repository, path: str, damage: Callable[[Path], object]
) -> None:
    """Its DiffID tells, unless it was seen at once; what is wrong is never taken for right."""
    places = whole(each_mode, *CONTENTS)
    place = places[sha(CONTENTS[path])]
    damage(object_path(each_mode, place.checksum))
    done, error = run(each_mode, places, careful=False)
    if error is not None:
        assert isinstance(error, DamagedRepository | VerificationFailed)
    elif done.wrong:
        assert done.wrong == [place] and done.stream == TAR
    else:
        assert len(done.stream) == len(TAR) and sha(done.stream) != sha(TAR)


@STORE
@pytest.mark.parametrize("path", ["one", "several", "large"])
def test_a_damaged_object_is_fetched(
    each_mode: Repository, path: str, damage: Callable[[Path], object]
) -> None:
    places = whole(each_mode, *CONTENTS)
    place = places[sha(CONTENTS[path])]
    damage(object_path(each_mode, place.checksum))
    done = good(each_mode, places)
    assert done.parts.reads == []  # it was not known before
    assert done.wrong == [place]
    assert set(done.parts.agains) <= where(*pieces_of(path))
    assert done.parts.agains


def test_of_a_large_damaged_object_only_what_is_wrong_is_fetched(repo: Repository) -> None:
    places = whole(repo, *CONTENTS)
    change_byte(object_path(repo, places[sha(LARGE)].checksum))
    done = good(repo, places)
    at = 0
    damaged = []
    for piece in FILES["large"].pieces:
        if at <= len(LARGE) * 3 // 4 < at + piece.size:
            damaged.append((piece.start, piece.end))
        at += piece.size
    assert done.parts.agains == damaged


@STORE
def test_a_damaged_object_with_pieces_is_fetched(
    each_mode: Repository, damage: Callable[[Path], object]
) -> None:
    places = split_up(each_mode, "several", 2)
    [checksum] = {place.checksum for place in places.values()}
    damage(object_path(each_mode, checksum))
    done = good(each_mode, places)
    assert [place.checksum for place in done.wrong] == [checksum]  # told once
    asked = [piece for piece in pieces_of("several") if piece.digest in places]
    assert set(done.parts.agains) <= where(*asked) and done.parts.agains


@pytest.mark.parametrize("path", ["one", "several", "large"])
@pytest.mark.parametrize(("offset", "longer"), [(1, 0), (0, -1), (0, 1), (10**9, 0)])
def test_a_place_that_was_never_right(
    repo: Repository, path: str, offset: int, longer: int
) -> None:
    """An index that is wrong costs bytes, no more."""
    places = whole(repo, path)
    [(digest, place)] = places.items()
    places[digest] = Place(place.checksum, place.offset + offset, place.size + longer)
    done = good(repo, places)
    assert done.parts.agains


def test_a_damaged_object_and_a_wrong_piece(repo: Repository) -> None:
    places = whole(repo, "one")
    object_path(repo, places[sha(ONE)].checksum).unlink()
    piece = FILES["one"].pieces[0]
    done, error = run(repo, places, second={piece.start: flipped})
    assert isinstance(error, VerificationFailed)
    assert len(done.wrong) == 1 and len(done.parts.agains) == 1


@pytest.mark.usefixtures("streamed")
def test_a_damaged_object_of_one_large_piece_ends_it(repo: Repository) -> None:
    """Such a piece is not fetched by the way: the layer is fetched whole."""
    content = random.Random(9).randbytes(3000)
    stream = tar([file("a", content)])
    [checksum] = store(repo, content)
    places = {sha(content): Place(checksum, 0, len(content))}
    assert run(repo, places, chunked(stream))[0].stream == stream
    change_byte(object_path(repo, checksum))
    done, error = run(repo, places, chunked(stream))
    assert isinstance(error, VerificationFailed)
    assert len(done.wrong) == 1 and done.parts.agains == []


# -- tables that lie -------------------------------------------------------------------------


def lying(path: str, **fields: Any) -> Blob:
    """Return the blob with a table of contents that says something else of a file."""

    def change(toc: dict[str, Any], _split: object) -> None:
        next(each for each in toc["entries"] if each["name"] == path).update(fields)

    return BLOB.changed(change)


@pytest.mark.parametrize("path", ["several", "large"])
@pytest.mark.parametrize("here", [False, True])
def test_pieces_that_do_not_make_their_file(repo: Repository, path: str, here: bool) -> None:
    """Its digest is going to be relied on: by the index of what the store has."""
    digest = sha(b"something else")
    places = split_up(repo, path, 1) if here else {}
    done, error = run(repo, places, lying(path, digest=f"sha256:{digest.hex()}"))
    assert isinstance(error, VerificationFailed)
    assert f"the pieces of {path!r} do not make it" in str(error)
    assert done.wrong == []


@pytest.mark.parametrize("path", ["several", "large"])
def test_pieces_that_do_not_make_a_file_that_is_here(repo: Repository, path: str) -> None:
    """What is there is what it should be: no good object is called damaged."""
    content = random.Random(8).randbytes(len(CONTENTS[path]))
    [checksum] = store(repo, content)
    places = {sha(content): Place(checksum, 0, len(content))}
    done, error = run(repo, places, lying(path, digest=f"sha256:{sha(content).hex()}"))
    # The stream has what the store has under that digest: only the DiffID tells.
    assert error is None and done.wrong == []
    offset = OFFSETS[path]
    expected = TAR[:offset] + content + TAR[offset + len(content) :]
    assert sha(done.stream) == sha(expected)


@pytest.mark.parametrize("path", ["one", "several", "large"])
def test_a_file_that_is_here_in_another_size(repo: Repository, path: str) -> None:
    content = CONTENTS[path][:-1]
    [checksum] = store(repo, content)
    places = {sha(content): Place(checksum, 0, len(content))}
    done, error = run(repo, places, lying(path, digest=f"sha256:{sha(content).hex()}"))
    assert isinstance(error, VerificationFailed)
    assert done.wrong == []


def test_a_file_of_zeros_is_not_fetched(repo: Repository) -> None:
    done, error = run(repo, {}, lying("zeros", chunkType="zeros"))
    assert error is None and done.stream == TAR
    assert not where(*FILES["zeros"].pieces) & set(done.parts.reads)


def test_zeros_that_are_none(repo: Repository) -> None:
    """They are not fetched, so they are hashed: their digest goes into the index too."""
    done, error = run(repo, {}, lying("one", chunkType="zeros"))
    assert isinstance(error, VerificationFailed) and "the pieces of 'one'" in str(error)
    assert done.parts.agains == []
    fields = {"chunkType": "zeros", "digest": f"sha256:{sha(b'0').hex()}"}
    _, error = run(repo, {}, lying("zeros", **fields))
    assert isinstance(error, VerificationFailed) and "the pieces of 'zeros'" in str(error)


def test_a_piece_that_is_said_to_be_zeros(repo: Repository) -> None:
    _, error = run(repo, {}, lying("several", chunkType="zeros"))
    assert isinstance(error, VerificationFailed) and "the pieces of 'several'" in str(error)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_piece_of_another_size(repo: Repository, more: int) -> None:
    size = len(ONE) + more

    def change(toc: dict[str, Any], split: list[dict[str, Any]]) -> None:
        next(each for each in toc["entries"] if each["name"] == "one").update(size=size)
        next(each for each in split if each.get("name") == "one").update(size=size)

    done, error = run(repo, {}, BLOB.changed(change))
    assert isinstance(error, VerificationFailed)
    assert len(done.parts.agains) == 1


def test_two_files_that_are_each_others(repo: Repository) -> None:
    """Their content is fetched, right by its digest, and in the wrong place: the DiffID tells."""

    def change(toc: dict[str, Any], _split: object) -> None:
        one, last = (
            next(each for each in toc["entries"] if each["name"] == name)
            for name in ("one", "last")
        )
        fields = ("digest", "offset", "endOffset")
        swapped = {key: last[key] for key in fields}
        last.update({key: one[key] for key in fields})
        one.update(swapped)

    assert len(ONE) == len(CONTENTS["last"])
    done, error = run(repo, {}, BLOB.changed(change))
    assert error is None
    assert len(done.stream) == len(TAR) and done.stream != TAR


def test_the_index_of_files_is_right() -> None:
    assert list(OFFSETS) == list(FILES) == list(CONTENTS)
    for path, at in OFFSETS.items():
        assert TAR[at:].startswith(CONTENTS[path])
