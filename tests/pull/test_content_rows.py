"""What the content index is told of a layer that was put together from parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, cast

import pytest

from bridge.layer.blob_index import BlobIndex, File, Piece, Placed
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.content_rows import ContentRows
from bridge.pull.partial_plan import Missing, PartialPlan
from bridge.pull.plan import Inside, LayerPlan, Mode

LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", Digest.of(b"blob"), 1000)


class Told:
    """A content index that remembers what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[bytes, Place]] = []
        self.empty: list[str] = []

    def add(self, rows: Iterable[tuple[bytes, Place]], empty: Iterable[str]) -> None:
        self.rows += rows
        self.empty += empty


def sha(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def object_of(name: str) -> str:
    return sha(f"object {name}").hex()


def file(path: str, *names: str, size: int = 10) -> File:
    pieces = tuple(Piece(sha(each), size, 0, 1, each == "zeros") for each in names)
    digest = pieces[0].digest if len(pieces) == 1 else sha(path)
    return File(path, size * len(names), digest, pieces)


PLACED = {512: file("one", "one"), 1536: file("two", "a", "zeros", "b"), 4096: file("three", "c")}


def told(places: dict[bytes, Place], became: dict[str, str]) -> list[tuple[bytes, Place]]:
    """What the index is told where it said `places`, and files became objects."""
    index = BlobIndex("zstd", tuple(PLACED.values()), (), 0, 900, 3, {})
    parts = PartialPlan(places, Missing({}, (), (), 0, 0), (), 0, 0)
    plan = LayerPlan(LAYER, Digest.of(b"tar"), Mode.PARTIAL, inside=Inside(b"", index), parts=parts)
    contents = Told()
    placed: Placed = {}
    rows = ContentRows(plan, cast(ContentIndex, cast(Any, contents)), placed)
    assert rows.on_file is not None
    for at, each in PLACED.items():
        placed[at] = each
        if each.path in became:
            rows.on_file(at, object_of(became[each.path]))
    rows.on_file(7, object_of("what the table of contents has not"))
    link = object_of("link")
    rows.keep([link])
    assert contents.empty == [link]
    return contents.rows


ONE = (sha("one"), Place(object_of("one"), 0, 10))
TWO = [
    (sha("two"), Place(object_of("two"), 0, 30)),
    (sha("a"), Place(object_of("two"), 0, 10)),
    (sha("b"), Place(object_of("two"), 20, 10)),
]
THREE = (sha("c"), Place(object_of("three"), 0, 10))
ALL = {"one": "one", "two": "two", "three": "three"}


@pytest.mark.parametrize(
    ("places", "became", "expected"),
    [
        pytest.param([], ALL, [ONE, *TWO, THREE], id="all is new"),
        pytest.param([ONE, *TWO, THREE], ALL, [], id="all is known"),
        pytest.param([ONE], ALL, [*TWO, THREE], id="one is known"),
        pytest.param(TWO[:1], ALL, [ONE, THREE], id="a file is known, so are its pieces"),
        pytest.param(TWO[1:], ALL, [ONE, TWO[0], THREE], id="its pieces are known"),
        pytest.param(TWO[1:2], ALL, [ONE, TWO[0], TWO[2], THREE], id="a piece is known"),
        # Known, but of another object: with another owner, say, or a piece of a larger file.
        pytest.param(
            [(ONE[0], Place(object_of("other"), 0, 10))],
            ALL,
            [ONE, *TWO, THREE],
            id="of another object",
        ),
        pytest.param(
            [(ONE[0], Place(object_of("one"), 10, 10))],
            ALL,
            [ONE, *TWO, THREE],
            id="elsewhere in it",
        ),
        pytest.param([ONE], {"two": "two"}, TWO, id="left out"),
    ],
)
def test_the_index_is_told_what_it_did_not_say(
    places: list[tuple[bytes, Place]],
    became: dict[str, str],
    expected: list[tuple[bytes, Place]],
) -> None:
    assert told(dict(places), became) == expected
