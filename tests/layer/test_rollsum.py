"""Cutting files: vectorised, and byte by byte, it is the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.layer.rollsum import HOLE, Cut, Cutter, cut


def slow(data: bytes) -> list[Cut]:
    """Cut as containers/storage does: one byte after the other."""
    first, second = 64 * 31, 64 * 63 * 31
    window, at = bytearray(64), 0

    def roll(byte: int) -> None:
        nonlocal first, second, at
        drop, window[at] = window[at], byte
        at = (at + 1) % 64
        first = (first + byte - drop) & 0xFFFFFFFF
        second = (second + first - 64 * (drop + 31)) & 0xFFFFFFFF

    found, size = [], 0
    for zeros, run in runs(data):
        if zeros and len(run) >= HOLE:
            if size:
                found.append(Cut(size, False))
            size = 0
            found.append(Cut(len(run), True))
            for byte in run:
                roll(byte)
            continue
        for byte in run:
            roll(byte)
            size += 1
            if second & 0xFFFF == 0xFFFF:
                found.append(Cut(size, False))
                size = 0
    if size:
        found.append(Cut(size, False))
    return found


def runs(data: bytes) -> Iterator[tuple[bool, bytes]]:
    start = 0
    for at in range(1, len(data) + 1):
        if at == len(data) or (data[at] == 0) != (data[start] == 0):
            yield data[start] == 0, data[start:at]
            start = at


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


PARTS = st.one_of(
    st.builds(noise, st.integers(0, 3000), st.integers(0, 99)),
    st.sampled_from([1, 63, 64, 65, 1022, 1023, 1024, 1025, 3000]).map(bytes),
    st.binary(max_size=70),
    st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 200)),
)


@settings(max_examples=150)
@given(st.lists(PARTS, max_size=6).map(b"".join), st.integers(1, 5000))
@example(b"", 1)
@example(bytes(1023), 7)
@example(bytes(1024), 7)
@example(b"a" + bytes(1024) + b"b" + bytes(1023) + b"c" + bytes(2048), 1000)
def test_it_cuts_as_byte_by_byte_however_it_is_fed(data: bytes, step: int) -> None:
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert list(cut(chunks)) == slow(data)


@pytest.mark.parametrize("seed", range(3))
def test_large_content_is_cut_about_every_64_kib(seed: int) -> None:
    data = noise(700_000, seed) + bytes(5000) + noise(300_000, seed + 9)
    found = list(cut([data]))
    assert found == slow(data)
    assert len(found) > 4 and Cut(5000, True) in found


def test_a_piece_is_told_as_soon_as_it_ends() -> None:
    data = noise(400_000, 5)
    pieces = slow(data)
    cutter = Cutter()
    assert cutter.feed(data[: pieces[0].size - 1]) == []
    assert cutter.feed(data[pieces[0].size - 1 : pieces[0].size]) == [pieces[0]]


def test_a_change_moves_only_the_cuts_around_it() -> None:
    data = noise(2_000_000, 7)
    before = list(cut([data]))
    after = list(cut([data[:1_000_000] + b"inserted" + data[1_000_000:]]))
    same = 0
    while before[-1 - same] == after[-1 - same]:
        same += 1
    assert before[: len(before) - same - 1] == after[: len(before) - same - 1]
    assert same > 5
