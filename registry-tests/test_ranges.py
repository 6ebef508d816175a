"""Parts of blobs from a real registry, through a proxy that does what registries and storages do
to ranges: the bytes are exact or refused, and what was counted is what the proxy counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig import misbehaving as bad
from rig.answer import Connection, Exchange, Fault
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import medium

from bridge import limits
from bridge.errors import NetworkError, RangeRefused
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull import kept
from bridge.pull.source import Source, open_source
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions, Timeouts
from tools.images.layout import Layout

PATIENCE = 60.0
TAIL = 5_000
RANGES = [(0, 3_000), (10_000, 110_000), (110_000, 110_001), (300_000, 420_000)]
PLANNED = sum(end - start for start, end in RANGES)


@dataclass(frozen=True)
class Bench:
    """A registry behind a proxy, with the image `a/b:v1`; another proxy serves as its storage."""

    proxy: CountingProxy
    storage: CountingProxy
    image: Layout
    repo: Path

    @property
    def layer(self) -> Descriptor:
        """The larger layer."""
        layer = self.image.layers[1]
        return Descriptor(layer["mediaType"], Digest(layer["digest"]), layer["size"])

    @property
    def blob(self) -> bytes:
        return self.image.blob(self.layer.digest).read_bytes()

    @property
    def start(self) -> int:
        """Where the tail begins."""
        return self.layer.size - TAIL

    def spoil(self, *faults: Fault, always: bool = False) -> None:
        self.proxy.spoil(self.layer.digest, *faults, always=always)

    @contextmanager
    def source(self, retries: int = limits.RETRIES, counts: bool = True) -> Iterator[Source]:
        """The image as a pull sees it, in a repository that stays; what it counts is checked."""
        options = NetworkOptions(
            tls_verify=False, retry_times=retries, timeouts=Timeouts(connect=5, idle=1)
        )
        before = self.counted()
        with ExitStack() as stack:
            if self.repo.exists():
                repo = stack.enter_context(Repository.open(self.repo))
            else:
                repo = stack.enter_context(Repository.create(self.repo, "bare-user"))
            name = parse_reference(f"docker://{self.proxy.host}/a/b:v1")
            source = open_source(name, options, repo, stack)
            yield source
            after = self.counted()
            assert source.meter.requests == after[0] - before[0]
            assert not counts or source.meter.received_bytes == after[1] - before[1]

    def counted(self) -> tuple[int, int]:
        """Requests and bytes of bodies, as both proxies saw them."""
        proxies = (self.proxy, self.storage)
        return sum(each.requests for each in proxies), sum(each.body_bytes for each in proxies)

    def log(self) -> list[Exchange]:
        return self.proxy.asked(self.layer.digest)

    def kept(self) -> dict[str, Path]:
        names = (kept.name(self.layer.digest), *kept.parts_names(self.layer.digest))
        paths = [self.repo / kept.DIRECTORY / name for name in names]
        return {path.suffix: path for path in paths if path.exists()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Layout]]:
    image = medium(tmp_path_factory.mktemp("image") / "layout")
    with run_registry() as registry:
        push(image, registry, "a/b", "v1")
        yield registry, image


@pytest.fixture
def bench(published: tuple[Registry, Layout], tmp_path: Path) -> Iterator[Bench]:
    registry, image = published
    with run_proxy(registry.port) as proxy, run_proxy(registry.port) as storage:
        yield Bench(proxy, storage, image, tmp_path / "repo")


def check(bench: Bench, source: Source, meter: Meter) -> None:
    """All ranges, byte for byte."""
    blob = bench.blob
    with source.parts(bench.layer, RANGES, meter) as parts:
        for start, end in RANGES:
            assert parts.read(start, end) == blob[start:end]


def whole(bench: Bench, source: Source, tail: bytes | None = None) -> None:
    """The blob itself; what is kept of it is it, byte for byte."""
    assert b"".join(source.blob(bench.layer, Meter(source.meter), tail=tail)) == bench.blob
    assert bench.kept()[""].read_bytes() == bench.blob


def test_each_byte_is_asked_for_once(bench: Bench) -> None:
    with bench.source() as source:
        meter = Meter(source.meter)
        tail = source.tail(bench.layer, bench.start, meter)
        assert tail == bench.blob[bench.start :]
        check(bench, source, meter)
        check(bench, source, meter)  # from what is here
        assert meter.received_bytes == PLANNED + TAIL
        assert meter.requests == len(RANGES) + 1
        source.done(bench.layer)
    asked = sorted((each.start, each.end) for each in bench.log())
    assert asked == [*RANGES, (bench.start, bench.layer.size)]
    assert all(each.status == 206 for each in bench.log())
    assert bench.kept() == {}


def test_a_blob_whose_tail_is_here(bench: Bench) -> None:
    bench.spoil(bad.cut(1000), bad.cut(300_000))
    with bench.source() as source:
        whole(bench, source, bench.blob[bench.start :])
    last = bench.start - 1
    assert [each.range for each in bench.log()] == [
        f"bytes={start}-{last}" for start in (0, 1000, 301_000)
    ]
    assert bench.proxy.body_bytes == bench.start


SURVIVED: dict[str, list[Fault]] = {
    "cut at once": [bad.cut(0)],
    "cut in the middle": [bad.cut(50), bad.cut(1), bad.cut(2000)],
    "reset": [bad.resets(100)],
    "stalls": [bad.stalls(100)],
    "says nothing": [bad.says_nothing],
    "busy": [bad.busy(503, "0")],
    "too many": [bad.busy(429, "0")],
    "slow": [bad.trickles(TAIL - 20)],
    "chunked": [bad.chunked],
    "until the connection ends": [bad.until_close],
    "chunked and short": [bad.together(bad.ends(70), bad.chunked)],
    "of unknown size": [bad.headers()],
}


@pytest.mark.parametrize("name", SURVIVED)
def test_faults_that_are_survived(bench: Bench, name: str) -> None:
    bench.spoil(*SURVIVED[name])
    with bench.source() as source:
        meter = Meter(source.meter)
        assert source.tail(bench.layer, bench.start, meter) == bench.blob[bench.start :]
        check(bench, source, meter)


# Each answer to a range, and the bytes of it that come in: it is asked for once.
REFUSED: dict[str, Fault] = {
    "another place": bad.shifted(1),
    "an earlier place": bad.shifted(-1),
    "no place": bad.lacks("Content-Range"),
    "no such place": bad.headers(("Content-Range", "bytes 1-0/7")),
    "another blob's place": bad.headers(("Content-Range", f"bytes 0-{TAIL - 1}/{TAIL}")),
    "too short": bad.ends(100),
    "too long": bad.longer(100),
    "400": bad.answers(400, b"what?"),
    "403": bad.answers(403, b"no"),
    "405": bad.answers(405, b"no"),
    "416": bad.answers(416, b"no", ("Content-Range", "bytes */1")),
    "501": bad.answers(501, b"no"),
}


@pytest.mark.parametrize("name", [*REFUSED, "several parts"])
def test_refusals(bench: Bench, name: str) -> None:
    """The host is asked for no other range; all of the blob is to be had."""
    fault = bad.multipart(bench.blob) if name == "several parts" else REFUSED[name]
    bench.spoil(bad.for_ranges(fault), always=True)
    with bench.source() as source:
        assert source.tail(bench.layer, bench.start, Meter(source.meter)) is None
        assert bench.kept() == {}
        with source.parts(bench.layer, RANGES, Meter(source.meter)) as parts:
            for start, end in RANGES:
                with pytest.raises(RangeRefused, match=bench.proxy.host):
                    parts.read(start, end)
        assert len(bench.log()) == 1
        whole(bench, source)
    assert bench.log()[-1].range is None


def test_more_than_the_range_in_chunks(bench: Bench) -> None:
    """What is too much is seen when the rest is here: whoever is faster, no byte is wrong."""
    bench.spoil(bad.for_ranges(bad.together(bad.longer(100), bad.chunked)), always=True)
    with bench.source(counts=False) as source:  # the kernel may have the rest of it
        for start, end in [*RANGES, *RANGES]:
            with (
                suppress(RangeRefused),
                source.parts(bench.layer, [(start, end)], Meter(source.meter)) as parts,
            ):
                assert parts.read(start, end) == bench.blob[start:end]
        whole(bench, source)
    assert [each.range for each in bench.log()][1:] == [None]


@pytest.mark.parametrize("name", ["tail", "parts"])
def test_a_whole_blob_instead_is_used_once(bench: Bench, name: str) -> None:
    bench.spoil(bad.whole(bench.blob), always=True)
    with bench.source() as source:
        if name == "tail":
            assert source.tail(bench.layer, bench.start, Meter(source.meter)) is None
        else:
            with source.parts(bench.layer, RANGES, Meter(source.meter)) as parts:
                with pytest.raises(RangeRefused):
                    parts.read(*RANGES[0])
                with pytest.raises(RangeRefused):
                    parts.again(0, 10)
        whole(bench, source)
        assert source.meter.received_bytes == bench.layer.size
    assert len(bench.log()) == 1


@pytest.mark.parametrize("served", [1, 2, 4])
@pytest.mark.parametrize("name", ["200", "416", "501"])
def test_ranges_that_are_refused_after_a_while(bench: Bench, served: int, name: str) -> None:
    """One connection, so that it is known how many there are."""
    answer = bad.whole(bench.blob) if name == "200" else bad.answers(int(name), b"no")
    bench.spoil(*[bad.nothing] * served, bad.for_ranges(answer), always=True)
    with bench.source() as source:
        meter = Meter(source.meter)
        tail = source.tail(bench.layer, bench.start, meter)
        assert tail == bench.blob[bench.start :]
        for number, (start, end) in enumerate(RANGES, 1):
            with source.parts(bench.layer, [(start, end)], meter) as parts:
                if number < served:
                    assert parts.read(start, end) == bench.blob[start:end]
                else:
                    with pytest.raises(RangeRefused):
                        parts.read(start, end)
        whole(bench, source, tail)
    assert len(bench.log()) == served + 1 + (name != "200")


def test_tries_that_are_used_up(bench: Bench) -> None:
    bench.spoil(bad.nothing, bad.cut(10), always=True)
    with bench.source(retries=1) as source:
        meter = Meter(source.meter)
        assert source.tail(bench.layer, bench.start, meter)
        with source.parts(bench.layer, [(0, 100)], meter) as parts:
            with pytest.raises(NetworkError, match=r"20 of 100 bytes.*2 tries"):
                parts.read(0, 100)
            assert parts.read(0, 20) == bench.blob[:20]
            bench.proxy.forgive()
            assert parts.again(0, 100) == bench.blob[:100]


@pytest.mark.parametrize("uses", [1, 3, 1000])
def test_a_signed_url_is_used_until_it_has_run_out(bench: Bench, uses: int) -> None:
    signed = bad.Signed(bench.storage.host, uses)
    bench.spoil(signed.redirect, always=True)
    bench.storage.spoil(bench.layer.digest, signed.storage, always=True)
    ranges = [(at, at + 1000) for at in range(0, 12_000, 1500)]
    with bench.source() as source:
        meter = Meter(source.meter)
        assert source.tail(bench.layer, bench.start, meter) == bench.blob[bench.start :]
        for start, end in ranges:
            with source.parts(bench.layer, [(start, end)], meter) as parts:
                assert parts.read(start, end) == bench.blob[start:end]
    good = [each for each in bench.storage.log if each.status == 206]
    assert len(good) == len(ranges) + 1
    assert len(bench.storage.log) - len(good) == len(ranges) // uses
    assert len(bench.log()) == 1 + len(ranges) // uses
    assert all(each.authorization is None for each in bench.storage.log)


def test_a_url_that_runs_out_under_all_connections(bench: Bench) -> None:
    signed = bad.Signed(bench.storage.host, 10)
    bench.spoil(signed.redirect, always=True)
    bench.storage.spoil(bench.layer.digest, signed.storage, always=True)
    ranges = [(at, at + 1000) for at in range(0, 100_000, 2000)]
    with (
        bench.source() as source,
        source.parts(bench.layer, ranges, Meter(source.meter)) as parts,
    ):
        for start, end in ranges:
            assert parts.read(start, end) == bench.blob[start:end]
    good = [each for each in bench.storage.log if each.status == 206]
    assert sorted((each.start, each.end) for each in good) == ranges


def test_wrong_bytes_are_had_again(bench: Bench) -> None:
    bench.spoil(bad.garbage)
    with (
        bench.source() as source,
        source.parts(bench.layer, [(0, 1000)], Meter(source.meter)) as parts,
    ):
        assert parts.read(0, 1000) == bytes(255 - byte for byte in bench.blob[:1000])
        assert parts.again(0, 1000) == bench.blob[:1000]
        assert parts.read(0, 1000) == bench.blob[:1000]


_PULL_PARTS = """
import sys
from contextlib import ExitStack
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull.source import open_source
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions

name, path, digest, size, *numbers = sys.argv[1:]
with ExitStack() as stack:
    repo = stack.enter_context(Repository.open(path))
    options = NetworkOptions(tls_verify=False)
    source = open_source(parse_reference(name), options, repo, stack)
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest(digest), int(size))
    wanted = [tuple(map(int, each.split("-"))) for each in numbers]
    with source.parts(layer, wanted, Meter()) as parts:
        for each in wanted:
            parts.read(*each)
"""


def test_killed_and_gone_on_with(bench: Bench) -> None:
    """Not a byte that had been written is fetched again, over three runs."""
    Repository.create(bench.repo, "bare-user").close()
    process: subprocess.Popen[bytes] | None = None
    rng = random.Random(1)
    ranges = [(at, at + rng.randrange(1000, 19_000)) for at in range(0, 680_000, 20_000)]

    def journal() -> int:
        """The bytes that the list has."""
        path = bench.kept().get(".ranges")
        lines = path.read_text().split("\n")[:-1] if path else []
        return sum(int(end) - int(start) for start, end in map(str.split, filter(None, lines)))

    def answered() -> int:
        return sum(each.status != 0 for each in bench.proxy.log)

    def kill(connection: Connection) -> None:
        """When the other connections are held, and all that was sent before has been written."""
        deadline = time.monotonic() + PATIENCE
        while answered() < asked or journal() != bench.proxy.body_bytes:
            assert time.monotonic() < deadline, "what was sent is not kept"
            connection.wait(0.002)
        assert process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        raise ConnectionAbortedError("the client was killed")

    for served in (5, 11):
        asked = answered() + served + limits.RANGE_CONNECTIONS
        bench.spoil(*[bad.nothing] * served, bad.then(700, kill), bad.stalls(0), always=True)
        command = [sys.executable, "-c", _PULL_PARTS, f"docker://{bench.proxy.host}/a/b:v1"]
        command += [str(bench.repo), str(bench.layer.digest), str(bench.layer.size)]
        process = subprocess.Popen([*command, *(f"{start}-{end}" for start, end in ranges)])
        assert process.wait(PATIENCE) == -signal.SIGKILL
        bench.proxy.forgive()
    done = bench.proxy.body_bytes
    with bench.source() as source:
        meter = Meter(source.meter)
        with source.parts(bench.layer, ranges, meter) as parts:
            for start, end in ranges:
                assert parts.read(start, end) == bench.blob[start:end]
        assert done > 16 * 1000
        assert meter.received_bytes == sum(end - start for start, end in ranges) - done
