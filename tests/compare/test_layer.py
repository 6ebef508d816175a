"""What a layer has is the same by its table of contents and by its stream."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.chunked import chunked
from support.images import Member, directory, file, hardlink, symlink, tar

from bridge.compare.layer import LayerFacts, of_index, of_stream
from bridge.compare.spool import Spool
from bridge.errors import MalformedImage
from bridge.layer.allowance import Allowance
from bridge.oci.digest import Digest


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def by_stream(data: bytes, step: int = 1 << 16, spool: Spool | None = None) -> LayerFacts:
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    with spool or Spool() as kept:
        return of_stream(
            parts, Allowance().layer(), kept, lambda path: path.startswith("keep"), pieces=True
        )


def by_index(data: bytes) -> LayerFacts:
    blob = chunked(data)
    return of_index(blob.index, Digest.of(blob.data), Allowance().layer())


def same(one: LayerFacts, other: LayerFacts) -> None:
    assert [item._replace(file=None) for item in one.items] == [
        item._replace(file=None) for item in other.items
    ]
    assert one.held | {hashlib.sha256().digest()} == other.held | {hashlib.sha256().digest()}


MEMBERS = [
    directory("d", 0o700, uid=3),
    file("d/empty"),
    file("d/large", noise("large", 700_000), mode=0o755),
    file("d/disk", noise("a", 90_000) + bytes(300_000) + noise("b", 100) + bytes(1023) + b"x"),
    file("d/zeros", bytes(50_000)),
    file("d/marked", "m", xattrs={"user.x": "y"}, gid=5),
    hardlink("d/hard", "d/large"),
    symlink("link", "d/large"),
    file(".wh.gone"),
]


@pytest.mark.parametrize("step", [1 << 18, 100_003, 511])
def test_a_table_of_contents_says_what_the_stream_has(step: int) -> None:
    data = tar(MEMBERS)
    same(by_stream(data, step), by_index(data))
    files = {item.entry.path: item.file for item in by_index(data).items}
    assert files["d/large"] is not None and len(files["d/large"].pieces) > 1
    assert files["d/empty"] is None


_content = st.lists(
    st.one_of(
        st.builds(noise, st.sampled_from("abc"), st.integers(1, 200_000)),
        st.builds(bytes, st.sampled_from([1, 1023, 1024, 1025, 70_000])),
    ),
    max_size=5,
).map(b"".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_content, min_size=1, max_size=4), st.sampled_from([1 << 18, 65_537, 1000]))
def test_pieces_are_cut_as_their_writers_cut_them(contents: Sequence[bytes], step: int) -> None:
    data = tar([file(str(number), each) for number, each in enumerate(contents)])
    same(by_stream(data, step), by_index(data))


def test_what_is_wanted_is_kept() -> None:
    members: list[Member] = [file("keep/a", b"one" * 100_000), file("keep/b"), file("c", "not")]
    with Spool() as spool:
        facts = of_stream(
            [tar(members)], Allowance().layer(), spool, lambda path: path[0] == "k", pieces=False
        )
        kept = [b"".join(spool.chunks(item.digest)) for item in facts.items[:2]]
        assert kept == [b"one" * 100_000, b""]
        assert facts.items[2].digest not in spool
        with pytest.raises(KeyError):
            spool.chunks(facts.items[2].digest)


@pytest.mark.parametrize("cut", [1, 511, 600, 1030])
def test_a_stream_that_is_cut_off(cut: int) -> None:
    with pytest.raises(MalformedImage):
        by_stream(tar([file("a", noise("a", 2000))])[:cut])


def test_a_spool_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.limits.SPOOL_MAX", 100)
    with Spool() as spool:
        spool.keep(b"a", spool.write([b"x" * 60]))
        with pytest.raises(MalformedImage, match="databases of more than 100"):
            spool.write([b"x" * 30, b"x" * 30])
        assert b"".join(spool.chunks(b"a")) == b"x" * 60
