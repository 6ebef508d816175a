"""An image's own commit: its layers merged, and the documents that it was made from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bridge.errors import MalformedImage
from bridge.ostree import composefs, prepare_root
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import COMMIT_KEY, XATTR, Labels
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree
from bridge.ostree.variant import Variant
from bridge.pull import images, labels, layer
from bridge.pull.encapsulation import Role, check_commit, roles
from bridge.pull.ingest import IMPLIED_META
from bridge.pull.merge import Merge, StoredObjects
from bridge.pull.resolve import Resolved


def merge_layers(
    repo: Repository,
    transaction: Transaction,
    image: Resolved,
    layers: Iterable[str],
    *,
    labelled: bool = True,
) -> tuple[Commit, list[layer.Dropped]]:
    """Put the layers (their commits, lowest first) together in `transaction`; return the image's
    commit, which is still to be written, and what was left out of all its layers.

    An encapsulated commit is the bottom, and the parent. Where the image has an SELinux policy its
    files are labelled by it, unless not `labelled`; but a labelled commit on which there is nothing
    stays as it is. `BridgeError` where there is no libselinux to label, `VerificationFailed` where
    the commit is another one than the image says.
    """
    dropped: list[layer.Dropped] = []
    commits = list(layers)
    each_role = roles(image.config)
    parent = commits[0] if Role.COMMIT in each_role else None
    base = None
    if parent is not None:
        check_commit(image.config, parent)
        found = repo.read_commit(parent)
        base = Tree.stored(repo, found.tree, found.meta)
    # The implied directory's metadata is in the store with the first layer, if any is.
    merge = Merge(StoredObjects(repo), transaction.write_dirmeta(IMPLIED_META), base)
    for each, role in zip(commits, each_role, strict=True):
        if role is not Role.FILES:
            continue
        loaded = layer.load(repo, each)
        dropped += loaded.dropped
        merge.apply(loaded)
    dropped += merge.finish()
    policy = labels.policy_of(repo, merge.tree)
    if (
        policy is not None
        and labelled
        and not (Role.FILES not in each_role and _has_labels(repo, merge.tree))
    ):
        with Labels(policy) as opened:
            labels.label(repo, transaction, merge.tree, opened)
    tree = merge.tree.write(transaction)
    commit = Commit(
        tree=tree,
        meta=merge.tree.meta,
        parent=parent,
        metadata={
            images.MANIFEST_DIGEST_KEY: str(image.manifest.digest),
            # As they came, so that their digests can be checked at any time.
            images.MANIFEST_KEY: image.manifest.raw.decode(),
            images.CONFIG_KEY: image.config.raw.decode(),
            layer.IMPORTER_KEY: layer.IMPORTER,
            **({} if policy is None else {COMMIT_KEY: policy.name if labelled else ""}),
            **_composefs(transaction, merge.tree),
        },
        timestamp=_timestamp(image),
    )
    return commit, dropped


def _has_labels(repo: Repository, tree: Tree) -> bool:
    xattrs = repo.read_dirmeta(tree.meta).xattrs
    return any(name == XATTR for name, _label in xattrs)


def _composefs(transaction: Transaction, tree: Tree) -> dict[str, Variant]:
    """Return the digest of an image's composefs image, where that is verified when it boots.

    It is a function of the tree: no other tool and nothing of this machine has a part in it.
    """
    try:
        asked = prepare_root.read(transaction, tree)
    except MalformedImage:
        return {}  # whoever deploys it is told; it is no reason not to have it
    if not asked.is_verified:
        return {}
    return {composefs.DIGEST_KEY: Variant("ay", composefs.digest(transaction, tree))}


def _timestamp(image: Resolved) -> int:
    """Return when the image says it was made, 0 if it does not: never the time of the import."""
    created = (
        image.manifest.annotations.get("org.opencontainers.image.created") or image.config.created
    )
    if created is None:
        return 0
    try:
        moment = datetime.fromisoformat(created)
        return max(0, int(moment.timestamp())) if moment.tzinfo else 0
    except (ValueError, OverflowError):
        return 0
