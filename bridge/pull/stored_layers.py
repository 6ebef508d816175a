"""The layers that a store has, by what this program verified them against.

A commit without a DiffID of ours was written by other software, on other checks, and is not taken
for a layer.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.errors import DamagedRepository
from bridge.ostree.repository import Repository
from bridge.pull import verified_commits
from bridge.pull.encapsulated import objects_diff_id
from bridge.pull.encapsulation import Role
from bridge.pull.layer import diff_id_of


def stored_layers(repo: Repository, commits: Iterable[str]) -> dict[tuple[Role, str], str]:
    """Return those of the commits that are layers of ours, by role and by the DiffID that they
    were verified against; one that cannot be read is as good as not here."""
    found: dict[tuple[Role, str], str] = {}
    readable: set[str] = set()
    for commit in set(commits):
        try:
            read = repo.read_commit(commit)
        except DamagedRepository:
            continue
        readable.add(commit)
        if (diff_id := diff_id_of(read)) is not None:
            found[Role.FILES, diff_id] = commit
        elif (diff_id := objects_diff_id(read)) is not None:
            found[Role.OBJECTS, diff_id] = commit
    for held, commit in verified_commits.listing(repo):
        if commit in readable:
            found[Role.COMMIT, held] = commit
    return found
