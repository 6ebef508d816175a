"""zstd:chunked layers that we write: podman pulls them in parts, and they share their chunks with
those that skopeo writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from rig import forky, small, toc
from rig.command import PLAIN_HTTP, pull, report
from rig.forky import Forky
from rig.proxy import run_proxy
from rig.registry import Registry


@pytest.fixture(scope="module")
def ours(small_chunked: Registry, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry with both versions at `ours/b`, pushed by us."""
    repo = tmp_path_factory.mktemp("ours") / "repo"
    for version in ("v1", "v2"):
        name, target = (f"{small_chunked.host}/{each}:{version}" for each in ("a/b", "ours/b"))
        pull(name, repo, "--partial", "never")
        options = ("--compression", "zstd:chunked", "--repo", repo, PLAIN_HTTP)
        report("image", "push", name, target, *options)
    return small_chunked


def test_podman_pulls_ours_in_parts(ours: Registry, tmp_path: Path) -> None:
    """And verifies it; it moves no more than of what skopeo wrote."""
    moved = {}
    for repository in ("a/b", "ours/b"):
        place = tmp_path / repository.replace("/", "-")
        with run_proxy(ours.port) as proxy, forky.run_forky(place, 4096) as peer:
            first = peer.pull(f"{ours.host}/{repository}:v1")
            assert first.code == 0, first.err
            proxy.reset()
            name = f"{proxy.host}/{repository}:v2"
            second = peer.pull(name, "--log-level=debug")
            assert second.code == 0, second.err
            layer = toc.manifest(ours, f"{repository}:v2")["layers"][0]
            assert f"Retrieved partial blob {layer['digest']}" in second.err
            moved[repository] = proxy.body_bytes
            assert moved[repository] < layer["size"]
            _has_the_files(peer, name)
    assert moved["ours/b"] <= 1.01 * moved["a/b"]


def test_ours_and_skopeos_share_every_chunk(ours: Registry, tmp_path: Path) -> None:
    """Pieces are cut where skopeo cuts them, so what one wrote saves bytes of the other."""
    least = toc.least(ours, "a/b:v2", "ours/b:v2")
    assert least.chunks == 0
    pull(f"{ours.host}/a/b:v1", tmp_path / "repo")
    pulled = pull(f"{ours.host}/ours/b:v2", tmp_path / "repo")
    assert [layer["mode"] for layer in pulled["layers"]] == ["partial"]
    assert pulled["transfer"]["avoided"]["chunkBytes"] > 1_000_000


def _has_the_files(peer: Forky, name: str) -> None:
    """Fails unless podman's image has the files of the small image's second version."""
    mount = peer.checked(
        "sh", "-c", f'cd "$(podman image mount {name})" && sha256sum usr/tool usr/disk usr/new'
    )
    wanted = {each.path: each.data for each in small.changing(2)}
    for line in mount.splitlines():
        digest, path = line.split()
        assert digest == hashlib.sha256(wanted[path]).hexdigest(), path
