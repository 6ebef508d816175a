"""What the refs keep: every object that can be reached from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bridge.errors import DamagedRepository
from bridge.ostree.objects import ObjectType

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository

Reachable = dict[ObjectType, set[str]]


def reachable(
    repo: Repository,
    commits: Iterable[str],
    on_missing: Callable[[str, ObjectType], None] | None = None,
) -> Reachable:
    """Return all objects that the commits need, the commits among them (not their parents).

    A missing or damaged metadata object raises `DamagedRepository`, or is told to `on_missing`
    and then what it would lead to is not in the result.
    """
    found: Reachable = {kind: set() for kind in ObjectType}
    queue = [(checksum, ObjectType.COMMIT) for checksum in commits]
    while queue:
        checksum, kind = queue.pop()
        if checksum in found[kind]:
            continue
        found[kind].add(checksum)
        if kind is ObjectType.FILE or kind is ObjectType.DIRMETA:
            continue
        try:
            if kind is ObjectType.COMMIT:
                commit = repo.read_commit(checksum)
                queue.append((commit.tree, ObjectType.DIRTREE))
                found[ObjectType.DIRMETA].add(commit.meta)
                continue
            tree = repo.read_dirtree(checksum)
        except (DamagedRepository, OSError):
            if on_missing is None:
                raise
            on_missing(checksum, kind)
            continue
        found[ObjectType.FILE].update(tree.files.values())
        for below, meta in tree.dirs.values():
            found[ObjectType.DIRMETA].add(meta)
            queue.append((below, ObjectType.DIRTREE))
    return found


class Needs:
    """What commits need, for who asks again and again while the repository is repaired.

    Trees that are whole stay so: each commit's is walked through once.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._whole: dict[str, Reachable] = {}

    def of(self, commits: Iterable[str]) -> tuple[Reachable, bool]:
        """Return the objects of the commits, as far as they can be told, and whether that is
        all."""
        result: Reachable = {kind: set() for kind in ObjectType}
        whole = True
        for commit in commits:
            found = self._whole.get(commit) or self._walk(commit)
            whole = whole and commit in self._whole
            for kind, checksums in found.items():
                result[kind] |= checksums
        return result, whole

    def _walk(self, commit: str) -> Reachable:
        broken: list[str] = []
        found = reachable(self._repo, [commit], lambda checksum, _kind: broken.append(checksum))
        if not broken:
            self._whole[commit] = found
        return found
