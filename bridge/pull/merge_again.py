"""An image's commit made again from its layers, which takes no network: a part of repair."""

from __future__ import annotations

from bridge.errors import DamagedRepository
from bridge.ostree import objects
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import COMMIT_KEY
from bridge.ostree.transaction import Transaction
from bridge.pull.image_commit import merge_layers
from bridge.pull.resolve import Resolved


def merge_again(repo: Repository, lost: str, image: Resolved, layers: list[str]) -> None:
    """Merge the layers (their commits, lowest first) of `image`, whose commit was `lost`.

    What of it is in `repo.damaged`, or missing, is written anew. With an SELinux policy it was
    made with labels or without them, and only the commit says which. Raises `DamagedRepository`
    where what comes out is not that commit, nor one of the same tree.
    """
    if not _merge(repo, lost, image, layers, labelled=True):
        _merge(repo, lost, image, layers, labelled=False)


def _merge(
    repo: Repository, lost: str, image: Resolved, layers: list[str], *, labelled: bool
) -> bool:
    with Transaction(repo) as transaction:
        commit, _dropped = merge_layers(repo, transaction, image, layers, labelled=labelled)
        if lost == objects.commit_checksum(commit):
            transaction.write_commit(commit)
        elif labelled and COMMIT_KEY in commit.metadata:
            return False
        else:
            _check_is_alike(repo, lost, commit)
        transaction.publish()
    return True


def _check_is_alike(repo: Repository, lost: str, merged: Commit) -> None:
    """Another program's commit of the same tree is healed by it, another tree is not."""
    if lost in repo.damaged:
        raise DamagedRepository(
            f"commit {lost} cannot be made again: its reference names another image now, or another"
            " program made it; deploy what it names with `upgrade` or `switch`"
        )
    stored = repo.read_commit(lost)
    if (stored.tree, stored.meta) != (merged.tree, merged.meta):
        raise DamagedRepository(f"commit {lost} is another program's, and its tree is not ours")
