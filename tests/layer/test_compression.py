"""Layer compression: every member and frame is read, and everything else is refused."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import random
import struct
import sys
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.compression import OUTPUT_CHUNK, decompress

NOISE = random.Random(7).randbytes(40_000)
TEXT = NOISE[:30_000] + b"abc" * 100_000 + bytes(1000)
SMALL = b"hello " * 50 + NOISE[:100]


def frame(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def skippable(size: int, kind: int = 3) -> bytes:
    return struct.pack("<II", 0x184D2A50 + kind, size) + NOISE[:size]


def run(blob: bytes, compression: str, step: int = 1 << 20) -> bytes:
    pieces = (blob[i : i + step] for i in range(0, len(blob), step))
    return b"".join(decompress(pieces, compression))


@pytest.fixture(params=["isal", "zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with isal, and as if there were no wheel of it."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    return str(request.param)


GOOD = {
    "none": (TEXT, TEXT, "none"),
    "none, empty": (b"", b"", "none"),
    "none, a byte": (b"x", b"x", "none"),
    "gzip": (gzip.compress(TEXT), TEXT, "gzip"),
    "gzip, empty member": (gzip.compress(b""), b"", "gzip"),
    "gzip, three members": (
        gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(SMALL, 1),
        TEXT + SMALL,
        "gzip",
    ),
    "gzip, zeros at the end": (gzip.compress(TEXT) + bytes(70_000), TEXT, "gzip"),
    "gzip, 500 members": (gzip.compress(b"file") * 500, b"file" * 500, "gzip"),
    "zstd": (frame(TEXT), TEXT, "zstd"),
    "zstd, empty frame": (frame(b""), b"", "zstd"),
    "zstd, size unknown": (frame(TEXT, write_content_size=False), TEXT, "zstd"),
    "zstd, checksum": (frame(TEXT, write_checksum=True), TEXT, "zstd"),
    "zstd, two frames": (frame(TEXT) + frame(SMALL), TEXT + SMALL, "zstd"),
    "zstd, skippable first": (skippable(40) + frame(TEXT), TEXT, "zstd"),
    "zstd, skippable amid": (frame(SMALL) + skippable(9000, 0) + frame(TEXT), SMALL + TEXT, "zstd"),
    "zstd, skippable last": (frame(TEXT) + skippable(17, 15), TEXT, "zstd"),
    "zstd, skippable empty": (skippable(0) + frame(SMALL) + skippable(0) * 3, SMALL, "zstd"),
    "zstd, 500 frames": (frame(b"file") * 500, b"file" * 500, "zstd"),
    "zstd, window of 8 MiB": (
        zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(19, window_log=23)
        ).compress(TEXT * 3),
        TEXT * 3,
        "zstd",
    ),
}


@pytest.mark.parametrize("step", [997, 1 << 20])
@pytest.mark.parametrize("name", GOOD)
def test_all_of_the_stream_is_read(name: str, step: int, inflater: str) -> None:
    blob, plain, compression = GOOD[name]
    assert run(blob, compression, step) == plain


@pytest.mark.parametrize(
    ("blob", "compression"),
    [
        (gzip.compress(SMALL) * 2 + bytes(9), "gzip"),
        (skippable(3) + frame(SMALL) + skippable(0) + frame(SMALL, write_checksum=True), "zstd"),
    ],
)
def test_byte_by_byte(blob: bytes, compression: str, inflater: str) -> None:
    assert run(blob, compression, 1) == SMALL * 2


@pytest.mark.parametrize(
    ("blob", "size"),
    [
        (gzip.compress(SMALL) + gzip.compress(SMALL), 2),
        (frame(SMALL, write_checksum=True) + skippable(5) + frame(SMALL, write_checksum=True), 3),
    ],
    ids=["gzip", "zstd"],
)
def test_a_cut_at_any_point_within_a_part_is_refused(blob: bytes, size: int, inflater: str) -> None:
    compression = "gzip" if blob.startswith(b"\x1f\x8b") else "zstd"
    whole = []
    for end in range(len(blob)):
        try:
            run(blob[:end], compression)
        except MalformedImage:
            continue
        whole.append(end)
    # Only between two members or frames does a shorter stream look complete; there the layer's
    # digest and size tell.
    assert len(whole) == size - 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_flipped_bit_never_changes_the_content(compression: str, inflater: str) -> None:
    blob = gzip.compress(SMALL) if compression == "gzip" else frame(SMALL, write_checksum=True)
    refused = 0
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert run(bytes(damaged), compression) == SMALL
        except MalformedImage:
            refused += 1
    # What may change: gzip's time and system in the header, bits that pad.
    assert refused > 8 * len(blob) * 0.6


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_bomb_comes_in_small_chunks(compression: str, inflater: str) -> None:
    plain = bytes(64 << 20)
    blob = gzip.compress(plain, 9) if compression == "gzip" else frame(plain)
    total = 0
    for chunk in decompress([blob], compression):
        assert 0 < len(chunk) <= OUTPUT_CHUNK
        total += len(chunk)
    assert total == len(plain)


def test_the_end_of_an_output_buffer_is_no_end_of_the_stream(inflater: str) -> None:
    for size in range(OUTPUT_CHUNK - 3, OUTPUT_CHUNK + 4):
        blob = gzip.compress(bytes(size))
        # Cut around the trailer, where all input may be taken before all output is given.
        for cut in range(len(blob) - 12, len(blob)):
            pieces = [blob[:cut], blob[cut:]]
            assert sum(map(len, decompress(pieces, "gzip"))) == size


BAD = {
    "gzip is empty": (b"", "gzip", "is empty"),
    "zstd is empty": (b"", "zstd", "is empty"),
    "gzip magic only": (b"\x1f\x8b", "gzip", "cut off"),
    "one byte of gzip": (b"\x1f", "gzip", "cut off"),
    "garbage after gzip": (gzip.compress(TEXT) + b"garbage", "gzip", "garbage after"),
    "garbage after zeros": (gzip.compress(TEXT) + bytes(9) + b"x", "gzip", "garbage after"),
    "member after zeros": (
        gzip.compress(TEXT) + bytes(9) + gzip.compress(TEXT),
        "gzip",
        "garbage after",
    ),
    "half a magic after gzip": (gzip.compress(TEXT) + b"\x1f", "gzip", "cut off"),
    "bad method": (b"\x1f\x8b\x07" + gzip.compress(TEXT)[3:], "gzip", "damaged"),
    "tar called gzip": (
        b"etc/passwd".ljust(512, b"\0"),
        "gzip",
        "declared gzip but its bytes are an uncompressed tar",
    ),
    "zstd called gzip": (frame(TEXT), "gzip", "are zstd"),
    "skippable called gzip": (skippable(8) + frame(TEXT), "gzip", "are zstd"),
    "gzip called tar": (
        gzip.compress(TEXT),
        "none",
        "declared an uncompressed tar but its bytes are gzip",
    ),
    "zstd called tar": (frame(TEXT), "none", "declared an uncompressed tar but its bytes are zstd"),
    "gzip called zstd": (gzip.compress(TEXT), "zstd", "are gzip"),
    "tar called zstd": (b"etc/passwd".ljust(512, b"\0"), "zstd", "are an uncompressed tar"),
    "garbage after zstd": (frame(TEXT) + b"garbage", "zstd", "garbage"),
    "zeros after zstd": (frame(TEXT) + bytes(8), "zstd", "garbage"),
    "half a magic after zstd": (frame(TEXT) + b"\x28\xb5", "zstd", "cut off"),
    "skippable cut": (frame(TEXT) + skippable(40)[:-1], "zstd", "cut off"),
    "skippable of 4 GiB": (skippable(0)[:4] + b"\xff\xff\xff\xff", "zstd", "cut off"),
    "window of 256 MiB": (
        b"\x28\xb5\x2f\xfd\x00" + bytes([(28 - 10) << 3]) + b"\x01\0\0",
        "zstd",
        f"limit is {limits.ZSTD_WINDOW_MAX}",
    ),
    "single segment of 1 GiB": (
        b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 1 << 30) + b"\x01\0\0",
        "zstd",
        "window of 1073741824 bytes",
    ),
    "dictionary": (b"\x28\xb5\x2f\xfd\x21\x07\x00\x01\0\0", "zstd", "dictionary"),
    "reserved bit": (b"\x28\xb5\x2f\xfd\x28\x00\x01\0\0", "zstd", "reserved"),
    "reserved block": (b"\x28\xb5\x2f\xfd\x20\x00\x07\0\0", "zstd", "block"),
    "block too large": (b"\x28\xb5\x2f\xfd\x00\x58" + b"\xf9\xff\xff", "zstd", "block"),
    "lz4": (TEXT, "lz4", "'lz4' is not supported"),
}


@pytest.mark.parametrize("step", [2, 1 << 20])
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_layer_is_refused(name: str, step: int, inflater: str) -> None:
    blob, compression, message = BAD[name]
    if step == 2 and len(blob) > 5000:
        step = 4999
    with pytest.raises(MalformedImage, match=message) as caught:
        run(blob, compression, step)
    assert "\n" not in str(caught.value)


def test_errors_of_the_source_pass() -> None:
    def failing(blob: bytes) -> Iterator[bytes]:
        yield blob[:50]
        raise ConnectionResetError("reset")

    for blob, compression in ((gzip.compress(TEXT), "gzip"), (frame(TEXT), "zstd"), (TEXT, "none")):
        with pytest.raises(ConnectionResetError):
            list(decompress(failing(blob), compression))


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 20_000), max_size=8),
    extra=st.binary(max_size=50),
)
def test_any_parts_cut_anywhere(parts: list[bytes], cuts: list[int], extra: bytes) -> None:
    blobs = {
        "none": b"x" + b"".join(parts),
        "gzip": b"".join(gzip.compress(part) for part in parts),
        "zstd": b"".join(
            frame(part) + struct.pack("<II", 0x184D2A50, len(extra)) + extra for part in parts
        ),
    }
    for compression, blob in blobs.items():
        edges = sorted({0, *(cut for cut in cuts if cut < len(blob)), len(blob)})
        pieces = [blob[a:b] for a, b in itertools.pairwise(edges)]
        plain = b"".join(decompress([b"", *pieces, b""], compression))
        assert plain == (blob if compression == "none" else b"".join(parts))


@settings(deadline=None, max_examples=200)
@given(garbage=st.binary(max_size=300), compression=st.sampled_from(["gzip", "zstd"]))
def test_noise_is_refused_or_read_but_nothing_else(garbage: bytes, compression: str) -> None:
    magic = b"\x1f\x8b\x08\0" if compression == "gzip" else b"\x28\xb5\x2f\xfd"
    for blob in (garbage, magic + garbage):
        with contextlib.suppress(MalformedImage):
            run(blob, compression)
