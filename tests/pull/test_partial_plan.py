"""What is missing of a layer, given what is here; and whether it is worth it to go by that."""

from __future__ import annotations

import hashlib

import pytest

from bridge import limits
from bridge.layer.blob_index import BlobIndex, File, Piece
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.pull.coalesce import Link
from bridge.pull.content_index import Place
from bridge.pull.partial_plan import missing, partial_plan
from bridge.pull.plan import Inside, LayerPlan, Mode, in_parts

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
HERE = Place("0" * 64, 0, 1)


def sha(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def piece(name: str, start: int, end: int, size: int = 100) -> Piece:
    return Piece(sha(name), size, start, end, name == "zeros")


def file(path: str, *pieces: Piece) -> File:
    size = sum(each.size for each in pieces)
    digest = pieces[0].digest if len(pieces) == 1 else sha(path)
    return File(path, size, digest, pieces)


def blob(*files: File, end: int = 1000) -> BlobIndex:
    return BlobIndex("zstd", files, (), 0, end, 0, {})


ONE = file("one", piece("one", 10, 20))
TWO = file("two", piece("a", 30, 40), piece("zeros", 40, 44, 5000), piece("b", 44, 60))
TWIN = file("twin", piece("b", 70, 90), piece("c", 90, 100))


@pytest.mark.parametrize(
    ("here", "ranges", "local", "files"),
    [
        ([], [(10, 20), (30, 40), (44, 60), (90, 100)], [(40, 44)], 3),
        (["one"], [(30, 40), (44, 60), (90, 100)], [(40, 44)], 2),
        # A file that is here as a whole is not looked at any closer.
        (["two"], [(10, 20), (70, 100)], [], 2),
        (["a", "b"], [(10, 20), (90, 100)], [(30, 60), (70, 90)], 3),
        (["one", "two", "twin"], [], [], 0),
        (["one", "a", "b", "c"], [], [(30, 60), (70, 100)], 2),
    ],
)
def test_missing(
    here: list[str],
    ranges: list[tuple[int, int]],
    local: list[tuple[int, int]],
    files: int,
) -> None:
    found = missing(blob(ONE, TWO, TWIN), {sha(name): HERE for name in here})
    assert list(found.ranges) == ranges
    assert list(found.local) == local
    assert found.files == files
    lacking = [each for each in (ONE, TWO, TWIN) if each.path not in here]
    assert found.bytes == sum(each.size for each in lacking)
    assert all(digest not in {sha(name) for name in here} for digest in found.pieces)


def test_a_piece_that_a_layer_has_twice_is_fetched_once() -> None:
    found = missing(blob(TWO, TWIN), {})
    assert found.pieces[sha("b")] == (44, 60)
    assert (70, 90) not in found.ranges


def test_a_blob_may_have_files_in_another_order_than_the_archive() -> None:
    found = missing(blob(TWIN, ONE, TWO), {sha("a"): HERE, sha("c"): HERE})
    assert list(found.ranges) == [(10, 20), (70, 90)]
    assert list(found.local) == [(30, 44), (90, 100)]
    assert all(any(a <= s < e <= b for a, b in found.ranges) for s, e in found.pieces.values())


def test_bytes_of_a_plan_add_up_to_the_blob() -> None:
    places = {sha("a"): HERE, sha("one"): HERE}
    found = missing(blob(ONE, TWO, TWIN), places)
    # The zeros between two pieces that are fetched come along.
    parts = partial_plan(found, places, [(44, 100)])
    plan = LayerPlan(
        Descriptor(ZSTD, Digest.of(b"blob"), 1100),
        Digest.of(b"tar"),
        Mode.PARTIAL,
        inside=Inside(bytes(100), blob(ONE, TWO, TWIN)),
        parts=parts,
    )
    assert parts.fetch_bytes == 56
    assert parts.chunk_bytes == 14  # "a", and the zeros, which were not fetched
    assert plan.transfer_bytes == 156
    assert plan.transfer_requests == 2
    assert plan.transfer_bytes + plan.avoided_chunk_bytes + plan.avoided_file_bytes == 1100


def plans(size: int) -> list[LayerPlan]:
    inside = Inside(bytes(100), blob(ONE, TWO, TWIN, end=size - 100))
    layer = Descriptor(ZSTD, Digest.of(b"blob"), size)
    return [
        LayerPlan(layer, Digest.of(b"present"), Mode.PRESENT, "c" * 64),
        LayerPlan(layer, Digest.of(b"other"), Mode.WHOLE, reason="no table of contents"),
        LayerPlan(layer, Digest.of(b"tar"), Mode.WHOLE, inside=inside),
    ]


def test_only_layers_whose_inside_is_known_are_had_in_parts() -> None:
    given = plans(1100)
    found = in_parts(given, {sha("one"): HERE}, Link())
    assert found[:2] == given[:2]
    assert found[2].mode is Mode.PARTIAL
    assert found[2].reason == "1 of 3 files are here"


@pytest.mark.parametrize("size", [190, 300])
def test_what_would_save_little_is_fetched_whole(size: int) -> None:
    found = in_parts(plans(size), {}, Link())[2]
    # The tail and a joined range from 10 to 100.
    little = 190 * 100 / size > limits.PARTIAL_PERCENT_MAX
    assert found.mode is (Mode.WHOLE if little else Mode.PARTIAL)
    assert found.inside is not None
    assert ("100 % of the blob" in found.reason) == little


def scattered(count: int, gap: int, size: int) -> BlobIndex:
    """A blob that lacks `count` files of `size` bytes, with files that are here between them."""
    files = []
    for number in range(count):
        at = number * (gap + size)
        files.append(file(f"here-{number}", piece("one", at, at + gap)))
        files.append(file(f"new-{number}", piece(f"{number} {size}", at + gap, at + gap + size)))
    return blob(*files, end=count * (gap + size))


def scattered_plan(name: str, count: int, gap: int, size: int) -> LayerPlan:
    index = scattered(count, gap, size)
    layer = Descriptor(ZSTD, Digest.of(name.encode()), index.end + 100)
    diff_id = Digest.of(f"tar of {name}".encode())
    return LayerPlan(layer, diff_id, Mode.WHOLE, inside=Inside(bytes(100), index))


def test_layers_that_go_whole_leave_their_requests_to_the_others() -> None:
    some = scattered_plan("some", 300, 20_000, 1_000)
    full = scattered_plan("full", 150, 5_000, 95_000)
    parts, whole = in_parts([some, full], {sha("one"): HERE}, Link())
    assert whole.mode is Mode.WHOLE
    assert "in parts it would be 95 % of the blob" in whole.reason
    assert parts.mode is Mode.PARTIAL and parts.parts is not None
    # Two tables of contents, and the whole layer.
    assert len(parts.parts.ranges) == limits.PARTS_REQUESTS_MOST - 3


def test_a_layer_that_gaps_make_too_large_goes_whole() -> None:
    """With the requests that it leaves fewer gaps of the other are closed."""
    some = scattered_plan("some", 300, 20_000, 1_000)
    half = scattered_plan("half", 500, 5_000, 20_000)
    parts, whole = in_parts([some, half], {sha("one"): HERE}, Link())
    assert whole.mode is Mode.WHOLE and "in parts" in whole.reason
    assert parts.parts is not None
    assert len(parts.parts.ranges) == limits.PARTS_REQUESTS_MOST - 3
