"""Layers in parts of which something is wrong: the image is right in the end, or it is not there.

What skopeo wrote is published again with one thing changed, its blob's digest being right again:
only what a pull in parts looks at can tell. The repository has the version before.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import forky, raw, store
from rig import misbehaving as bad
from rig.answer import Answer, Exchange, Fault
from rig.command import PLAIN_HTTP, bootc_py, pull
from rig.damaged import Chunked, change_mode
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.twopkg import write_image

from bridge import limits
from bridge.errors import MalformedImage, VerificationFailed
from tools.images import cache
from tools.images import layout as oci
from tools.images.layout import Layout

DATA, KEPT, NEW = "usr/share/data", "usr/share/kept", "usr/share/new"
WRONG = (VerificationFailed.exit_code, MalformedImage.exit_code)


@dataclass(frozen=True)
class Bench:
    """A registry behind a proxy; a repository with v1; v2 as it should be."""

    registry: Registry
    proxy: CountingProxy
    image: Layout
    right: str
    """The content checksum of v2, pulled whole."""
    repo: Path

    @property
    def layer(self) -> Chunked:
        """The layer that v2 has and v1 lacks."""
        layer = self.image.layers[1]
        return Chunked(self.image.blob(layer["digest"]).read_bytes(), dict(layer["annotations"]))

    def publish(self, layer: Chunked) -> str:
        """Puts v2 with `layer` for its own to the registry; the image's name by the proxy."""
        digest = f"sha256:{hashlib.sha256(layer.blob).hexdigest()}"
        raw.put_blob(self.registry, "a/b", digest, layer.blob)
        manifest = dict(self.image.manifest)
        changed = {
            **self.image.layers[1],
            "digest": digest,
            "size": len(layer.blob),
            "annotations": layer.annotations,
        }
        manifest["layers"] = [self.image.layers[0], changed]
        raw.put_manifest(self.registry, "a/b", "changed", manifest)
        return f"docker://{self.proxy.host}/a/b:changed"

    def check(self, name: str, mode: str, *, on_its_way: int = 0) -> dict[str, Any]:
        """Pulls what is right in the end, whole or in parts; the layer's report.

        `on_its_way` is what other connections may have had for us when parts were given up.
        """
        report = pull(name, self.repo)
        layer: dict[str, Any] = report["layers"][1]
        assert report["image"]["contentChecksum"] == self.right
        assert layer["mode"] == mode, layer
        received = report["transfer"]["receivedBytes"]
        assert received <= self.proxy.body_bytes <= received + on_its_way
        assert report["transfer"]["requests"] == self.proxy.requests
        return layer


@dataclass(frozen=True)
class Published:
    registry: Registry
    v2: Layout
    right: str
    repo: Path


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def write(path: Path, version: str) -> Layout:
    """An image of two layers; of the second, most is the same in both versions."""
    data = noise("data", 1_500_000)
    stable = {"usr/lib/modules/6.1.0/vmlinuz": noise("vmlinuz", 200_000)}
    moving = {
        # Found again by its chunks, for what follows the change has moved.
        DATA: data if version == "v1" else data[:700_000] + b"inserted" + data[700_000:],
        KEPT: noise("kept", 300_000),
        NEW: noise(version, 200_000),
    }
    return write_image(path, version, [stable, moving])


@pytest.fixture(scope="module")
def published() -> Iterator[Published]:
    with cache.scratch(cache.root() / "work") as work, run_registry() as registry:
        layouts = {}
        with forky.run_forky(work / "forky", mebibytes=512) as peer:
            for version in ("v1", "v2"):
                source = write(work / "gzip" / version, version)
                push(source, registry, "a/b", f"{version}-gzip")
                (work / version).mkdir()
                peer.bound(source=source.path, target=work / version).checked(
                    "skopeo", "copy", "--quiet", "--dest-compress-format=zstd:chunked",
                    f"oci:/run/host/source:{version}", f"oci:/run/host/target:{version}",
                )  # fmt: skip
                layouts[version] = oci.read(work / version)
                push(layouts[version], registry, "a/b", version)
        host = f"docker://{registry.host}/a/b"
        whole = pull(f"{host}:v2-gzip", work / "whole")
        pull(f"{host}:v1", work / "repo")
        right = whole["image"]["contentChecksum"]
        yield Published(registry, layouts["v2"], right, work / "repo")


@pytest.fixture
def bench(published: Published, scratch: Path) -> Iterator[Bench]:
    repo = scratch / "repo"
    shutil.copytree(published.repo, repo, symlinks=True)
    with run_proxy(published.registry.port) as proxy:
        yield Bench(published.registry, proxy, published.v2, published.right, repo)
    store.fsck(repo)


def entry(toc: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in toc["entries"] if each["name"] == name)
    return found


def alter(name: str, /, **values: object) -> Callable[[Chunked], Chunked]:
    """The table of contents says something else of `name`."""
    return lambda layer: layer.edit(toc=lambda toc: entry(toc, name).update(values))


def claim(layer: Chunked) -> Chunked:
    """A new file is said to be the one that the repository has under the same name."""
    old = f"sha256:{hashlib.sha256(noise('v1', 200_000)).hexdigest()}"

    def change(toc: dict[str, Any]) -> None:
        entry(toc, NEW)["digest"] = old

    return layer.edit(toc=change)


def rename(layer: Chunked) -> Chunked:
    """The table of contents has a file under a name that the archive does not have."""

    def change(toc: dict[str, Any]) -> None:
        for each in toc["entries"]:
            if each["name"] == NEW:
                each["name"] = "usr/share/other"

    return layer.edit(toc=change)


def swap(layer: Chunked) -> Chunked:
    """Two files are said to be in each other's place."""

    def change(toc: dict[str, Any]) -> None:
        one, other = entry(toc, NEW), entry(toc, KEPT)
        for key in ("offset", "endOffset"):
            one[key], other[key] = other[key], one[key]

    return layer.edit(toc=change)


def both_modes(layer: Chunked) -> Chunked:
    """Tar header and table of contents agree on a mode that the layer does not have."""
    return layer.edit(
        toc=lambda toc: entry(toc, NEW).update(mode=0o4755),
        tar_split=lambda lines: change_mode(lines, NEW, 0o4755),
    )


def no_end(lines: list[dict[str, Any]]) -> None:
    """The padding and the archive's end are lacking."""
    del lines[-1]


# What is changed; why the layer is had whole, or "" where it is had in parts all the same.
HEALED: dict[str, tuple[Callable[[Chunked], Chunked], str]] = {
    "nothing": (lambda layer: layer, ""),
    "nothing, written by the rig": (lambda layer: layer.edit(), ""),
    "a bit of the table": (
        lambda layer: layer.flip(layer.numbers("manifest-position")[0] + 20),
        "table of contents has not the digest",
    ),
    "a bit of the tar-split": (
        lambda layer: layer.flip(layer.numbers("tarsplit-position")[0] + 20),
        "tar-split has not the digest",
    ),
    "the digest of the table": (
        lambda layer: layer.annotate("manifest-checksum", f"sha256:{'0' * 64}"),
        "table of contents has not the digest",
    ),
    "the place of the table": (
        lambda layer: layer.annotate("manifest-position", "1000:500:3000:1"),
        "tar-split is not behind its table of contents",
    ),
    "a place beyond the blob": (
        lambda layer: layer.annotate("tarsplit-position", f"{1 << 40}:500:3000"),
        "tar-split is not behind its table of contents",
    ),
    "no numbers": (lambda layer: layer.annotate("manifest-position", "a:b:c:d"), "not 4 numbers"),
    "no tar-split": (
        lambda layer: layer.edit(toc=lambda toc: toc.pop("tarSplitDigest")),
        "tar-split has not the digest",
    ),
    "the digest of the tar-split": (
        lambda layer: layer.edit(toc=lambda toc: toc.update(tarSplitDigest=f"sha256:{'0' * 64}")),
        "tar-split has not the digest",
    ),
    "the mode in the table": (alter(NEW, mode=0o4755), "the mode of"),
    "the owner in the table": (alter(KEPT, uid=1000), "the owner of"),
    "the name in the table": (rename, "tar-split and its table of contents disagree"),
    "a capability in the table": (
        alter(NEW, xattrs={"security.capability": "AQAAAgAgAAAAAAAAAAAAAAAAAAA="}),
        "the xattrs of",
    ),
    "a file's digest": (alter(NEW, digest=f"sha256:{'1' * 64}"), "do not make it"),
    "a chunk's digest": (alter(NEW, chunkDigest=f"sha256:{'1' * 64}"), "wrong content in bytes"),
    "an old file for a new one": (claim, "its DiffID"),
    "places that were swapped": (swap, "outside of the blob"),
    "a mode in both documents": (both_modes, "its DiffID"),
    "the end in the tar-split": (lambda layer: layer.edit(tar_split=no_end), "its DiffID"),
}


@pytest.mark.parametrize("name", HEALED)
def test_what_a_blob_says_of_itself_is_wrong(bench: Bench, name: str) -> None:
    change, why = HEALED[name]
    layer = bench.check(bench.publish(change(bench.layer)), "whole" if why else "partial")
    assert why in layer["reason"]
    if not why:
        assert layer["receivedBytes"] < layer["size"] / 2


@pytest.mark.parametrize("place", ["new file", "new chunk"])
def test_the_content_is_wrong(bench: Bench, place: str) -> None:
    """Neither in parts nor whole is it what its DiffID says: nothing of it is to be seen."""
    before = store.refs(bench.repo)
    layer = bench.layer
    at = layer.entry(NEW)["offset"] + 1000 if place == "new file" else changed_chunk(layer)
    name = bench.publish(layer.flip(at))
    done = bootc_py("image", "pull", name, "--repo", bench.repo, PLAIN_HTTP)
    assert done.code in WRONG, done
    assert name in done.error and "damaged" in done.error
    assert store.refs(bench.repo) == before


def changed_chunk(layer: Chunked) -> int:
    """A place in the one chunk of the changed file that has the inserted bytes."""
    entries = layer.toc["entries"]
    chunks = [each for each in entries if each["name"] == DATA]
    assert len(chunks) > 3, "the file should be in several chunks"
    (found,) = (
        each
        for each in chunks
        if each.get("chunkOffset", 0) <= 700_000 < each.get("chunkOffset", 0) + each["chunkSize"]
    )
    return int(found["offset"]) + 1000


def test_what_the_store_has_is_wrong(bench: Bench) -> None:
    """Files, and files that chunks are taken from: what was damaged comes over the wire."""
    contents = {KEPT: noise("kept", 300_000), DATA: noise("data", 1_500_000)}
    wanted = {hashlib.sha256(data).digest() for data in contents.values()}
    damaged = 0
    for path in (bench.repo / "objects").glob("*/*.file"):
        data = path.read_bytes()
        if hashlib.sha256(data).digest() in wanted:
            with path.open("r+b") as file:
                file.seek(100_000)
                file.write(bytes([data[100_000] ^ 1]))
            damaged += 1
    assert damaged == 2
    name = bench.publish(bench.layer)
    layer = bench.check(name, "partial")
    assert layer["receivedBytes"] < layer["size"] / 2
    # The objects of v1 are as they were found: they are healed by the command that is for that.
    bootc_py("fsck", "--repo", bench.repo, "--repair", PLAIN_HTTP)
    commit = pull(name, bench.repo)["image"]["commit"]
    new = noise("data", 1_500_000)
    contents[DATA] = new[:700_000] + b"inserted" + new[700_000:]
    for path, data in contents.items():
        assert store.ostree(bench.repo, "cat", commit, f"/{path}") == data, path


def untouched(exchange: Exchange, answer: Answer) -> Answer:
    """The first request for a range, which is for the blob's end, is answered."""
    return answer


# Answers to ranges, whether to all that follow; why the layer is had whole, or "".
RANGES: dict[str, tuple[list[Fault], bool, str]] = {
    "one is garbage": ([untouched, bad.for_ranges(bad.garbage)], False, ""),
    "one is cut": ([untouched, bad.for_ranges(bad.cut(1000))], False, ""),
    "all are garbage": ([untouched, bad.for_ranges(bad.garbage)], True, "wrong content in bytes"),
    "all have a flipped bit": (
        [untouched, bad.for_ranges(bad.flips(50))],
        True,
        "wrong content in bytes",
    ),
    "all are of another place": ([untouched, bad.for_ranges(bad.shifted(1))], True, "parts"),
    "the end is garbage": ([bad.for_ranges(bad.garbage)], False, "table of contents is not where"),
    "the end has a flipped bit": ([bad.for_ranges(bad.flips(50))], False, "has not the digest"),
    "the end is of another place": ([bad.for_ranges(bad.shifted(1))], False, "parts"),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges_have_other_bytes(bench: Bench, name: str) -> None:
    faults, always, why = RANGES[name]
    layer = bench.layer
    reference = bench.publish(layer)
    digest = f"sha256:{hashlib.sha256(layer.blob).hexdigest()}"
    bench.proxy.spoil(digest, *faults, always=always)
    on_its_way = limits.RANGE_CONNECTIONS * limits.BLOB_BUFFER if always else 0
    layer_report = bench.check(reference, "whole" if why else "partial", on_its_way=on_its_way)
    assert why in layer_report["reason"]
