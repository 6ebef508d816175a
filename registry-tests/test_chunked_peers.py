"""zstd:chunked between peers: what skopeo writes we pull in parts, moving no more than podman does,
and the commit is the one that a whole pull makes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import chunked, forky, pairs, published, store, toc
from rig import misbehaving as bad
from rig.answer import Connection
from rig.command import PLAIN_HTTP, pull, report
from rig.forky import Forky
from rig.pairs import Pair
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry
from rig.twopkg import TwoImages

from bridge import limits
from tools.images import cache

REQUESTS_MOST = 200
LEAST_SHARE = 1.10
PATIENCE = 60.0
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


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("small")
    with run_registry() as registry, forky.run_forky(work / "forky", 2048) as peer:
        for version in (1, 2):
            image = chunked.layout(work / str(version), chunked.small(version))
            chunked.write(peer, image, registry, f"a/b:v{version}")
        yield registry


@pytest.fixture
def small(written: Registry) -> Iterator[Small]:
    with run_proxy(written.port) as proxy:
        yield Small(written, proxy)


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
    with run_proxy(chunked_registry.port) as proxy:
        pull(f"{chunked_registry.host}/{before}", scratch / "repo")
        planned = report(
            "image", "pull", f"{proxy.host}/{after}", "--repo", scratch / "repo", PLAIN_HTTP,
            "--plan",
        )  # fmt: skip
        proxy.reset()
        ours = pull(f"{proxy.host}/{after}", scratch / "repo")
        moved, requests = proxy.body_bytes, proxy.requests
        assert moved == ours["transfer"]["receivedBytes"]
        assert requests == ours["transfer"]["requests"] <= REQUESTS_MOST
        assert planned["transfer"]["plannedBytes"] == ours["transfer"]["plannedBytes"]
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
def test_every_kind_of_repository(small: Small, tmp_path: Path, mode: str, depth: str) -> None:
    pull(small.name("v1"), tmp_path / "repo", "--mode", mode)
    small.proxy.reset()
    ours = pull(small.name("v2"), tmp_path / "repo", "--partial", depth)
    whole = pull(small.name("v2"), tmp_path / "whole", "--partial", "never", "--mode", mode)
    assert modes(ours) == ["partial"] and same(whole, ours)
    # usr/tool and usr/disk have 2.1 MB of content, of which some pieces are new.
    avoided = ours["transfer"]["avoided"]
    assert avoided["fileBytes"] > 20_000 * chunked.STABLE
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

REFUSALS: dict[str, Callable[[Small], None]] = {
    "400": lambda small: small.proxy.spoil(
        "/blobs/", bad.for_ranges(bad.answers(400, b"")), always=True
    ),
    "403": lambda small: small.proxy.spoil(
        "/blobs/", bad.for_ranges(bad.answers(403, b"")), always=True
    ),
    "416": lambda small: small.proxy.spoil(
        "/blobs/", bad.for_ranges(bad.answers(416, b"")), always=True
    ),
    "501": lambda small: small.proxy.spoil(
        "/blobs/", bad.for_ranges(bad.answers(501, b"")), always=True
    ),
    "200, all of it": lambda small: setattr(small.proxy, "ignores", bool),
}
AFTER_THE_TAIL = {
    status: bad.answers(status, b"") for status in (400, 403, 416, 501)
}


@pytest.mark.parametrize("name", REFUSALS)
def test_no_ranges_at_all(small: Small, tmp_path: Path, name: str) -> None:
    pull(small.name("v1"), tmp_path / "repo", "--partial", "never")
    small.proxy.reset()
    REFUSALS[name](small)
    ours = pull(small.name("v2"), tmp_path / "repo")
    assert modes(ours) == ["whole"]
    received = ours["transfer"]["receivedBytes"]
    assert received == small.proxy.body_bytes
    layer = small.layer("v2")
    assert ours["layers"][0]["receivedBytes"] == layer["size"]  # not a byte of it twice
    assert same(ours, pull(small.name("v2"), tmp_path / "whole", "--partial", "never"))


@pytest.mark.parametrize("status", AFTER_THE_TAIL)
def test_ranges_that_end_after_the_tail(small: Small, tmp_path: Path, status: int) -> None:
    pull(small.name("v1"), tmp_path / "repo")
    layer = small.layer("v2")
    small.proxy.spoil(
        layer["digest"], bad.nothing, bad.for_ranges(AFTER_THE_TAIL[status]), always=True
    )
    ours = pull(small.name("v2"), tmp_path / "repo")
    assert modes(ours) == ["whole"]
    assert same(ours, pull(small.name("v2"), tmp_path / "whole", "--partial", "never"))


@pytest.mark.parametrize("status", [501, 416, 200])
def test_several_ranges_at_once_are_never_asked_for(
    small: Small, tmp_path: Path, status: int
) -> None:
    """Where podman fails, or moves all of the image twice."""
    pull(small.name("v1"), tmp_path / "repo")
    if status == 200:
        small.proxy.ignores = bad.has_many
    else:
        small.proxy.spoil(
            "/blobs/", bad.for_many_ranges(bad.answers(status, b"")), always=True
        )
    small.proxy.reset()
    assert modes(pull(small.name("v2"), tmp_path / "repo")) == ["partial"]
    assert not any(bad.has_many(each.range or "") for each in small.proxy.log)


# -- interruptions ---------------------------------------------------------------------------------


def test_killed_and_gone_on_with(small: Small, tmp_path: Path) -> None:
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
    small.proxy.spoil(
        layer, *[bad.nothing] * 3, bad.then(0, kill), bad.stalls(0), always=True
    )
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
    assert same(ours, pull(small.name("v2"), tmp_path / "whole", "--partial", "never"))
    assert not list((repo / "extensions/bootc-py/downloads").glob("*"))


# -- what we write, pulled by podman ---------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(written: Registry, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry with both versions at `ours/b`, pushed by us."""
    repo = tmp_path_factory.mktemp("ours") / "repo"
    for version in ("v1", "v2"):
        name = f"{written.host}/a/b:{version}"
        pull(name, repo, "--partial", "never")
        report(
            "image", "push", name, f"{written.host}/ours/b:{version}", "--repo", repo, PLAIN_HTTP,
            "--compression", "zstd:chunked",
        )  # fmt: skip
    return written


def test_podman_pulls_ours_in_parts(ours: Registry, tmp_path: Path) -> None:
    with run_proxy(ours.port) as proxy, forky.run_forky(tmp_path / "podman", 4096) as peer:
        first = peer.pull(f"{ours.host}/ours/b:v1")
        assert first.code == 0, first.err
        proxy.reset()
        second = peer.pull(f"{proxy.host}/ours/b:v2", "--log-level=debug")
        assert second.code == 0, second.err
        layer = toc.manifest(ours, "ours/b:v2")["layers"][0]
        assert f"Retrieved partial blob {layer['digest']}" in second.err
        assert proxy.body_bytes < layer["size"] / 2
        _has_the_files(peer, f"{proxy.host}/ours/b:v2")


def test_ours_and_skopeos_share_every_chunk(small: Small, ours: Registry, tmp_path: Path) -> None:
    """Pieces are cut where skopeo cuts them, so what one wrote saves bytes of the other."""
    least = toc.least(ours, "a/b:v2", "ours/b:v2")
    assert least.chunks == 0
    pull(small.name("v1"), tmp_path / "repo")
    small.proxy.reset()
    pulled = pull(f"{small.proxy.host}/ours/b:v2", tmp_path / "repo")
    assert modes(pulled) == ["partial"]
    assert pulled["transfer"]["avoided"]["chunkBytes"] > 1_000_000


def _has_the_files(peer: Forky, name: str) -> None:
    """Fails unless podman's image has the files of the small image's second version."""
    mount = peer.checked(
        "sh", "-c", f'cd "$(podman image mount {name})" && sha256sum usr/tool usr/disk usr/new'
    )
    import hashlib

    wanted = {each.path: each.data for each in chunked.small(2)}
    for line in mount.splitlines():
        digest, path = line.split()
        assert digest == hashlib.sha256(wanted[path]).hexdigest(), path
