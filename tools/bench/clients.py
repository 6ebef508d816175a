"""What an upgrade moves for clients that know chunks: real pulls of zstd:chunked layers.

Both versions are pushed by ourselves, pulled one after the other by `bootc-py image pull` and by
current podman, and the bytes of the second pull are those that a proxy in front of the registry
sent.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rig import forky, toc
from rig.command import pull
from rig.proxy import CountingProxy, run_proxy
from rig.registry import run_registry

from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import Repository
from bridge.push.compress import Compression
from bridge.push.push import push
from bridge.registry.options import NetworkOptions


@dataclass(frozen=True)
class Moved:
    """Bytes that the upgrade moves, and requests that this takes."""

    ours: int
    requests: int
    podman: int | None
    """None where podman was not asked, or cannot pull it."""
    least: int
    """What has to move at the least: new chunks as they are packed, tables, tar-splits."""


def moved(
    repo: Repository,
    ways: Mapping[str, tuple[ImageReference, ImageReference]],
    work: Path,
    *,
    podman: bool,
) -> dict[str, Moved]:
    """Return what the upgrade of each pair of stored images moves; `work` is scratch space."""
    network = NetworkOptions(tls_verify=False)
    tags: dict[ImageReference, str] = {}
    found = {}
    with run_registry(work / "registry") as registry, run_proxy(registry.port) as proxy:
        for way, pair in ways.items():
            for image in pair:
                if image not in tags:
                    tags[image] = f"os/measured:{len(tags)}"
                    target = parse_reference(f"{registry.host}/{tags[image]}")
                    push(repo, image, target, compression=Compression.ZSTD_CHUNKED, network=network)
            names = [f"{proxy.host}/{tags[image]}" for image in pair]
            ours, requests = _by_us(proxy, names, work)
            theirs = _by_podman(proxy, names, work) if podman else None
            before, after = (tags[image] for image in pair)
            least = toc.least(registry, before, after).bytes
            found[way] = Moved(ours, requests, theirs, least)
            _say(f"{way}: {found[way]}")
    return found


def _by_us(proxy: CountingProxy, names: list[str], work: Path) -> tuple[int, int]:
    store = work / "client"
    pull(names[0], store)
    proxy.reset()
    report = pull(names[1], store)
    ours, requests = proxy.body_bytes, proxy.requests
    assert report["transfer"]["receivedBytes"] == ours
    shutil.rmtree(store)
    return ours, requests


def _by_podman(proxy: CountingProxy, names: list[str], work: Path) -> int | None:
    with forky.run_forky(work / f"podman-{time.monotonic_ns()}") as peer:
        for name in names:
            proxy.reset()
            done = peer.pull(name)
            if done.code:
                _say(f"podman, {name}: {done.err.strip().splitlines()[-1]}")
                return None
        return proxy.body_bytes


def _say(words: str) -> None:
    print(f"  {words}", file=sys.stderr, flush=True)
