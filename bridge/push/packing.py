"""Which content of a commit goes into which layer of the image that it is written as.

A packing is any function from a commit's content objects to chunks: each becomes a layer, in that
order, and what is in none stays in the first layer, with the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bridge import limits
from bridge.errors import UsageError
from bridge.push.commit_tar import Content

_LEAST = 4 * limits.MIB
"""A directory with less is not worth a layer of its own."""
_TOP = {"usr/lib": 3, "usr/share": 3, "usr/lib64": 3}
"""Directories that are looked into once more, for most of a system is there."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A layer's content, by checksums."""

    objects: Sequence[str]
    name: str
    """For the image's history."""
    components: tuple[str, ...] = ()
    """What the layer holds, by the names of packages say, for its annotation."""


Packing = Callable[[Mapping[str, Content]], Sequence[Chunk]]


def nothing(_contents: Mapping[str, Content]) -> Sequence[Chunk]:
    """Have all of it in one layer."""
    return ()


def by_directory(contents: Mapping[str, Content]) -> Sequence[Chunk]:
    """Have a layer for each of the large directories: what changes in one leaves the others."""
    groups: dict[str, list[str]] = {}
    for checksum, content in contents.items():
        groups.setdefault(_directory(content.paths[0]), []).append(checksum)
    return [
        Chunk(objects, name, (name,))
        for name, objects in sorted(groups.items())
        if sum(contents[each].size for each in objects) >= _LEAST
    ]


def chunks_of(lists: Iterable[Sequence[str]]) -> Packing:
    """Return the packing that puts each list of checksums into a layer."""
    chunks = [Chunk(objects, f"chunk {number}") for number, objects in enumerate(lists, 1)]
    return lambda _contents: chunks


def packed(
    contents: Mapping[str, Content], packing: Packing
) -> tuple[list[str], list[tuple[Chunk, list[str]]]]:
    """Return what is left for the first layer, and each chunk with its objects, all of them in
    order; chunks without any are left out.

    `UsageError` where the packing takes an object twice, or one that the commit has not.
    """
    left = dict.fromkeys(contents)
    chosen: list[tuple[Chunk, list[str]]] = []
    for chunk in packing(contents):
        for checksum in chunk.objects:
            if checksum not in contents:
                raise UsageError(f"chunk {chunk.name!r:.100}: the commit has no file {checksum}")
            if checksum not in left:
                raise UsageError(f"chunk {chunk.name!r:.100}: file {checksum} is in another, too")
            del left[checksum]
        if chunk.objects:
            chosen.append((chunk, sorted(chunk.objects)))
    if len(chosen) > limits.ENCAPSULATED_CHUNKS_MAX:
        raise UsageError(
            f"a packing of {len(chosen)} chunks; the limit is {limits.ENCAPSULATED_CHUNKS_MAX}"
        )
    return list(left), chosen


def _directory(path: str) -> str:
    parts = path.split("/")[:-1]
    return "/".join(parts[: _TOP.get("/".join(parts[:2]), 2)])
