"""Layers to a merged commit, as a pull does it, without an image around them."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.oci.digest import Digest
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import layer
from bridge.pull.ingest import IMPLIED_META, ingest
from bridge.pull.layer import Layer
from bridge.pull.merge import Merge, StoredObjects
from support.images import Member, tar


def ingested(repo: Repository, members: Sequence[Member] | bytes) -> tuple[Layer, str]:
    """Import one layer; return it as it came out, and its commit."""
    data = members if isinstance(members, bytes) else tar(members)
    with Transaction(repo) as transaction:
        made = ingest([data], transaction)
        commit = made.store(transaction, Digest.of(data))
        transaction.publish()
    return made, commit


def merged(repo: Repository, *layers: Sequence[Member] | bytes) -> str:
    """Return the commit of the merged layers: once as ingested, once as read from the store."""
    pairs = [ingested(repo, each) for each in layers]
    fresh = _merge(repo, [made for made, _ in pairs])
    stored = _merge(repo, [layer.load(repo, commit) for _, commit in pairs])
    assert fresh == stored
    return fresh


def _merge(repo: Repository, layers: Sequence[Layer]) -> str:
    with Transaction(repo) as transaction:
        merge = Merge(StoredObjects(repo), transaction.write_dirmeta(IMPLIED_META))
        for each in layers:
            merge.apply(each)
        merge.finish()
        tree = merge.tree.write(transaction)
        commit = transaction.write_commit(Commit(tree, merge.tree.meta))
        transaction.publish()
    return commit
