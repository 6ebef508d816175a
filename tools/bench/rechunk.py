"""What the next version of an image makes others fetch, by how it is put into layers.

The two versions of a real image, each as the layers of its build's steps, as chunkah's reading
would have it (`chunkah`), and as `bootc-py build` does, without and with the image before. Counted
is what those move who know layers only: the gzip blobs of the new version that are not in the old.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bridge.build import layers
from bridge.build.components import split
from bridge.build.packing import Group, Item, pack
from bridge.build.rechunk import LAYERS, item_of
from bridge.contents.commit import of_commit
from bridge.contents.contents import Contents, Node
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.packages.installed import installed
from bridge.pull import images
from bridge.pull.pull import pull
from tools.bench import chunkah
from tools.images import build, cache

MB = 1_000_000
LEAST = 0.30
"""Part of the plain layers' bytes that is to be saved."""
OTHERS = 1.05
"""Times the bytes of chunkah's way that ours may take."""


@dataclass(frozen=True)
class Update:
    """Bytes to fetch of the second version of an image, for each way to make its layers."""

    image: str
    ways: dict[str, tuple[int, int]]
    """Layers of the second version, and bytes of those that the first does not have."""

    @property
    def met(self) -> bool:
        plain, others = self.ways["plain"][1], self.ways["chunkah"][1]
        ours = [self.ways[way][1] for way in ("ours", "ours, with the image before")]
        return max(ours) <= min(plain * (1 - LEAST), others * OTHERS)

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "ways": {way: {"layers": n, "bytes": size} for way, (n, size) in self.ways.items()},
            "met": self.met,
        }


@dataclass(frozen=True)
class _Version:
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
            "plain": _plain(name),
            "chunkah": _moved(
                old, chunkah.pack(old.items, budget), new, chunkah.pack(new.items, budget)
            ),
            "ours": _moved(old, first, new, pack(new.items, budget)),
            "ours, with the image before": _moved(old, first, new, pack(new.items, budget, first)),
        }
    return Update(name, ways)


def table(found: Update) -> str:
    """The figures as text."""
    plain = found.ways["plain"][1]
    lines = [f"{found.image}: what the next version moves, whole layers in gzip"]
    for way, (count, size) in found.ways.items():
        lines.append(f"  {way:<28} {count:>4} layers {size / MB:>8.1f} MB  {size / plain:.2f}")
    return "\n".join([*lines, f"  {'as it should be' if found.met else 'NOT as it should be'}"])


def _version(repo: Repository, name: str, version: str) -> _Version:
    reference = parse_reference(build.image(name, version, "plain").reference)
    pull(repo, reference, labelled=False)
    contents = of_commit(repo, images.find(repo, reference).checksum)
    components = split(contents, installed(contents))
    return _Version(
        contents, {each.name: each.nodes for each in components}, [item_of(e) for e in components]
    )


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
