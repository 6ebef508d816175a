"""A packing of a commit's objects by components, for the image that it is encapsulated in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.build.components import split
from bridge.build.packing import pack
from bridge.build.rechunk import LAYERS, comment, item_of
from bridge.contents.commit import of_commit
from bridge.ostree.repository import Repository
from bridge.packages.installed import installed
from bridge.push.commit_tar import Content
from bridge.push.packing import Chunk, Packing


def by_component(repo: Repository, commit: str, budget: int = LAYERS) -> Packing:
    """Return the packing that `rechunk` would have, of a stored commit's objects: what changes
    together in a layer, `budget` of them at most beside the one with the commit.

    An object that several components have is that of the first by name. Called, it raises
    `DamagedRepository`, and `MalformedImage` for a package database that cannot be read.
    """

    def packing(_contents: Mapping[str, Content]) -> Sequence[Chunk]:
        contents = of_commit(repo, commit)
        components = split(contents, installed(contents))
        objects: dict[str, list[str]] = {}
        taken: set[str] = set()
        for component in components:
            own = {node.key for node in component.nodes if not node.is_directory} - taken
            taken |= own
            objects[component.name] = sorted(own)
        groups = pack([item_of(each) for each in components], budget)
        return [
            Chunk(
                [checksum for each in group for checksum in objects[each.name]],
                comment(group),
                tuple(sorted(each.name for each in group)),
            )
            for group in groups
        ]

    return packing
