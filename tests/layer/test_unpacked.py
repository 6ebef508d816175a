"""What gzip and zstd blobs say of their unpacked size, by the real libraries' output."""

from __future__ import annotations

import gzip
import os

import pytest
import zstandard

from bridge.layer.unpacked import GZIP_TAIL, ZSTD_HEAD, gzip_size, zstd_size

CONTENTS = {
    "nothing": b"",
    "a little": b"a" * 300,
    "much that is alike": b"a" * 10_000_000,
    "what cannot be compressed": os.urandom(1_000_000),
    "a little of that": os.urandom(100),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("level", [1, 9])
def test_gzip_says_its_size_at_the_end(content: bytes, level: int) -> None:
    blob = gzip.compress(content, level)
    assert gzip_size(blob[-GZIP_TAIL:], len(blob)) == len(content)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("level", [1, 19])
def test_zstd_says_its_size_at_the_start(content: bytes, level: int) -> None:
    blob = zstandard.ZstdCompressor(level=level).compress(content)
    assert zstd_size(blob[:ZSTD_HEAD], len(blob)) == len(content)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("isize", "compressed", "size"),
    [
        # The field is the size modulo 4 GiB: what a blob of 5 GiB cannot be is left out.
        (1 * GIB, 5 * GIB, 5 * GIB),
        (3 * GIB, 5 * GIB, 7 * GIB),
        (0, 9 * GIB, 12 * GIB),
        (1 * GIB, 2**63 - 1, (2**63 // (4 * GIB)) * 4 * GIB - 4 * GIB + GIB),
        # The last of several members, as eStargz has it: an empty one.
        (0, 1_000_000, None),
        (999_000, 4 * GIB, None),
        # One that may be the last of several is the least there can be all the same.
        (2_000_000, 1_000_000, 2_000_000),
    ],
)
def test_a_gzip_size_is_the_least_there_can_be(
    isize: int, compressed: int, size: int | None
) -> None:
    found = gzip_size(isize.to_bytes(4, "little"), compressed)
    if compressed < 2**62:
        assert found == size
    else:
        assert found is not None and found % (4 * GIB) == isize
        assert compressed - compressed // 1000 - 64 <= found < compressed + 4 * GIB


UNKNOWN = {
    "nothing": b"",
    "not zstd": b"\x1f\x8b" + bytes(16),
    "a skippable frame first": b"\x50\x2a\x4d\x18" + bytes(14),
    "a header that is cut off": zstandard.compress(bytes(1_000_000))[:6],
    "no size in the header": zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 99),
}


@pytest.mark.parametrize("head", UNKNOWN.values(), ids=UNKNOWN)
def test_a_zstd_blob_need_not_say_its_size(head: bytes) -> None:
    assert zstd_size(head[:ZSTD_HEAD], 10) is None


def test_one_frame_of_several_says_nothing_of_the_whole() -> None:
    frames = zstandard.compress(os.urandom(1000)) + zstandard.compress(os.urandom(9000))
    assert zstd_size(frames[:ZSTD_HEAD], len(frames)) is None
    members = gzip.compress(os.urandom(9000)) + gzip.compress(os.urandom(1000))
    assert gzip_size(members[-GZIP_TAIL:], len(members)) is None


@pytest.mark.parametrize("tail", [b"", b"\0\0\0", b"\0" * 5])
def test_a_gzip_tail_of_another_length_is_none(tail: bytes) -> None:
    assert gzip_size(tail, 0) is None
