"""Spans of a stream: hashed as it passes, whatever the pieces that it comes in."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bridge.pull.spans import SpanHasher


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[tuple[int, int]]]:
    data = draw(st.binary(max_size=300))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    chunks = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    spans = draw(
        st.lists(
            st.tuples(st.integers(0, 300), st.integers(1, 300)).filter(
                lambda span: sum(span) <= len(data)
            ),
            max_size=12,
        )
    )
    return data, chunks, sorted(spans, key=lambda span: span[0])


@given(streams())
def test_each_span_gets_its_own_digest(
    made: tuple[bytes, list[bytes], list[tuple[int, int]]],
) -> None:
    data, chunks, spans = made
    hasher = SpanHasher(spans)
    assert list(hasher.through(chunks)) == chunks
    assert hasher.digests == {
        (start, size): hashlib.sha256(data[start : start + size]).digest() for start, size in spans
    }


def test_a_file_and_its_pieces_at_the_borders_of_chunks() -> None:
    data = bytes(range(256)) * 8
    spans = [(0, 2048), (512, 1024), (512, 512), (1024, 100), (1124, 412), (2047, 1)]
    for step in (1, 7, 256, 512, 2048):
        hasher = SpanHasher(spans)
        for _ in hasher.through(data[at : at + step] for at in range(0, len(data), step)):
            pass
        assert hasher.digests == {
            (start, size): hashlib.sha256(data[start : start + size]).digest()
            for start, size in spans
        }


def test_what_the_stream_does_not_reach_has_no_digest() -> None:
    hasher = SpanHasher([(0, 4), (2, 8), (10, 1)])
    assert b"".join(hasher.through([b"abc", b"defgh"])) == b"abcdefgh"
    assert hasher.digests == {(0, 4): hashlib.sha256(b"abcd").digest()}
