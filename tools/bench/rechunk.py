"""What the next version of an image makes others fetch, by how it is put into layers.

The two versions of a real image, each as the layers of its build's steps, as chunkah's reading
would have it (`chunkah`), and as `bootc-py build` does, without and with the image before. Counted
is what those move who know layers only: the gzip blobs of the new version that are not in the old;
and what pulls of zstd:chunked layers move, by those who know chunks (`tools.bench.clients`).
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.build import layers
from bridge.build.components import split
from bridge.build.packing import Group, Item, pack
from bridge.build.rechunk import LAYERS, item_of, rechunk
from bridge.contents.commit import of_commit
from bridge.contents.contents import Contents, Node
from bridge.oci.model import Manifest
from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree.repository import Repository
from bridge.packages.installed import installed
from bridge.pull import images
from bridge.pull.images import StoredImage
from bridge.pull.pull import pull
from bridge.push.layouts import LayoutWriter
from tools.bench import chunkah, clients
from tools.bench.clients import Moved
from tools.images import build, cache
from tools.images.spec import IMAGES, SOURCE_DATE_EPOCH

MB = 1_000_000
LEAST = 0.30
"""Part of the plain layers' bytes that is to be saved."""
OTHERS = 1.05
"""Times the bytes of chunkah's way that ours may take."""
PLAIN, OURS, AFTER = "plain", "ours", "ours, with the image before"


@dataclass(frozen=True)
class Update:
    """Bytes to fetch of the second version of an image, for each way to make its layers."""

    image: str
    ways: dict[str, tuple[int, int]]
    """Layers of the second version, and bytes of those that the first does not have."""
    chunks: dict[str, Moved]
    """What clients move who know chunks."""

    @property
    def met(self) -> bool:
        plain, others = self.ways[PLAIN][1], self.ways["chunkah"][1]
        return all(
            self.ways[way][1] <= min(plain * (1 - LEAST), others * OTHERS)
            and self.chunks[way].ours <= self.chunks[PLAIN].ours
            for way in (OURS, AFTER)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "ways": {way: {"layers": n, "bytes": size} for way, (n, size) in self.ways.items()},
            "chunks": {way: asdict(moved) for way, moved in self.chunks.items()},
            "met": self.met,
        }


@dataclass(frozen=True)
class _Version:
    reference: ImageReference
    image: StoredImage
    contents: Contents
    nodes: dict[str, tuple[Node, ...]]
    items: list[Item]

    def tar(self, group: Group) -> Iterator[bytes]:
        return layers.stream(self.contents, [n for each in group for n in self.nodes[each.name]])


def update(name: str, budget: int = LAYERS) -> Update:
    """Return what the second version of an image of tools/images costs."""
    with (
        cache.scratch(cache.root() / "work") as work,
        Repository.create(work / "repo", "bare-user") as repo,
    ):
        old, new = (_version(repo, name, version) for version in ("v1", "v2"))
        first = pack(old.items, budget)
        ways = {
            PLAIN: _plain(name),
            "chunkah": _moved(
                old, chunkah.pack(old.items, budget), new, chunkah.pack(new.items, budget)
            ),
            OURS: _moved(old, first, new, pack(new.items, budget)),
            AFTER: _moved(old, first, new, pack(new.items, budget, first)),
        }
        for way, (count, size) in ways.items():
            print(f"  {way}: {count} layers, {size:,} bytes as gzip", file=sys.stderr, flush=True)
        before = _made(repo, work, old, budget)
        known = images.find(repo, before).manifest
        pairs = {
            PLAIN: (old.reference, new.reference),
            OURS: (before, _made(repo, work, new, budget)),
            AFTER: (before, _made(repo, work, new, budget, known)),
        }
        # Of the desktop it would be six pulls of a gigabyte.
        chunks = clients.moved(repo, pairs, work, podman=name in IMAGES)
    return Update(name, ways, chunks)


def table(found: Update) -> str:
    """The figures as text."""
    plain = found.ways["plain"][1]
    heads = ("layers", "gzip layers", "bootc-py, chunks", "of the least", "podman, chunks")
    lines = [
        f"{found.image}: what the next version moves",
        f"  {'':28} {heads[0]:>6} {heads[1]:>19} {heads[2]:>21} {heads[3]:>14} {heads[4]:>16}",
    ]
    for way, (count, size) in found.ways.items():
        line = f"  {way:28} {count:6} {size / MB:9.1f} MB  {size / plain:5.2f}"
        if moved := found.chunks.get(way):
            share = moved.ours / found.chunks[PLAIN].ours
            theirs = "-" if moved.podman is None else f"{moved.podman / MB:.1f} MB"
            line += f" {moved.ours / MB:10.1f} MB  {share:6.3f}"
            line += f" {moved.ours / moved.least:12.3f} x {theirs:>16}"
        lines.append(line)
    return "\n".join([*lines, f"  {'as it should be' if found.met else 'NOT as it should be'}"])


def _version(repo: Repository, name: str, version: str) -> _Version:
    reference = parse_reference(build.image(name, version, "plain").reference)
    pull(repo, reference, labelled=False)
    image = images.find(repo, reference)
    contents = of_commit(repo, image.checksum)
    components = split(contents, installed(contents))
    return _Version(
        reference,
        image,
        contents,
        {each.name: each.nodes for each in components},
        [item_of(e) for e in components],
    )


def _made(
    repo: Repository, work: Path, version: _Version, budget: int, previous: Manifest | None = None
) -> ImageReference:
    """Store a version as `bootc-py build` makes it; return its name there."""
    layout = work / f"made-{version.image.checksum[:8]}-{previous is not None}"
    with LayoutWriter.open(str(layout), None) as target:
        rechunk(
            version.image, version.contents, target, created=SOURCE_DATE_EPOCH,
            budget=budget, previous=previous,
        )  # fmt: skip
    reference = parse_reference(f"oci:{layout}")
    pull(repo, reference, labelled=False)
    shutil.rmtree(layout)
    return reference


def _plain(name: str) -> tuple[int, int]:
    old, new = (build.image(name, version, "gzip") for version in ("v1", "v2"))
    there = {each["digest"] for each in old.layers}
    return len(new.layers), sum(e["size"] for e in new.layers if e["digest"] not in there)


def _moved(
    old: _Version, before: list[Group], new: _Version, after: list[Group]
) -> tuple[int, int]:
    def digest(chunks: Iterable[bytes]) -> str:
        found = hashlib.sha256()
        for chunk in chunks:
            found.update(chunk)
        return found.hexdigest()

    with ThreadPoolExecutor(2) as pool:
        there = set(pool.map(lambda group: digest(old.tar(group)), before))
        digests = list(pool.map(lambda group: digest(new.tar(group)), after))
        moved = [g for g, known in zip(after, digests, strict=True) if known not in there]
        return len(after), sum(pool.map(lambda group: _packed(new.tar(group)), moved))


def _packed(chunks: Iterable[bytes]) -> int:
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    size = sum(len(packer.compress(chunk)) for chunk in chunks)
    return size + len(packer.flush())
