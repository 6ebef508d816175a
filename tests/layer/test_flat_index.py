"""An index as plain data: the same again, and no more of it in memory at once than a piece."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chunked import chunked
from support.estargz import entry, estargz
from support.images import directory, file, symlink, tar

from bridge.layer import flat_index, indexed
from bridge.layer.blob_index import BlobIndex, File, Piece
from bridge.layer.flat_index import flatten, read
from bridge.layer.tar import EntryType

DIGEST = st.binary(min_size=32, max_size=32)
NUMBER = st.integers(0, 1 << 62)
FACTS = st.tuples(
    st.sampled_from(EntryType),
    st.integers(0, 0o7777),
    st.integers(-(1 << 62), 1 << 62),
    st.integers(-(1 << 62), 1 << 62),
    NUMBER,
    st.integers(-(1 << 70), 1 << 70),
    st.text(st.characters(), max_size=9),
    st.tuples(NUMBER, NUMBER),
    st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple),
)
PIECE = st.builds(Piece, DIGEST, NUMBER, NUMBER, NUMBER, st.booleans())


@st.composite
def indexes(draw: st.DrawFn) -> BlobIndex:
    entries = draw(st.dictionaries(st.text(st.characters(), max_size=9), FACTS, max_size=12))
    files: list[File] = [
        File(
            name,
            draw(NUMBER),
            draw(DIGEST),
            tuple(draw(st.lists(PIECE, min_size=1, max_size=3))),
        )
        for name in entries
        if draw(st.booleans())
    ]
    files = draw(st.permutations(files))  # with all known writers they are in the entries' order
    packed = draw(st.lists(st.binary(max_size=20), max_size=3))
    numbers = [draw(NUMBER) for _ in range(3)]
    return BlobIndex(
        draw(st.sampled_from(["zstd", "gzip"])), tuple(files), packed, *numbers, entries,
        draw(st.sampled_from(["", "stargz.index.json"])),
    )  # fmt: skip


def same(one: BlobIndex, other: BlobIndex) -> None:
    """Order of the entries, and kinds of objects, as well."""
    assert one == other
    assert list(one.entries) == list(other.entries)
    assert [type(each) for each in other.files] == [File] * len(one.files)
    assert {type(piece) for each in other.files for piece in each.pieces} <= {Piece}


@given(indexes(), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_any_index_comes_back(index: BlobIndex, together: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat_index, "_TOGETHER", together)
        same(index, read(flatten(index)))


def test_what_follows_an_index_is_left() -> None:
    """They come out of one pipe."""
    index = chunked(tar([file("a", b"a"), directory("b"), symlink("c", "a")])).index
    pieces = iter([*flatten(index), b"next"])
    same(index, read(pieces))
    assert list(pieces) == [b"next"]


def test_one_object_for_what_is_the_same() -> None:
    """As when the tables are read here: names, digests and modes are in memory once."""
    index = chunked(tar([file(f"{each}", b"%d" % each, mode=0o600) for each in range(50)])).index
    found = read(flatten(index))
    for each, name in zip(found.files, found.entries, strict=True):
        assert each.path is name
        assert each.digest is each.pieces[0].digest
        assert each.size is each.pieces[0].size or each.size < 257
    assert len({id(facts[1]) for facts in found.entries.values()}) == 1


def test_an_estargz_index_comes_back() -> None:
    made = estargz(
        [
            entry("a/"),
            *(entry(f"a/{each}", random.Random(each).randbytes(900)) for each in range(9)),
        ],
        chunk=400,
    )
    location = indexed.locate(made.annotations, len(made.blob), "gzip")
    assert location is not None
    index = indexed.read(location, made.blob[location.start :])
    assert index.own == "stargz.index.json"
    same(index, read(flatten(index)))
