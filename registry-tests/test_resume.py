"""Pulls that were killed go on where they stopped: no byte of a layer is fetched twice."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rig import misbehaving as bad
from rig import store
from rig.answer import Connection, Exchange, Fault
from rig.command import PLAIN_HTTP, pull
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import run_registry
from rig.twopkg import write_image

from bridge import limits
from tools.images.layout import Layout

BIG = 24 * limits.MIB
PATIENCE = 60.0
_ON_ITS_WAY = 100_000
"""Bytes that may be on their way when a pull is killed."""


@dataclass
class Bench:
    proxy: CountingProxy
    storage: CountingProxy
    image: Layout
    repo: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def big(self) -> str:
        digest: str = self.image.layers[1]["digest"]
        return digest

    @property
    def size(self) -> int:
        size: int = self.image.layers[1]["size"]
        return size

    def killing(self, after: int, when: Callable[[], bool]) -> Fault:
        """kill -9 for the pull that runs, once it was sent so many bytes and `when` is true."""

        def action(connection: Connection) -> None:
            deadline = time.monotonic() + PATIENCE
            while not when():
                assert time.monotonic() < deadline, f"not ready to be killed at {after}"
                connection.wait(0.002)
            assert self.process
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise ConnectionAbortedError("the client was killed")

        return bad.then(after, action)

    def pull_and_be_killed(self) -> None:
        command = [sys.executable, "-m", "bridge", "image", "pull", self.name]
        command += ["--repo", str(self.repo), PLAIN_HTTP, "--quiet"]
        self.process = subprocess.Popen(command)
        assert self.process.wait(PATIENCE) == -signal.SIGKILL

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/a/b:v1"

    def kept(self, digest: str) -> int:
        """The bytes of a blob that are on disk."""
        name = digest.replace(":", "-")
        try:
            return (self.repo / "extensions/bootc-py/downloads" / name).stat().st_size
        except FileNotFoundError:
            return -1

    def finished(self) -> int:
        """The layers that are in the store; not those whose ref is still being written."""
        return sum(path.is_file() for path in (self.repo / "refs").rglob("[!.]*"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    def noise(seed: str, size: int) -> bytes:
        return random.Random(seed).randbytes(size)

    layers = [
        {"usr/lib/modules/6.1.0/vmlinuz": noise("vmlinuz", 100_000)},
        {"usr/share/one": noise("one", BIG // 2), "usr/share/two": noise("two", BIG // 2)},
        {"usr/share/three": noise("three", 200_000)},
    ]
    return write_image(tmp_path_factory.mktemp("image") / "layout", "v1", layers)


@pytest.fixture
def bench(image: Layout, tmp_path: Path) -> Iterator[Bench]:
    with (
        run_registry() as registry,
        run_proxy(registry.port) as proxy,
        run_proxy(registry.port) as storage,
    ):
        push(image, registry, "a/b", "v1")
        yield Bench(proxy, storage, image, tmp_path / "repo")


def check_ranges(log: Sequence[Exchange], size: int) -> None:
    """The ranges are the whole blob, each byte once."""
    ranges = sorted((each.start, each.start + each.body_bytes) for each in log if each.body_bytes)
    assert ranges[0][0] == 0 and ranges[-1][1] == size
    for (_, end), (start, _) in itertools.pairwise(ranges):
        assert end == start


def test_killed_again_and_again(bench: Bench) -> None:
    """Each time when what was sent had been written: then not a byte is lost."""
    points = [1, 4096, 300_000, limits.MIB, 10 * limits.MIB + 7, bench.size - 1]
    for before, point in itertools.pairwise([0, *points]):
        fault = bench.killing(point - before, lambda point=point: bench.kept(bench.big) == point)
        bench.proxy.spoil(bench.big, fault)
        bench.pull_and_be_killed()
        assert bench.kept(bench.big) == point
    report = pull(bench.name, bench.repo)
    log = bench.proxy.asked(bench.big)
    assert [each.start for each in log] == [0, *points]
    check_ranges(log, bench.size)
    assert report["image"]["manifestDigest"] == bench.image.digest
    (last,) = (layer for layer in report["layers"] if layer["digest"] == bench.big)
    assert last["receivedBytes"] == 1
    store.fsck(bench.repo)


def test_killed_with_bytes_on_their_way(bench: Bench) -> None:
    """What the kernel held is lost: within 1 % of the image, over all runs and all blobs."""
    for point in (9 * limits.MIB, 6 * limits.MIB):
        # A client that is kept from running would lose whatever the kernel's buffers take.
        least = max(0, bench.kept(bench.big)) + point - _ON_ITS_WAY
        bench.proxy.spoil(
            bench.big, bench.killing(point, lambda least=least: bench.kept(bench.big) > least)
        )
        bench.pull_and_be_killed()
    pull(bench.name, bench.repo)
    sent = sum(each.body_bytes for each in bench.proxy.asked("/blobs/"))
    image = sum(layer["size"] for layer in bench.image.layers)
    config = bench.image.manifest["config"]["size"]
    assert image <= sent - 3 * config
    assert sent <= image * 1.01
    store.fsck(bench.repo)


def test_finished_layers_are_not_asked_for_again(bench: Bench) -> None:
    bench.proxy.spoil(bench.big, bench.killing(5_000_000, lambda: bench.finished() == 2))
    bench.pull_and_be_killed()
    report = pull(bench.name, bench.repo)
    assert {layer["digest"]: layer["mode"] for layer in report["layers"]} == {
        layer["digest"]: "whole" if layer["digest"] == bench.big else "present"
        for layer in bench.image.layers
    }
    for layer in bench.image.layers:
        log = bench.proxy.asked(layer["digest"])
        assert len(log) == (2 if layer["digest"] == bench.big else 1)
    store.fsck(bench.repo)


def test_killed_and_the_signed_url_has_run_out(bench: Bench) -> None:
    def signed(number: int) -> Fault:
        path = f"/v2/a/b/blobs/{bench.big}?signature={number}"
        return bad.redirects(f"http://{bench.storage.host}{path}")

    bench.proxy.spoil(bench.big, signed(1), signed(1), signed(2))
    bench.storage.spoil(
        bench.big,
        bench.killing(7_000_000, lambda: bench.kept(bench.big) == 7_000_000),
        bad.answers(403, b"expired"),
    )
    bench.pull_and_be_killed()
    pull(bench.name, bench.repo)
    log = bench.storage.log
    assert [(each.path[-1], each.start, each.status) for each in log] == [
        ("1", 0, 200),
        ("1", 7_000_000, 403),
        ("2", 7_000_000, 206),
    ]
    check_ranges([log[0], log[2]], bench.size)
    store.fsck(bench.repo)
