"""Unpacking a piece: its bytes and no more, of whatever compression, or an error."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.pieces import unpack, unpacked

TEXT = b"usr/lib/os-release " * 400 + bytes(range(256))
NOISE = os.urandom(300_000)


def frame(data: bytes, level: int = 3, **how: bool) -> bytes:
    return zstandard.ZstdCompressor(level=level, **how).compress(data)


def whole(packed: bytes, size: int, compression: str) -> bytes:
    return unpack(packed, size, compression)


def streamed(packed: bytes, size: int, compression: str) -> bytes:
    chunks = (packed[at : at + 1000] for at in range(0, len(packed), 1000))
    return b"".join(unpacked(chunks, size, compression))


Way = Callable[[bytes, int, str], bytes]
WAYS = pytest.mark.parametrize("way", [whole, streamed])

GOOD: dict[str, tuple[bytes, bytes, str]] = {
    "a frame": (frame(TEXT), TEXT, "zstd"),
    "of one byte": (frame(b"a"), b"a", "zstd"),
    "with a checksum": (frame(NOISE, write_checksum=True), NOISE, "zstd"),
    "without its size": (frame(TEXT, write_content_size=False), TEXT, "zstd"),
    "of much that does not pack": (frame(NOISE, write_content_size=False), NOISE, "zstd"),
    "of zeros": (frame(bytes(5_000_000), 19), bytes(5_000_000), "zstd"),
    "a gzip member": (gzip.compress(TEXT), TEXT, "gzip"),
    "a gzip member of zeros": (gzip.compress(bytes(5_000_000)), bytes(5_000_000), "gzip"),
    # eStargz: behind a file's content there is padding, and the next headers.
    "a gzip member with more in it": (gzip.compress(TEXT + bytes(5000)), TEXT, "gzip"),
    "a gzip member and another": (gzip.compress(TEXT) + gzip.compress(NOISE), TEXT, "gzip"),
    "a gzip member that is stored": (gzip.compress(NOISE, 0), NOISE, "gzip"),
}


@WAYS
@pytest.mark.parametrize(("packed", "data", "compression"), GOOD.values(), ids=GOOD)
def test_what_is_in_it(packed: bytes, data: bytes, compression: str, way: Way) -> None:
    assert way(packed, len(data), compression) == data


def test_a_frame_and_another() -> None:
    """Whole, the first is the piece; as a stream they are one, as in any blob. Either way it is
    held to its digest."""
    packed = frame(TEXT) + frame(NOISE)
    assert unpack(packed, len(TEXT), "zstd") == TEXT
    assert streamed(packed, len(TEXT), "zstd") == TEXT
    with pytest.raises(MalformedImage):
        unpack(packed, len(TEXT) + len(NOISE), "zstd")


def lying(data: bytes, size: int) -> bytes:
    """Return a frame whose header announces another size, in its eight-byte form."""
    packed = frame(data, write_content_size=False)
    descriptor = packed[4] | 0xC0
    return packed[:4] + bytes([descriptor, packed[5]]) + struct.pack("<Q", size) + packed[6:]


def test_the_header_that_is_made_here_is_one() -> None:
    assert unpack(lying(TEXT, len(TEXT)), len(TEXT), "zstd") == TEXT


WRONG: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 5, "zstd"),
    "nothing, gzip": (b"", 5, "gzip"),
    "no zstd": (TEXT, len(TEXT), "zstd"),
    "no gzip": (TEXT, len(TEXT), "gzip"),
    "gzip for zstd": (gzip.compress(TEXT), len(TEXT), "zstd"),
    "zstd for gzip": (frame(TEXT), len(TEXT), "gzip"),
    "zlib for gzip": (zlib.compress(TEXT), len(TEXT), "gzip"),
    "an empty frame": (frame(b""), 5, "zstd"),
    "a skippable frame": (b"\x50\x2a\x4d\x18\x05\0\0\0" + TEXT[:5], 5, "zstd"),
    "a skippable frame first": (b"\x50\x2a\x4d\x18\0\0\0\0", 5, "zstd"),
    "a frame that is smaller": (frame(TEXT), len(TEXT) + 1, "zstd"),
    "a frame that is smaller, and does not say": (
        frame(TEXT, write_content_size=False),
        len(TEXT) + 1,
        "zstd",
    ),
    "a member that is smaller": (gzip.compress(TEXT), len(TEXT) + 1, "gzip"),
    "a frame that is cut off": (frame(NOISE)[:-1], len(NOISE), "zstd"),
    "a frame that is cut off early": (frame(NOISE)[:100], len(NOISE), "zstd"),
    "a frame that is cut off in its header": (frame(NOISE)[:5], len(NOISE), "zstd"),
    "a member that is cut off": (gzip.compress(NOISE)[:-1000], len(NOISE), "gzip"),
    "a member that is cut off in its header": (gzip.compress(NOISE)[:9], len(NOISE), "gzip"),
    "a size that is too small": (lying(TEXT, 5), len(TEXT), "zstd"),
    "a size that is too large": (lying(TEXT, 2**40), len(TEXT), "zstd"),
    "a size that is right, of less": (lying(TEXT, len(TEXT) + 9), len(TEXT) + 9, "zstd"),
    "a reserved bit": (bytes([*frame(TEXT)[:4], frame(TEXT)[4] | 8]) + frame(TEXT)[5:], 5, "zstd"),
    "a dictionary": (
        zstandard.ZstdCompressor(
            dict_data=zstandard.train_dictionary(2000, [b"%d" % each * 50 for each in range(999)])
        ).compress(TEXT),
        len(TEXT),
        "zstd",
    ),
}


@WAYS
@pytest.mark.parametrize(("packed", "size", "compression"), WRONG.values(), ids=WRONG)
def test_what_is_not_in_it(packed: bytes, size: int, compression: str, way: Way) -> None:
    with pytest.raises(MalformedImage) as caught:
        way(packed, size, compression)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("size", range(1, 300, 13))
def test_a_frame_that_is_larger_is_refused_or_cut(size: int) -> None:
    """What the frame does not say, only the digest tells."""
    with pytest.raises(MalformedImage):
        unpack(frame(TEXT), size, "zstd")
    assert streamed(frame(TEXT), size, "zstd") == TEXT[:size]
    assert unpack(gzip.compress(TEXT), size, "gzip") == TEXT[:size]


@pytest.mark.parametrize("damage", range(6, 40, 3))
def test_a_changed_byte_is_an_error_or_other_bytes_of_that_size(damage: int) -> None:
    packed = bytearray(frame(TEXT, write_checksum=True))
    packed[damage] ^= 0x55
    for way in (whole, streamed):
        try:
            assert len(way(bytes(packed), len(TEXT), "zstd")) == len(TEXT)
        except MalformedImage:
            continue


BOMB = 200 * limits.MIB


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    zeros = bytes(limits.MIB)
    zstd = b"".join(packer.compress(zeros) for _ in range(BOMB // limits.MIB)) + packer.flush()
    gz = zlib.compressobj(9, zlib.DEFLATED, 31)
    return {
        "zstd": zstd,
        "gzip": b"".join(gz.compress(zeros) for _ in range(BOMB // limits.MIB)) + gz.flush(),
        "announced": lying(b"", 2**62) + zstd,
    }


def most(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", ["zstd", "gzip", "announced"])
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_bomb_takes_no_more_memory_than_the_piece(
    bombs: dict[str, bytes], name: str, size: int
) -> None:
    packed = bombs[name]
    compression = "gzip" if name == "gzip" else "zstd"

    def run() -> None:
        try:
            assert unpack(packed, size, compression) == bytes(size)
        except MalformedImage:
            assert compression == "zstd"

    assert most(run) < 2 * size + 2 * len(packed) + limits.MIB


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_a_bomb_that_comes_as_a_stream_is_not_read_to_its_end(
    bombs: dict[str, bytes], compression: str
) -> None:
    taken = 0

    def slices() -> Iterator[bytes]:
        nonlocal taken
        packed = bombs[compression]
        for at in range(0, len(packed), 100):
            taken += 1
            yield packed[at : at + 100]

    def run() -> None:
        size = sum(len(chunk) for chunk in unpacked(slices(), 10 * limits.MIB, compression))
        assert size == 10 * limits.MIB

    assert most(run) < 4 * limits.MIB
    assert taken < len(bombs[compression]) / 100 / 2


def window(log: int) -> bytes:
    """Return a frame of one zero that asks for a window of 2 ** `log` bytes."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(log - 10) << 3]) + b"\x0b\0\0\0"


@WAYS
def test_a_window_that_is_too_large(way: Way) -> None:
    assert way(window(27), 1, "zstd") == b"\0"
    with pytest.raises(MalformedImage):
        way(window(28), 1, "zstd")
    with pytest.raises(MalformedImage):
        way(window(41), 1, "zstd")


@given(st.binary(min_size=1, max_size=2000), st.sampled_from(["zstd", "gzip"]))
def test_what_is_packed_is_unpacked(data: bytes, compression: str) -> None:
    packed = gzip.compress(data) if compression == "gzip" else frame(data)
    assert unpack(packed, len(data), compression) == data
    assert streamed(packed, len(data), compression) == data
