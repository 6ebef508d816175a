"""eStargz layers in parts, from a registry: less on the wire, the same commit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import store
from rig.command import pull
from rig.crafted import Publisher
from rig.proxy import CountingProxy, run_proxy
from rig.registry import run_registry
from support.estargz import Stargz, entry, estargz, gnu, ustar
from support.images import Image, descriptor, dumps, image

from bridge import limits

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
FILES = 40
FILE_BYTES = 30_000


@dataclass
class Bench:
    proxy: CountingProxy
    publisher: Publisher
    repo: Path
    whole: Path
    """A repository for pulls of whole layers."""

    def right(self, made: Stargz) -> str:
        """The content checksum of the layer as plain gzip, in a repository that has nothing."""
        self.publisher.put(image(made.tar), "plain")
        report = pull(f"{self.proxy.host}/a/b:plain", self.whole)
        checksum: str = report["image"]["contentChecksum"]
        return checksum

    def pull(self, made: Stargz, tag: str) -> tuple[dict[str, Any], int]:
        """Pulls an image of that layer alone; the report, and what went over the wire."""
        self.publisher.put(stargz_image(made), tag)
        before = self.proxy.body_bytes
        report = pull(f"{self.proxy.host}/a/b:{tag}", self.repo)
        wire = self.proxy.body_bytes - before
        assert report["transfer"]["receivedBytes"] == wire
        return report, wire


@pytest.fixture
def bench(scratch: Path) -> Iterator[Bench]:
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        yield Bench(proxy, Publisher(registry, "a/b"), scratch / "repo", scratch / "whole")
    store.fsck(scratch / "repo")


def entries(changed: int) -> list[Any]:
    """Files that do not compress; the last `changed` are of another version."""
    found = []
    for number in range(FILES):
        version = "v2" if number >= FILES - changed else "v1"
        data = random.Random(f"{version} {number}").randbytes(FILE_BYTES)
        found.append(entry(f"usr/share/{number:02}", data))
    return [*found, entry("usr/lib/modules/6.1.0/vmlinuz", b"kernel" * 100)]


def stargz_image(made: Stargz) -> Image:
    base = image(made.tar)
    config = base.blobs[base.document["config"]["digest"]]
    layer = descriptor(made.blob, GZIP) | {"annotations": made.annotations}
    blobs = {base.document["config"]["digest"]: config, layer["digest"]: made.blob}
    return Image(dumps(base.document | {"layers": [layer]}), blobs)


def test_only_changed_files_move(bench: Bench) -> None:
    bench.pull(estargz(entries(0)), "v1")
    made = estargz(entries(3), chunk=20_000)
    report, wire = bench.pull(made, "v2")
    assert report["image"]["contentChecksum"] == bench.right(made)
    assert [layer["mode"] for layer in report["layers"]] == ["partial"]
    assert 3 * FILE_BYTES < wire < 3 * FILE_BYTES + limits.ESTARGZ_HEAD + limits.ESTARGZ_TAIL + 8192


def test_headers_that_cannot_be_guessed_cost_no_more_than_a_look(bench: Bench) -> None:
    bench.pull(estargz(entries(0)), "v1")
    made = estargz(entries(3), header=gnu)
    report, wire = bench.pull(made, "v2")
    assert report["image"]["contentChecksum"] == bench.right(made)
    (layer,) = report["layers"]
    assert layer["mode"] == "whole"
    assert "headers are not as eStargz writers make them" in layer["reason"]
    assert wire < len(made.blob) + limits.ESTARGZ_HEAD + limits.ESTARGZ_TAIL + 8192


def test_headers_that_differ_behind_the_beginning(bench: Bench) -> None:
    """Nothing tells but the DiffID, at the end: then all of the blob comes."""
    bench.pull(estargz(entries(0)), "v1")
    made = estargz(
        entries(3), header=lambda info: gnu(info) if info.name.endswith("/35") else ustar(info)
    )
    report, _ = bench.pull(made, "v2")
    assert report["image"]["contentChecksum"] == bench.right(made)
    assert report["layers"][0]["mode"] == "whole"
    assert report["layers"][0]["reason"]
