"""Annotations, a blob's end and its footer: what they say, and what they must not."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import indexed
from bridge.layer.zstd_chunked import (
    OLD_PREFIX,
    PREFIX,
    ChunkedLocation,
    Extent,
    Footer,
    as_annotations,
    locate,
    parse_footer,
    render_footer,
    skippable,
    split,
)

TOC, SPLIT = b"the table of contents, compressed", b"the tar-split"
DIGEST = hashlib.sha256(TOC).digest()
CONTENT = 1000
TOC_AT = Extent(CONTENT + 8, len(TOC), 500)
SPLIT_AT = Extent(TOC_AT.end + 8, len(SPLIT), 700)
FOOTER = Footer(TOC_AT, SPLIT_AT)
TAIL = skippable(TOC) + skippable(SPLIT) + render_footer(FOOTER)
SIZE = CONTENT + len(TAIL)
GOOD = {
    PREFIX + "manifest-checksum": f"sha256:{DIGEST.hex()}",
    PREFIX + "manifest-position": "1008:33:500:1",
    PREFIX + "tarsplit-position": "1049:13:700",
}
LOCATION = ChunkedLocation(SIZE, TOC_AT, DIGEST, SPLIT_AT)

# -- golden ----------------------------------------------------------------------------------

SERVER_V2 = {
    "io.github.containers.zstd-chunked.manifest-checksum": (
        "sha256:0222dd58a111389bad61205d00105ea26d2ddd6d79b0a2eac5e4e17cbf686337"
    ),
    "io.github.containers.zstd-chunked.manifest-position": "182472577:1439686:6652601:1",
    "io.github.containers.zstd-chunked.tarsplit-position": "183912271:747719:17587023",
}
"""Of the first layer of a Debian server, as skopeo 1.22 pushed it; its blob has 184660062 bytes."""


def test_the_annotations_of_a_real_layer() -> None:
    found = locate(SERVER_V2, 184660062)
    assert found == ChunkedLocation(
        184660062,
        Extent(182472577, 1439686, 6652601),
        bytes.fromhex("0222dd58a111389bad61205d00105ea26d2ddd6d79b0a2eac5e4e17cbf686337"),
        Extent(183912271, 747719, 17587023),
    )
    assert found.start == 182472569
    assert found.tar_split.end + 72 == 184660062  # the footer
    assert as_annotations(found.toc, found.toc_digest, found.tar_split) == SERVER_V2
    assert indexed.locate(SERVER_V2, 184660062, "zstd") == found


def test_a_footer_is_72_bytes() -> None:
    footer = render_footer(FOOTER)
    assert footer.hex() == (
        "502a4d18" "40000000"
        "f003000000000000" "2100000000000000" "f401000000000000" "0100000000000000"
        "1904000000000000" "0d00000000000000" "bc02000000000000" "474e556c496e5578"
    )  # fmt: skip
    assert parse_footer(footer) == FOOTER


def test_an_old_footer_is_48_bytes() -> None:
    old = skippable(struct.pack("<4Q", *TOC_AT, 1) + b"GnUlInUx")
    assert len(old) == 48
    assert parse_footer(old) == Footer(TOC_AT, None)


def test_a_skippable_frame() -> None:
    assert skippable(b"abc") == b"\x50\x2a\x4d\x18\x03\0\0\0abc"


EXTENTS = st.builds(Extent, *(st.integers(0, 2**64 - 1),) * 3)


@given(EXTENTS, EXTENTS)
def test_a_footer_comes_back(toc: Extent, tar_split: Extent) -> None:
    footer = Footer(toc, tar_split)
    assert parse_footer(render_footer(footer)) == footer


# -- annotations -----------------------------------------------------------------------------


def test_where_it_is() -> None:
    assert locate(GOOD, SIZE) == LOCATION
    assert locate({**GOOD, "other": "annotation"}, SIZE) == LOCATION
    assert locate({**GOOD, OLD_PREFIX + "manifest-checksum": "nonsense"}, SIZE) == LOCATION
    assert locate({}, SIZE) is None
    assert locate({"org.opencontainers.image.title": "a"}, SIZE) is None
    # A position alone has nobody's word for it.
    assert locate({PREFIX + "manifest-position": "1008:33:500:1"}, SIZE) is None


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_another_compression_has_none(compression: str) -> None:
    assert indexed.locate(GOOD, SIZE, compression) is None


CHECKSUM, POSITION, TARSPLIT = GOOD
WRONG = {
    "an empty digest": ({CHECKSUM: ""}, "digest"),
    "a digest without its algorithm": ({CHECKSUM: DIGEST.hex()}, "digest"),
    "a digest of another algorithm": ({CHECKSUM: f"sha512:{DIGEST.hex() * 2}"}, "digest"),
    "a digest in capitals": ({CHECKSUM: f"sha256:{DIGEST.hex().upper()}"}, "digest"),
    "a short digest": ({CHECKSUM: f"sha256:{DIGEST.hex()[1:]}"}, "digest"),
    "a long digest": ({CHECKSUM: f"sha256:{DIGEST.hex()}0"}, "digest"),
    "a digest and a line": ({CHECKSUM: f"sha256:{DIGEST.hex()}\n"}, "digest"),
    "a digest with a path": ({CHECKSUM: "sha256:../../etc/passwd"}, "digest"),
    "no position": ({POSITION: None}, "4 numbers"),
    "an empty position": ({POSITION: ""}, "4 numbers"),
    "three numbers": ({POSITION: "1008:33:500"}, "4 numbers"),
    "five numbers": ({POSITION: "1008:33:500:1:1"}, "4 numbers"),
    "an empty number": ({POSITION: "1008::500:1"}, "4 numbers"),
    "a word": ({POSITION: "1008:33:500:one"}, "4 numbers"),
    "a negative number": ({POSITION: "1008:-33:500:1"}, "4 numbers"),
    "a plus": ({POSITION: "+1008:33:500:1"}, "4 numbers"),
    "a space": ({POSITION: "1008: 33:500:1"}, "4 numbers"),
    "a line end": ({POSITION: "1008:33:500:1\n"}, "4 numbers"),
    "a zero first": ({POSITION: "01008:33:500:1"}, "4 numbers"),
    "an underscore": ({POSITION: "1_008:33:500:1"}, "4 numbers"),
    "a fraction": ({POSITION: "1008.0:33:500:1"}, "4 numbers"),
    "hexadecimal": ({POSITION: "0x3f0:33:500:1"}, "4 numbers"),
    "Arabic digits": ({POSITION: "١٠٠٨:33:500:1"}, "4 numbers"),
    "too many digits": ({POSITION: f"{'9' * 5000}:33:500:1"}, "4 numbers"),
    "20 digits": ({POSITION: f"{2**64}:33:500:1"}, "4 numbers"),
    "kind 0": ({POSITION: "1008:33:500:0"}, "unknown kind 0"),
    "kind 2": ({POSITION: "1008:33:500:2"}, "unknown kind 2"),
    "no tar-split": ({TARSPLIT: None}, "without a tar-split"),
    "an empty tar-split": ({TARSPLIT: ""}, "3 numbers"),
    "a tar-split with a kind": ({TARSPLIT: "1049:13:700:1"}, "3 numbers"),
    "a tar-split of two numbers": ({TARSPLIT: "1049:13"}, "3 numbers"),
    "a table of contents of no bytes": ({POSITION: "1008:0:500:1"}, "contents is empty"),
    "a table of contents of nothing": ({POSITION: "1008:33:0:1"}, "contents is empty"),
    "a tar-split of no bytes": ({TARSPLIT: "1049:0:700"}, "tar-split is empty"),
    "a tar-split of nothing": ({TARSPLIT: "1049:13:0"}, "tar-split is empty"),
    "a table of contents that is large": (
        {POSITION: f"1008:33:{limits.TOC_MAX + 1}:1"},
        "larger than",
    ),
    "one that is large in the blob": (
        {POSITION: f"1008:{limits.TOC_MAX + 1}:500:1"},
        "larger than",
    ),
    "a tar-split that is large": (
        {TARSPLIT: f"1049:13:{limits.TAR_SPLIT_MAX + 1}"},
        "larger than",
    ),
    "at the blob's beginning": (
        {POSITION: "8:33:500:1", TARSPLIT: "49:13:700"},
        "not behind",
    ),
    "before the blob's beginning": (
        {POSITION: "0:33:500:1", TARSPLIT: "41:13:700"},
        "not behind",
    ),
    "the tar-split before it": ({TARSPLIT: "900:13:700"}, "not behind"),
    "the tar-split over it": ({TARSPLIT: "1048:13:700"}, "not behind"),
    "the tar-split in its place": ({TARSPLIT: "1008:33:700"}, "not behind"),
    "a gap before the tar-split": ({TARSPLIT: "1050:12:700"}, "not behind"),
    "beyond the blob's end": ({TARSPLIT: f"1049:{SIZE - 1048}:700"}, "beyond its end"),
    "far beyond the blob's end": (
        {POSITION: f"{2**62}:33:500:1", TARSPLIT: f"{2**62 + 41}:13:700"},
        "beyond its end",
    ),
    "old ones, which had no tar-split": (
        {CHECKSUM: None, POSITION: None, TARSPLIT: None}
        | {key.replace(PREFIX, OLD_PREFIX): GOOD[key] for key in (CHECKSUM, POSITION)},
        "without a tar-split",
    ),
    "old ones without a position": (
        {CHECKSUM: None, OLD_PREFIX + "manifest-checksum": GOOD[CHECKSUM]},
        "4 numbers",
    ),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_annotations_that_cannot_be(changes: dict[str, str | None], words: str) -> None:
    annotations = {key: value for key, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(MalformedImage, match=words) as caught:
        locate(annotations, SIZE)
    assert len(str(caught.value)) < 300


# -- the end of a blob -----------------------------------------------------------------------


def test_a_good_end() -> None:
    toc, tar_split = split(LOCATION, TAIL)
    assert (bytes(toc), bytes(tar_split)) == (TOC, SPLIT)


def located(footer: bytes) -> tuple[ChunkedLocation, bytes]:
    """Return an end with another footer, or anything for one, and its location."""
    tail = skippable(TOC) + skippable(SPLIT) + footer
    return ChunkedLocation(CONTENT + len(tail), TOC_AT, DIGEST, SPLIT_AT), tail


@pytest.mark.parametrize(
    "footer",
    [b"", b"no footer", bytes(72), render_footer(FOOTER)[:-1] + b"y", bytes(64), skippable(b"")],
)
def test_a_footer_is_not_needed(footer: bytes) -> None:
    toc, tar_split = split(*located(footer))
    assert (bytes(toc), bytes(tar_split)) == (TOC, SPLIT)


@pytest.mark.parametrize("place", range(1, 7))
def test_a_footer_that_says_otherwise(place: int) -> None:
    numbers = [*TOC_AT, *SPLIT_AT]
    numbers[place - 1] += 1
    footer = Footer(Extent(*numbers[:3]), Extent(*numbers[3:]))
    with pytest.raises(MalformedImage, match="footer and the manifest's annotations disagree"):
        split(*located(render_footer(footer)))


def test_a_footer_of_an_old_writer_has_no_tar_split() -> None:
    old = skippable(struct.pack("<4Q", *TOC_AT, 1) + b"GnUlInUx")
    with pytest.raises(MalformedImage, match="disagree"):
        split(*located(old))


def edit(at: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda tail: tail[:at] + data + tail[at + len(data) :]


SECOND = len(TOC) + 8
ENDS = {
    "nothing": (lambda _tail: b"", "length"),
    "a byte less": (lambda tail: tail[:-1], "length"),
    "a byte more": (lambda tail: tail + b"\0", "length"),
    "its first byte lacks": (lambda tail: tail[1:], "length"),
    "zeros": (lambda tail: bytes(len(tail)), "table of contents is not where"),
    "shifted": (lambda tail: b"\0" + tail[:-1], "table of contents is not where"),
    "another magic number": (edit(3, b"\x19"), "table of contents is not where"),
    "a zstd frame": (edit(0, b"\x28\xb5\x2f\xfd"), "table of contents is not where"),
    "another length": (edit(4, b"\x20"), "table of contents is not where"),
    "a length beyond the end": (edit(7, b"\x7f"), "table of contents is not where"),
    "another table of contents": (edit(8, b"T"), "digest that the manifest gives"),
    "its last byte": (edit(SECOND - 1, b"?"), "digest that the manifest gives"),
    "the tar-split's magic number": (edit(SECOND, b"\x4f"), "tar-split is not where"),
    "the tar-split's length": (edit(SECOND + 4, b"\x0e"), "tar-split is not where"),
}


@pytest.mark.parametrize(("change", "words"), ENDS.values(), ids=ENDS)
def test_an_end_that_is_not_the_one_meant(change: Callable[[bytes], bytes], words: str) -> None:
    with pytest.raises(MalformedImage, match=words):
        split(LOCATION, change(TAIL))


@pytest.mark.parametrize("low", range(16))
def test_there_are_sixteen_magic_numbers_of_skippable_frames(low: int) -> None:
    tail = edit(0, bytes([0x50 + low]))(TAIL)
    assert bytes(split(LOCATION, tail)[0]) == TOC


def test_lengths_that_the_annotations_have_otherwise() -> None:
    for changed in (
        ChunkedLocation(SIZE, TOC_AT._replace(packed=32), DIGEST, SPLIT_AT),
        ChunkedLocation(SIZE, TOC_AT, DIGEST, SPLIT_AT._replace(packed=12)),
    ):
        with pytest.raises(MalformedImage, match="not where the manifest says"):
            split(changed, TAIL)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(72),
        render_footer(FOOTER)[:-1],
        render_footer(FOOTER) + b"\0",
        edit(0, b"\x60")(render_footer(FOOTER)),
        edit(4, b"\x3f")(render_footer(FOOTER)),
        edit(32, b"\x02")(render_footer(FOOTER)),
        edit(64, b"GnUlInUx")(render_footer(FOOTER)),
        edit(64, b"gnulinux")(render_footer(FOOTER)),
        skippable(struct.pack("<4Q", *TOC_AT, 2) + b"GnUlInUx"),
        skippable(struct.pack("<4Q", *TOC_AT, 1) + b"GNUlInUx"),
    ],
)
def test_what_is_no_footer(data: bytes) -> None:
    assert parse_footer(data) is None
