"""An imported layer: the tree of its own entries, and what a tree alone cannot say.

Kept as a commit under the layer's ref, as ostree-ext does it, whiteouts as literal files. What
ostree-ext loses stands in the commit's metadata: directories that the layer only passes through,
hard links to files of lower layers, entries that were left out. A layer commit without our DiffID
key was written by other software, on other checks, and is not taken for this layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.errors import DamagedRepository
from bridge.oci.digest import Digest
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree
from bridge.ostree.variant import Variant

IMPORTER = "bootc-py/1"
"""The form of what we write, not the version of the program: equal images make equal commits."""
IMPORTER_KEY = "ostree.importer.version"
DIFF_ID_KEY = "bootc-py.diff-id"


@dataclass(frozen=True, slots=True)
class Dropped:
    """An entry that was left out, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Layer:
    """Paths are those of the store: relative, `etc` as `usr/etc`."""

    tree: Tree
    implied: set[str] = field(default_factory=set)
    """Directories with no entry of their own: the way to something else."""
    whiteouts: set[str] = field(default_factory=set)
    """Whiteout files, opaque markers among them, as they stand in `tree`."""
    links: dict[str, str] = field(default_factory=dict)
    """Hard links whose target is not in this layer, and that target."""
    dropped: list[Dropped] = field(default_factory=list)
    replaced: bool = False
    """Something took the place of a file that came before it: its object may be in no tree."""

    def store(self, transaction: Transaction, diff_id: Digest) -> str:
        """Write the layer's commit, which is the same for the same layer anywhere."""
        metadata = {
            IMPORTER_KEY: IMPORTER,
            DIFF_ID_KEY: str(diff_id),
            "bootc-py.implied": Variant("as", sorted(self.implied)),
            "bootc-py.whiteouts": Variant("as", sorted(self.whiteouts)),
            "bootc-py.links": Variant("a(ss)", sorted(self.links.items())),
            "bootc-py.dropped": Variant(
                "a(ss)", sorted((each.path, each.reason) for each in self.dropped)
            ),
        }
        tree = self.tree.write(transaction)
        return transaction.write_commit(Commit(tree, self.tree.meta, metadata))


def diff_id_of(commit: Commit) -> str | None:
    """Return the DiffID that a layer commit of ours was verified against, else None."""
    value = commit.metadata.get(DIFF_ID_KEY)
    return value if isinstance(value, str) else None


def load(repo: Repository, checksum: str) -> Layer:
    """Return the layer that `Layer.store` wrote as the commit `checksum`."""
    commit = repo.read_commit(checksum)
    try:
        return Layer(
            Tree.stored(repo, commit.tree, commit.meta),
            set(commit.metadata["bootc-py.implied"]),
            set(commit.metadata["bootc-py.whiteouts"]),
            dict(commit.metadata["bootc-py.links"]),
            [Dropped(*pair) for pair in commit.metadata["bootc-py.dropped"]],
        )
    except (KeyError, TypeError, ValueError):
        raise DamagedRepository(f"commit {checksum} is not a layer of ours") from None
