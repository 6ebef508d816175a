from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.images import MEDIA_TYPES, compress, file, tar

from bridge.errors import MalformedImage, NetworkError, VerificationFailed
from bridge.oci.digest import Digest, Verifier
from bridge.oci.model import Descriptor
from bridge.pull.streams import _AHEAD, ReadAhead, tar_stream, verified

STREAM = tar([file("a", b"x" * 5000)])


def opened(
    compression: str, data: bytes | None = None, blob: bytes | None = None, **wrong: Any
) -> Iterator[bytes]:
    """Return the stream of a blob that is as its descriptor says, but for what is `wrong`."""
    good = compress(STREAM if data is None else data, compression)
    layer = Descriptor(
        MEDIA_TYPES[compression],
        wrong.get("digest", Digest.of(good)),
        wrong.get("size", len(good)),
    )
    sent = good if blob is None else blob
    pieces = [sent[at : at + 1000] for at in range(0, len(sent), 1000)]
    return tar_stream(pieces, layer, wrong.get("diff_id", Digest.of(STREAM)))


kinds = pytest.mark.parametrize("compression", MEDIA_TYPES)


@kinds
def test_a_blob_gives_its_tar_stream(compression: str) -> None:
    assert b"".join(opened(compression)) == STREAM


@kinds
def test_a_blob_is_held_to_digest_size_and_diff_id(compression: str) -> None:
    good = compress(STREAM, compression)
    cases: list[dict[str, Any]] = [
        {"digest": Digest.of(b"")},
        {"size": len(good) - 1},
        {"size": len(good) + 1},
        {"blob": good + b"\0"},
        {"blob": b""},
    ]
    for wrong in cases:
        with pytest.raises(VerificationFailed, match="layer sha256:"):
            b"".join(opened(compression, **wrong))
    with pytest.raises(VerificationFailed, match="its DiffID: content has"):
        b"".join(opened(compression, diff_id=Digest.of(b"other")))


@kinds
def test_zeros_that_the_writer_dropped_are_named(compression: str) -> None:
    """And not put in again: whoever checks the blob by itself would not get the same."""
    kept = STREAM.rstrip(b"\0")
    cut = STREAM[: -(-len(kept) // 512) * 512]
    with pytest.raises(VerificationFailed, match=r"content has .* only zeros are missing"):
        b"".join(opened(compression, cut))
    with pytest.raises(VerificationFailed, match=f"not {Digest.of(STREAM)}$"):
        b"".join(opened(compression, cut[:-512]))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_damage_that_the_digest_covers_is_malformed(compression: str) -> None:
    cut = compress(STREAM, compression)[:-10]
    layer = Descriptor(MEDIA_TYPES[compression], Digest.of(cut), len(cut))
    with pytest.raises(MalformedImage):
        b"".join(tar_stream([cut], layer, Digest.of(STREAM)))


def test_a_plain_layer_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    class Counting(Verifier):
        def __init__(self, what: str, digest: Digest, size: int | None = None) -> None:
            made.append(what)
            super().__init__(what, digest, size)

    monkeypatch.setattr("bridge.pull.streams.Verifier", Counting)
    b"".join(opened("none"))
    assert len(made) == 1
    b"".join(opened("gzip"))
    assert len(made) == 3


def test_a_plain_layer_of_another_algorithm_is_hashed_twice() -> None:
    digest = Digest.parse(f"sha512:{hashlib.sha512(STREAM).hexdigest()}")
    assert b"".join(opened("none", digest=digest)) == STREAM
    with pytest.raises(VerificationFailed, match="DiffID"):
        b"".join(opened("none", digest=digest, diff_id=Digest.of(b"")))


def test_verified_hands_everything_over_before_it_raises() -> None:
    chunks = verified([b"a", b"b"], Verifier("it", Digest.of(b"ac")))
    assert [next(chunks), next(chunks)] == [b"a", b"b"]
    with pytest.raises(VerificationFailed):
        next(chunks)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


class Source:
    """Chunks that say how many were taken and whether their end was seen."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.taken = 0
        self.closed = False
        self._count = count
        self._error = error

    def chunks(self) -> Iterator[bytes]:
        try:
            for number in range(self._count):
                self.taken += 1
                yield b"%d" % number
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


def test_reading_ahead_changes_nothing() -> None:
    source = Source(1000)
    with ReadAhead(source.chunks()) as chunks:
        assert list(chunks) == [b"%d" % number for number in range(1000)]
    assert source.closed and "read-ahead" not in threads()


@pytest.mark.parametrize("count", [0, 1, 500])
def test_the_producers_error_comes_after_its_chunks(count: int) -> None:
    seen = []
    with (
        pytest.raises(NetworkError, match="gone"),
        ReadAhead(Source(count, NetworkError("gone")).chunks()) as chunks,
    ):
        for chunk in chunks:
            seen.append(chunk)
    assert len(seen) == count
    assert "read-ahead" not in threads()


def test_leaving_early_ends_the_thread_and_the_source() -> None:
    source = Source(1_000_000)
    with ReadAhead(source.chunks()) as chunks:
        assert next(chunks) == b"0"
    assert source.closed and "read-ahead" not in threads()
    assert source.taken < 1000


def test_reading_ahead_is_bounded() -> None:
    source = Source(5000)
    with ReadAhead(source.chunks()) as chunks:
        for position, _ in enumerate(chunks):
            # A batch with the consumer, as many waiting, and one in the producer's hand.
            assert source.taken - position <= 2 * _AHEAD + 1


def test_the_consumers_error_passes_through() -> None:
    source = Source(1_000_000)
    with pytest.raises(KeyError), ReadAhead(source.chunks()) as chunks:
        next(chunks)
        raise KeyError
    assert source.closed


def test_damaged_bytes_are_damaged_before_they_are_malformed() -> None:
    wrong = Source(100, VerificationFailed("digest"))
    with pytest.raises(VerificationFailed), ReadAhead(wrong.chunks()) as chunks:
        next(chunks)
        raise MalformedImage("tar header")
    with pytest.raises(MalformedImage), ReadAhead(Source(100).chunks()) as chunks:
        next(chunks)
        raise MalformedImage("tar header")
