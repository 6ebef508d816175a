"""zstd:chunked between peers: what skopeo writes we pull in parts, moving no more than podman does,
and the commit is the one that a whole pull makes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import chunked, forky, pairs, published, store, toc
from rig import misbehaving as bad
from rig.answer import Connection
from rig.command import PLAIN_HTTP, pull, report
from rig.pairs import Pair
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry
from rig.small import STABLE
from rig.twopkg import TwoImages

from tools.images import cache

REQUESTS_MOST = 200
LEAST_SHARE = 1.10
PATIENCE = 60.0
FAST = 10_000_000_000
"""Bits per second: as good as no limit, with buffers of the usual size in the proxy."""
# A response's head and what stands between the parts of a multipart body are not new content.
OVERHEAD = 100_000


@dataclass
class Small:
    """A registry behind a proxy with both versions of the small image, by skopeo."""

    registry: Registry
    proxy: CountingProxy

    def name(self, version: str) -> str:
        return f"{self.proxy.host}/a/b:{version}"

    def layer(self, version: str) -> dict[str, Any]:
        layer: dict[str, Any] = toc.manifest(self.registry, f"a/b:{version}")["layers"][0]
        return layer


@pytest.fixture
def small(small_chunked: Registry) -> Iterator[Small]:
    with run_proxy(small_chunked.port) as proxy:
        yield Small(small_chunked, proxy)


@pytest.fixture(scope="module")
def whole(small_chunked: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a whole pull of version 2."""
    repo = tmp_path_factory.mktemp("whole") / "repo"
    return pull(f"{small_chunked.host}/a/b:v2", repo, "--partial", "never")


@pytest.fixture(scope="module")
def base() -> Pair:
    return pairs.pair("base")


@pytest.fixture(scope="module")
def chunked_registry(base: Pair, two_packages: TwoImages) -> Iterator[Registry]:
    """os/base:v1 and :v2, two/packages:one and :two."""
    packages = {"two/packages:one": two_packages.one, "two/packages:two": two_packages.two}
    sources = [chunked.storage(base.plain()), chunked.storage(packages)]
    with cache.scratch(cache.root() / "work") as work:
        for source in sources:
            published.clone(source, work / "storage")
        with run_registry(work / "storage") as running:
            yield running


def modes(document: dict[str, Any]) -> list[str]:
    return [layer["mode"] for layer in document["layers"]]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two pulls made the same commit, of the same content."""
    keys = ("commit", "contentChecksum", "manifestDigest")
    return all(one["image"][key] == other["image"][key] for key in keys)


# -- what skopeo writes, pulled by us --------------------------------------------------------------


def test_a_point_release_moves_no_more_than_podman(
    chunked_registry: Registry, base: Pair, scratch: Path
) -> None:
    before, after = (f"{base.repository}:{version}" for version in pairs.VERSIONS)
    with run_proxy(chunked_registry.port, bits_per_second=FAST) as proxy:
        pull(f"{chunked_registry.host}/{before}", scratch / "repo")
        planned = report(
            "image", "pull", f"{proxy.host}/{after}", "--repo", scratch / "repo", PLAIN_HTTP,
            "--plan",
        )  # fmt: skip
        # What the plan took to make is kept, and not moved again.
        ours = pull(f"{proxy.host}/{after}", scratch / "repo")
        moved, requests = proxy.body_bytes, proxy.requests
        first = planned["transfer"]
        assert moved == first["receivedBytes"] + ours["transfer"]["receivedBytes"]
        assert requests == first["requests"] + ours["transfer"]["requests"] <= REQUESTS_MOST
        # Which gaps are worth a request depends on how fast the registry was found to be.
        assert abs(first["plannedBytes"] - moved) < 0.05 * moved
        assert modes(ours) == ["partial"]
        with forky.run_forky(scratch / "podman") as peer:
            assert peer.pull(f"{chunked_registry.host}/{before}").code == 0
            proxy.reset()
            done = peer.pull(f"{proxy.host}/{after}")
            assert done.code == 0, done.err
            assert moved <= proxy.body_bytes
    least = toc.least(chunked_registry, before, after)
    assert moved <= LEAST_SHARE * least.bytes + OVERHEAD
    whole = pull(f"{chunked_registry.host}/{after}", scratch / "whole", "--partial", "never")
    assert same(whole, ours)
    assert moved < 0.6 * whole["transfer"]["receivedBytes"]
    store.fsck(scratch / "repo")


@pytest.mark.parametrize("mode", ["bare", "bare-user", "archive"])
@pytest.mark.parametrize("depth", ["files", "chunks"])
def test_every_kind_of_repository(
    small: Small, whole: dict[str, Any], tmp_path: Path, mode: str, depth: str
) -> None:
    pull(small.name("v1"), tmp_path / "repo", "--mode", mode)
    small.proxy.reset()
    ours = pull(small.name("v2"), tmp_path / "repo", "--partial", depth)
    assert modes(ours) == ["partial"] and same(whole, ours)
    # usr/tool and usr/disk have 2.1 MB of content, of which some pieces are new.
    avoided = ours["transfer"]["avoided"]
    assert avoided["fileBytes"] > 20_000 * STABLE
    assert (avoided["chunkBytes"] > 1_000_000) is (depth == "chunks")
    store.fsck(tmp_path / "repo")


def test_moved_packages(chunked_registry: Registry, scratch: Path) -> None:
    """A package that is in another layer, with another one that is new: only that one moves."""
    with run_proxy(chunked_registry.port) as proxy:
        pull(f"{chunked_registry.host}/two/packages:one", scratch / "repo")
        ours = pull(f"{proxy.host}/two/packages:two", scratch / "repo")
        assert proxy.body_bytes == ours["transfer"]["receivedBytes"]
    least = toc.least(chunked_registry, "two/packages:one", "two/packages:two")
    assert 50_000_000 < ours["transfer"]["receivedBytes"] <= least.bytes + OVERHEAD
    whole = pull(
        f"{chunked_registry.host}/two/packages:two", scratch / "whole", "--partial", "never"
    )
    assert same(whole, ours)


def test_an_image_of_another_family(
    chunked_registry: Registry, small: Small, scratch: Path
) -> None:
    """What is shared is found, whatever image it came with, also when that one is gone."""
    pull(f"{chunked_registry.host}/two/packages:one", scratch / "repo")
    pull(small.name("v1"), scratch / "repo")
    small.proxy.reset()
    ours = pull(small.name("v2"), scratch / "repo")
    assert modes(ours) == ["partial"]
    assert small.proxy.body_bytes == ours["transfer"]["receivedBytes"]
    # The other way round: all but the second package has come with another name.
    with run_proxy(chunked_registry.port) as proxy:
        again = pull(f"{proxy.host}/two/packages:two", scratch / "repo")
        assert proxy.body_bytes == again["transfer"]["receivedBytes"] < 51_500_000


# -- registries that refuse ------------------------------------------------------------------------

STATUSES = (400, 403, 416, 501)


@pytest.mark.parametrize("status", [*STATUSES, 200])
def test_no_ranges_at_all(small: Small, whole: dict[str, Any], tmp_path: Path, status: int) -> None:
    pull(small.name("v1"), tmp_path / "repo", "--partial", "never")
    small.proxy.reset()
    if status == 200:  # with all of it
        small.proxy.ignores = bool
    else:
        refusal = bad.for_ranges(bad.answers(status, b""))
        small.proxy.spoil("/blobs/", refusal, always=True)
    ours = pull(small.name("v2"), tmp_path / "repo")
    assert modes(ours) == ["whole"]
    received = ours["transfer"]["receivedBytes"]
    assert received == small.proxy.body_bytes
    layer = small.layer("v2")
    assert ours["layers"][0]["receivedBytes"] == layer["size"]  # not a byte of it twice
    assert same(whole, ours)


@pytest.mark.parametrize("status", STATUSES)
def test_ranges_that_end_after_the_tail(
    small: Small, whole: dict[str, Any], tmp_path: Path, status: int
) -> None:
    pull(small.name("v1"), tmp_path / "repo")
    layer = small.layer("v2")
    refusal = bad.for_ranges(bad.answers(status, b""))
    small.proxy.spoil(layer["digest"], bad.nothing, refusal, always=True)
    ours = pull(small.name("v2"), tmp_path / "repo")
    assert modes(ours) == ["whole"]
    assert same(whole, ours)


@pytest.mark.parametrize("status", [501, 416, 200])
def test_several_ranges_at_once_are_never_asked_for(
    small: Small, tmp_path: Path, status: int
) -> None:
    """Where podman fails, or moves all of the image twice."""
    pull(small.name("v1"), tmp_path / "repo")
    if status == 200:
        small.proxy.ignores = bad.has_many
    else:
        small.proxy.spoil("/blobs/", bad.for_many_ranges(bad.answers(status, b"")), always=True)
    small.proxy.reset()
    assert modes(pull(small.name("v2"), tmp_path / "repo")) == ["partial"]
    assert not any(bad.has_many(each.range or "") for each in small.proxy.log)


# -- interruptions ---------------------------------------------------------------------------------


def test_killed_and_gone_on_with(small: Small, whole: dict[str, Any], tmp_path: Path) -> None:
    """What had been written when the pull was killed is not fetched again."""
    repo = tmp_path / "repo"
    pull(small.name("v1"), repo)
    layer = small.layer("v2")["digest"]
    small.proxy.reset()
    process: subprocess.Popen[bytes] | None = None
    journal = repo / "extensions/bootc-py/downloads" / f"{layer.replace(':', '-')}.ranges"

    def kept() -> list[tuple[int, int]]:
        lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
        return [(int(start), int(end)) for start, end in map(str.split, filter(None, lines))]

    def kill(connection: Connection) -> None:
        """When one range at least is on the disk."""
        deadline = time.monotonic() + PATIENCE
        while not kept():
            assert time.monotonic() < deadline, "nothing is kept"
            connection.wait(0.002)
        assert process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        raise ConnectionAbortedError("the client was killed")

    # The tail, two ranges, and no more.
    small.proxy.spoil(layer, *[bad.nothing] * 3, bad.then(0, kill), bad.stalls(0), always=True)
    command = [sys.executable, "-m", "bridge", "image", "pull", small.name("v2"), "--quiet"]
    process = subprocess.Popen([*command, "--repo", str(repo), PLAIN_HTTP])
    assert process.wait(PATIENCE) == -signal.SIGKILL
    small.proxy.forgive()
    there = kept()
    assert there
    small.proxy.reset()
    ours = pull(small.name("v2"), repo)
    assert modes(ours) == ["partial"]
    for each in small.proxy.asked(layer):
        end = each.end or 0
        assert not any(start < end and each.start < stop for start, stop in there)
    assert same(whole, ours)
    assert not list((repo / "extensions/bootc-py/downloads").glob("*"))
