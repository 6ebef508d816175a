"""Bombs from a real registry: small to fetch, endless to unpack. Each is refused, and cheap.

Every one would take tens of gigabytes of disk or of memory, were it let.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from rig import command, crafted, store
from rig.command import PLAIN_HTTP, Done
from rig.registry import Registry, run_registry
from support.crafted.blocks import base256, header, sparse_old
from support.crafted.compression import layer
from support.images import MEDIA_TYPES, Image, descriptor, image

from bridge.oci.digest import Digest
from tools.images import cache

MIB, GIB = 1 << 20, 1 << 30
MEMORY_MAX = DISK_MAX = 512 * MIB


def _file(size: int, name: bytes = b"f") -> bytes:
    return header(name, size=base256(size, 12))


def _gzip(head: bytes, repeated: bytes, times: int) -> bytes:
    """Members that are all alike, as gzip lets a file be put together of them."""
    return gzip.compress(head, 9) + gzip.compress(repeated, 9) * times


def _zstd(head: bytes, repeated: bytes, times: int) -> bytes:
    packer = zstandard.ZstdCompressor(level=3)
    return packer.compress(head) + packer.compress(repeated) * times


def _bomb(blob: bytes, kind: str, content: bytes = b"") -> Image:
    """A layer that nobody gets to the end of; or can, and then it has to have its DiffID."""
    return layer(blob, kind, content)


def _holes() -> Image:
    hole = sparse_old([], GIB, 0)
    return _bomb(_zstd(b"", hole, 1000), "zstd", hole * 1000)


def _names(make: Callable[[int], bytes], count: int = 760_000) -> Image:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    digest = hashlib.sha256()
    blob = b""
    for start in range(0, count, 10_000):
        part = b"".join(make(n) for n in range(start, start + 10_000))
        digest.update(part)
        blob += packer.compress(part)
    made = image(b"", diff_ids=[f"sha256:{digest.hexdigest()}"])
    blob += packer.flush()
    made.blobs[str(Digest.of(blob))] = blob
    return made.changed(layers=[descriptor(blob, MEDIA_TYPES["zstd"])])


def _renamed(template: bytes) -> Callable[[int], bytes]:
    """Headers of that kind with a number in their names, made fast: checksums are sums."""
    total = int(template[148:154], 8)
    start = template.index(b"#######")

    def make(number: int) -> bytes:
        digits = b"%07d" % number
        checksum = b"%06o\0 " % (total + sum(digits) - 7 * ord("#"))
        block = template[:start] + digits + template[start + 7 :]
        return block[:148] + checksum + block[156:]

    return make


def _many_layers() -> Image:
    """As many layers as there may be, each of them a bomb that one image might have."""
    packer = zstandard.ZstdCompressor()
    start = packer.compress(_file(128 * MIB)) + packer.compress(bytes(64 * MIB)) * 2
    digest = hashlib.sha256(_file(128 * MIB) + bytes(128 * MIB))
    blobs, diff_ids = [], []
    for number in range(500):
        last = header(b"%03d" % number)
        blobs.append(start + packer.compress(last))
        whole = digest.copy()
        whole.update(last)
        diff_ids.append(f"sha256:{whole.hexdigest()}")
    made = image(*[b""] * 500, diff_ids=diff_ids)
    made.blobs.update({str(Digest.of(blob)): blob for blob in blobs})
    return made.changed(layers=[descriptor(blob, MEDIA_TYPES["zstd"]) for blob in blobs])


def _small_files(content: bytes) -> Image:
    """The same file for a thousand owners: objects of their own, each small enough to be held."""
    files = b"".join(
        header(b"f%d" % n, size=len(content), uid=b"%07o\0" % n) + content for n in range(64)
    )
    return _bomb(_zstd(b"", files, 1000), "zstd")


BOMBS: dict[str, tuple[Callable[[], Image], str]] = {
    "20 GiB of zeros, gzip": (
        lambda: _bomb(_gzip(_file(20 * GIB), bytes(64 * MIB), 320), "gzip"), "a bomb"),
    "20 GiB of text, gzip": (
        lambda: _bomb(_gzip(_file(20 * GIB), b"bomb" * (16 * MIB), 320), "gzip"), "a bomb"),
    "1 TiB of zeros, zstd": (
        lambda: _bomb(_zstd(_file(1024 * GIB), bytes(128 * MIB), 8192), "zstd"),
        "a bomb"),
    "40 GiB of text, zstd": (
        lambda: _bomb(_zstd(_file(40 * GIB), b"bomb" * (16 * MIB), 640), "zstd"), "a bomb"),
    "40 GiB behind the end of the archive": (
        lambda: _bomb(_zstd(bytes(1024), b"bomb" * (16 * MIB), 640), "zstd"), "a bomb"),
    "60 GiB of files of zeros": (lambda: _small_files(bytes(MIB)), "a bomb"),
    "60 GiB of files of text": (lambda: _small_files(b"bomb" * (MIB // 4)), "a bomb"),
    "holes of 1 GiB, many": (_holes, "a bomb"),
    "500 layers of 128 MiB": (_many_layers, "a bomb"),
    "directories without end in one": (
        lambda: _names(_renamed(header(b"d/#######/a/", b"5"))), "100000 names"),
    "directories on the way to others": (
        lambda: _names(lambda n: header(b"%03d/%07d/a/" % (n % 1000, n), b"5"), 400_000),
        "more than 750000 entries"),
    "devices without end, to be told of": (
        lambda: _names(_renamed(header(b"dev/" + b"n" * 40 + b"#######", b"3"))),
        "more than 750000 entries|paths have more"),
    "hard links to nothing without end": (
        lambda: _names(lambda n: header(b"%03d/%07d" % (n % 1000, n), b"1", target=b"x")),
        "more than 750000 entries"),
}  # fmt: skip


@dataclass
class Cost:
    """How a command ended, and the most that it took on the way. Bytes, seconds."""

    done: Done
    memory: int
    disk: int
    seconds: float


def measured(place: Path, *arguments: str | Path) -> Cost:
    """Runs `bootc-py` and watches what it takes of memory, and of the disk below `place`."""
    most = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.05):
            most = max(most, _disk(place))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done, cost = command.measured(place, *arguments)
    finally:
        ended.set()
        watcher.join()
    return Cost(done, cost.peak, most, cost.seconds)


def _disk(place: Path) -> int:
    total = 0
    for parent, _, names in os.walk(place):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with run_registry() as running:
        yield running


@pytest.fixture
def place() -> Iterator[Path]:
    with cache.scratch(cache.root() / "work") as work:
        yield work


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_cheap(registry: Registry, place: Path, name: str) -> None:
    make, phrase = BOMBS[name]
    publisher = crafted.Publisher(registry, "bombs")
    publisher.put(make(), "latest")
    repo = place / "repo"
    cost = measured(
        place, "image", "pull", f"{registry.host}/bombs", "--repo", repo, PLAIN_HTTP, "--json"
    )
    print(
        f"{name}: {cost.memory // MIB} MiB of memory, {cost.disk // MIB} MiB of disk,"
        f" {cost.seconds:.1f} s: {cost.done.err.strip()[-150:]}"
    )
    assert cost.done.code == (8 if "free space" in cost.done.err else 7), cost.done.err
    # Where the disk is smaller than what a header announces, that is what ends it.
    words = phrase if cost.done.code == 7 else "free space"
    assert re.search(words, cost.done.error), cost.done.error
    assert cost.memory < MEMORY_MAX
    assert cost.disk < DISK_MAX
    # Of many layers the first ones may be whole, and stay until a prune.
    names = store.refs(repo)
    assert len(names) <= (8 if "layers" in name else 0)
    assert all(each.startswith("ostree/container/blob/") for each in names)
    assert bool(store.object_names(repo)) is bool(names)
    assert [path for path in (repo / "tmp").iterdir() if path.name != "cache"] == []


def test_zeros_that_are_meant_take_no_disk(registry: Registry, place: Path) -> None:
    """Half a gigabyte of them, in a layer that is small: within what every image may have."""
    head = header(b"disk", size=512 * MIB)
    data = head + bytes(512 * MIB + 1024)
    blob = zstandard.ZstdCompressor().compress(data)
    publisher = crafted.Publisher(registry, "bombs")
    publisher.put(layer(blob, "zstd", data), "zeros")
    repo = place / "repo"
    cost = measured(
        place, "image", "pull", f"{registry.host}/bombs:zeros", "--repo", repo, PLAIN_HTTP, "--json"
    )
    assert cost.done.code == 0, cost.done.err
    assert cost.disk < 16 * MIB
    store.fsck(repo)
    (found,) = (repo / "objects").glob("*/*.file")
    assert found.stat().st_size == 512 * MIB
    with found.open("rb") as file:
        assert not any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(MIB), b""))
