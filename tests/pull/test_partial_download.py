"""Partial downloads against a client that says what a test tells it to."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from support.images import file, image, write_layout

from bridge.errors import BridgeError, NetworkError, NoSpace, RangeRefused
from bridge.limits import RANGE_CONNECTIONS, RANGE_LIGHT
from bridge.oci.digest import Digest
from bridge.oci.layout import Layout
from bridge.oci.model import Descriptor, Manifest
from bridge.oci.reference import RegistryReference, parse_registry_reference
from bridge.ostree.repository import Repository
from bridge.pull import kept
from bridge.pull.partial_download import PartialDownloads
from bridge.pull.source import _LayoutSource
from bridge.registry.client import Client, WholeBlob
from bridge.registry.meter import Meter

REFERENCE = parse_registry_reference("quay.io/a/b:t")
DATA = os.urandom(1_000_000)
BLOB = Descriptor("application/vnd.oci.image.layer.v1.tar+zstd", Digest.of(DATA), len(DATA))
OTHER = Descriptor(BLOB.media_type, Digest.of(b"other"), len(DATA))
STEP = 4096

Body = Callable[[int, int], Generator[bytes, None, None]]
OnWhole = Callable[[WholeBlob], None]


def serve(start: int, end: int) -> Generator[bytes, None, None]:
    for at in range(start, end, STEP):
        yield DATA[at : min(at + STEP, end)]


@dataclass
class FakeClient:
    """Serves `body(start, end)` and remembers what it was asked for."""

    body: Body = serve
    asked: list[tuple[int, int]] = field(default_factory=list)
    distrusted: list[Digest] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def iter_range(
        self,
        ref: RegistryReference,
        descriptor: Descriptor,
        start: int,
        end: int,
        meter: Meter,
        on_whole: OnWhole,
    ) -> Generator[bytes, None, None]:
        assert ref == REFERENCE
        with self.lock:
            self.asked.append((start, end))
        for chunk in self.body(start, end):
            meter.add(received=len(chunk))
            yield chunk

    def distrust(self, ref: RegistryReference, digest: Digest) -> bool:
        self.distrusted.append(digest)
        return True


def unexpected(*_: object) -> None:
    raise AssertionError("no whole blob was sent")


def partial(repo: Repository, body: Body = serve) -> tuple[FakeClient, PartialDownloads]:
    client = FakeClient(body)
    return client, PartialDownloads(cast(Client, client), REFERENCE, repo, unexpected)


def files(repo: Repository) -> dict[str, Path]:
    directory = Path(repo.path) / kept.DIRECTORY
    return {each.suffix: each for each in directory.iterdir()}


RANGES = [(0, 10_000), (50_000, 300_000), (300_000, 300_001), (990_000, 1_000_000)]


def test_ranges_are_fetched_read_and_forgotten(repo: Repository) -> None:
    client, parts = partial(repo)
    meter = Meter()
    with parts:
        with parts.parts(BLOB, RANGES, meter) as some:
            for start, end in RANGES:
                assert some.read(start, end) == DATA[start:end]
            assert some.read(9_000, 9_001) == DATA[9_000:9_001]
            assert some.read(299_000, 300_001) == DATA[299_000:300_001]  # of two that meet
        assert sorted(client.asked) == RANGES
        assert meter.received_bytes == sum(end - start for start, end in RANGES)
        assert set(files(repo)) == {".parts", ".ranges"}
        held = sum(path.stat().st_size for path in files(repo).values())
        assert held > 1_000_000  # for who looks at the length alone
        (size,) = kept.sizes(repo).values()
        assert meter.received_bytes <= size < 400_000
        assert list(kept.sizes(repo)) == [kept.name(BLOB.digest)]
        parts.forget(BLOB)
        parts.forget(BLOB)
    assert files(repo) == {}


def test_what_was_not_asked_for_is_not_waited_for(repo: Repository) -> None:
    _, parts = partial(repo)
    with parts, parts.parts(BLOB, RANGES, Meter()) as some:
        with pytest.raises(ValueError, match="not asked for"):
            some.read(9_000, 10_001)
        assert some.read(9_000, 10_000) == DATA[9_000:10_000]


@pytest.mark.parametrize("wrong", [(0, 0), (5, 4), (-1, 5), (0, len(DATA) + 1)])
def test_ranges_that_are_none_are_not_asked_for(repo: Repository, wrong: tuple[int, int]) -> None:
    client, parts = partial(repo)
    with parts, pytest.raises(ValueError, match="ranges that are none"):
        parts.parts(BLOB, [(0, 10), wrong], Meter())
    assert client.asked == [] and files(repo) == {}


def test_a_range_is_read_while_it_comes(repo: Repository) -> None:
    go_on = threading.Event()

    def slow(start: int, end: int) -> Generator[bytes, None, None]:
        yield DATA[start : start + 100]
        assert go_on.wait(10)
        yield DATA[start + 100 : end]

    _, parts = partial(repo, slow)
    with parts, parts.parts(BLOB, [(5, 1000)], Meter()) as some:
        assert some.read(5, 105) == DATA[5:105]
        go_on.set()
        assert some.read(5, 1000) == DATA[5:1000]


def test_another_process_fetches_only_what_is_missing(repo: Repository) -> None:
    def breaks(start: int, end: int) -> Generator[bytes, None, None]:
        yield DATA[start : start + 1234]
        raise NetworkError("gone")

    _, parts = partial(repo, breaks)
    with parts:
        some = parts.parts(BLOB, [(100, 5000)], Meter())
        with some, pytest.raises(NetworkError, match="gone"):
            some.read(100, 5000)
    client, parts = partial(repo)
    meter = Meter()
    with parts, parts.parts(BLOB, [(0, 6000), (7000, 7001)], meter) as some:
        assert some.read(0, 6000) == DATA[:6000]
        assert some.read(7000, 7001) == DATA[7000:7001]
    assert sorted(client.asked) == [(0, 100), (1334, 6000), (7000, 7001)]
    assert meter.received_bytes == 6001 - 1234


@pytest.mark.parametrize(
    ("journal", "known"),
    [
        (b"0 100\n200 300\n", [(0, 100), (200, 300)]),
        (b"0 100\n200 3", [(0, 100)]),
        (b"\0" * 500, []),
        (b"0 100\n" + bytes(100) + b"\n50 120\n", [(0, 120)]),
        (b"-5 100\n0 1e3\n 0 7\n99999999999999999999 1\n", []),
        (b"0 9999999999999999999\n", [(0, 400)]),  # as far as there is anything
        (b"900 100\n500 600\n", []),
    ],
)
def test_a_list_is_believed_where_it_can_be(
    repo: Repository, journal: bytes, known: list[tuple[int, int]]
) -> None:
    _, parts = partial(repo)
    with parts:
        for name, data in zip(kept.parts_names(BLOB.digest), (DATA[:400], journal), strict=True):
            (Path(repo.path) / kept.DIRECTORY / name).write_bytes(data)
    client, parts = partial(repo)
    with parts, parts.parts(BLOB, [(0, 600)], Meter()) as some:
        assert some.read(0, 600) == DATA[:600]
    asked = {at for start, end in client.asked for at in range(start, end)}
    assert asked == set(range(600)) - {at for start, end in known for at in range(start, end)}
    # What was cut short has not taken the next line with it.
    client, parts = partial(repo)
    with parts, parts.parts(BLOB, [(0, 600)], Meter()) as some:
        some.read(0, 600)
    assert client.asked == []


def test_wrong_bytes_are_fetched_again(repo: Repository) -> None:
    _, parts = partial(repo)
    with parts, parts.parts(BLOB, [(0, 9000)], Meter()) as some:
        some.read(0, 9000)
    with open(files(repo)[".parts"], "r+b") as file:
        file.write(bytes(5000))
    client, parts = partial(repo)
    meter = Meter()
    with parts, parts.parts(BLOB, [(0, 9000)], meter) as some:
        assert some.read(0, 100) == bytes(100)
        assert some.again(0, 100) == DATA[:100]
        assert client.asked == [(0, 100)] and client.distrusted == []
        assert some.read(0, 100) == DATA[:100]
        assert some.again(20_000, 20_010) == DATA[20_000:20_010]  # never asked for before
        assert client.distrusted == []
        assert some.again(0, 50) == DATA[:50]
        assert client.distrusted == [BLOB.digest]  # it was sent like that, now
    assert meter.received_bytes == 160


def test_again_comes_first(repo: Repository) -> None:
    """Whatever else waits, and without a connection more."""
    gate, busy = threading.Event(), threading.Semaphore(0)

    def gated(start: int, end: int) -> Generator[bytes, None, None]:
        busy.release()
        assert gate.wait(10)
        yield DATA[start:end]

    client, parts = partial(repo, gated)
    ranges = [(at, at + 10) for at in range(0, 1000, 10)]
    with parts, parts.parts(BLOB, ranges, Meter()) as some:
        for _ in range(RANGE_CONNECTIONS):
            assert busy.acquire(timeout=10)
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(some.again(5000, 5001)))
        thread.start()
        while some.jobs != len(ranges) - RANGE_CONNECTIONS + 1:
            pass
        gate.set()
        thread.join()
        assert got == [DATA[5000:5001]]
        assert some.read(0, 1000) == DATA[:1000]
    place = client.asked.index((5000, 5001))
    assert place == RANGE_CONNECTIONS


def test_one_connection_fetches_light_ranges_first(repo: Repository) -> None:
    """While the others are at heavy ones, however many these are."""
    gate, busy = threading.Event(), threading.Semaphore(0)
    heavy = RANGE_LIGHT + 1

    def gated(start: int, end: int) -> Generator[bytes, None, None]:
        if end - start == heavy:
            busy.release()
            assert gate.wait(10)
        yield DATA[start:end]

    client, parts = partial(repo, gated)
    large = [(at, at + heavy) for at in range(0, 6 * heavy, heavy)]
    small = [(at, at + 10) for at in range(6 * heavy, 6 * heavy + 1000, 20)]
    with parts, parts.parts(BLOB, [*large, *small], Meter()) as some:
        for each in small:
            assert some.read(*each) == DATA[each[0] : each[1]]
        for _ in range(RANGE_CONNECTIONS - 1):
            assert busy.acquire(timeout=10)
        assert sorted(client.asked)[: RANGE_CONNECTIONS - 1] == large[: RANGE_CONNECTIONS - 1]
        gate.set()
        assert some.read(0, 6 * heavy) == DATA[: 6 * heavy]
    assert sorted(client.asked) == [*large, *small]


def test_connections_are_shared_in_turns(repo: Repository) -> None:
    """A few for all layers together, and no layer waits until another has all of its ranges."""
    running, most = 0, 0
    lock, gate, begun = threading.Lock(), threading.Event(), threading.Semaphore(0)

    def counting(start: int, end: int) -> Generator[bytes, None, None]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        begun.release()
        assert gate.wait(10)
        yield DATA[start:end]
        with lock:
            running -= 1

    client, parts = partial(repo, counting)
    ranges = [(at, at + 10) for at in range(0, 500, 10)]
    others = [(at + 1000, at + 1010) for at in range(0, 500, 10)]
    with (
        parts,
        parts.parts(BLOB, ranges, Meter()) as one,
        parts.parts(OTHER, others, Meter()) as two,
    ):
        for _ in range(RANGE_CONNECTIONS):
            assert begun.acquire(timeout=10)
        gate.set()
        assert one.read(0, 500) == DATA[:500]
        assert two.read(1000, 1500) == DATA[1000:1500]
    assert most == RANGE_CONNECTIONS
    assert 6 <= sum(start >= 1000 for start, _ in client.asked[:20]) <= 12
    assert sorted(client.asked) == ranges + others


def test_an_error_is_for_who_needs_the_range(repo: Repository) -> None:
    def refusing(start: int, end: int) -> Generator[bytes, None, None]:
        if start:
            raise RangeRefused("no more of it")
        yield DATA[start:end]

    client, parts = partial(repo, refusing)
    with parts:
        some = parts.parts(BLOB, [(0, 10), (20, 30), (40, 50)], Meter())
        with some:
            assert some.read(0, 10) == DATA[:10]
            with pytest.raises(RangeRefused, match="no more"):
                some.read(20, 30)
            with pytest.raises(RangeRefused, match="no more"):
                some.read(40, 50)
            assert some.again(0, 10) == DATA[:10]
            with pytest.raises(RangeRefused, match="no more"):
                some.again(20, 30)
    assert client.asked.count((0, 10)) == 2


def test_cancelled_readers_fail_at_once(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.pull.partial_download.PATIENCE", 0.01)
    silence, reached = threading.Event(), threading.Event()

    def stalled(start: int, end: int) -> Generator[bytes, None, None]:
        reached.set()
        silence.wait()
        yield DATA[start:end]

    before = len(os.listdir("/proc/self/fd"))
    _, parts = partial(repo, stalled)
    with parts:
        some = parts.parts(BLOB, [(0, 10)], Meter())
        met: list[BaseException] = []

        def read() -> None:
            try:
                some.read(0, 10)
            except BridgeError as error:
                met.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        assert reached.wait(10)
        parts.stop()
        reader.join(10)
        assert ["cancelled" in str(error) for error in met] == [True]
        with some, pytest.raises(BridgeError, match="cancelled"):
            some.read(0, 10)
        with parts.parts(BLOB, [(0, 10)], Meter()) as late, pytest.raises(BridgeError):
            late.read(0, 10)  # nor does anything start that is not wanted
        with pytest.raises(BridgeError, match="cancelled"):
            parts.tail(BLOB, 10, Meter())
    silence.set()
    for thread in threading.enumerate():
        if thread.name == "ranges":
            thread.join()
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_fetched_for_a_reader_that_left(repo: Repository) -> None:
    gate = threading.Event()

    def gated(start: int, end: int) -> Generator[bytes, None, None]:
        yield DATA[start : start + 1]
        assert gate.wait(10)
        yield DATA[start + 1 : end]

    client, parts = partial(repo, gated)
    ranges = [(at, at + 10) for at in range(0, 1000, 20)]
    with parts:
        with parts.parts(BLOB, ranges, Meter()) as some:
            some.read(0, 1)
        gate.set()
    assert len(client.asked) <= RANGE_CONNECTIONS


def test_a_tail_is_kept_and_had_again(repo: Repository) -> None:
    client, parts = partial(repo)
    with parts:
        assert parts.tail(BLOB, 900_000, Meter()) == DATA[900_000:]
    with partial(repo)[1] as parts:
        parts.client = cast(Client, client)
        assert parts.tail(BLOB, 900_000, Meter()) == DATA[900_000:]
        assert client.asked == [(900_000, 1_000_000)]
        assert parts.tail(BLOB, 899_000, Meter()) == DATA[899_000:]
        assert client.asked[1:] == [(899_000, 900_000)]
        assert parts.tail(BLOB, 900_000, Meter(), again=True) == DATA[900_000:]
        assert client.asked[2:] == [(900_000, 1_000_000)]


def test_no_tail_where_ranges_are_refused(repo: Repository) -> None:
    def refusing(start: int, end: int) -> Generator[bytes, None, None]:
        raise RangeRefused("none")
        yield b""

    _, parts = partial(repo, refusing)
    with parts:
        assert parts.tail(BLOB, 900_000, Meter()) is None
        assert files(repo) == {}


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, BridgeError)]
)
def test_a_full_disk_is_told_as_such(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[BridgeError]
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("bridge.ostree.durable.write_all_at", full)
    _, parts = partial(repo)
    with parts, pytest.raises(kind, match=os.strerror(code)) as raised:
        parts.tail(BLOB, 900_000, Meter())
    assert raised.type is kind


def test_what_is_kept_of_others_is_removed_with_its_list(repo: Repository) -> None:
    _, parts = partial(repo)
    with parts:
        for blob in (BLOB, OTHER):
            with parts.parts(blob, [(0, 9000)], Meter()) as some:
                some.read(0, 9000)
    assert set(kept.sizes(repo)) == {kept.name(BLOB.digest), kept.name(OTHER.digest)}
    kept.remove_others(repo, {BLOB.digest})
    left = sorted(path.name for path in (Path(repo.path) / kept.DIRECTORY).iterdir())
    assert left == sorted(kept.parts_names(BLOB.digest))


def test_a_layout_has_all_parts(tmp_path: Path) -> None:
    made = image([file("a", DATA[:5000])], [file("b", DATA[5000:9000])])
    path = write_layout(tmp_path / "oci", made)
    source = _LayoutSource(Layout.open(str(path)), "latest")
    manifest = source.top()
    assert isinstance(manifest, Manifest)
    layer = manifest.layers[1]
    blob = made.blobs[layer.digest]
    assert source.tail(layer, 100, Meter()) == blob[100:]
    assert b"".join(source.blob(layer, Meter(), tail=blob[100:])) == blob
    with source.parts(layer, [(5, 10), (20, 30)], Meter()) as parts:
        assert parts.read(20, 30) == blob[20:30]
        assert parts.read(5, 10) == parts.again(5, 10) == blob[5:10]
    assert not source.keeps and source.observed() == (None, None)
