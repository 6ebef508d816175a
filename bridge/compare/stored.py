"""A stored image that is compared with one that is not here: its store knows what it has."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property

from bridge.compare.encapsulated import Object, identity
from bridge.compare.image import Identity
from bridge.compare.layer import Item
from bridge.compare.tree import Spot
from bridge.contents.commit import of_commit
from bridge.contents.contents import Contents
from bridge.errors import NotFound
from bridge.layer.tar import Entry, EntryType
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference, Transport
from bridge.ostree import lock, refs
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree
from bridge.packages.installed import installed
from bridge.packages.package import Package
from bridge.pull import images
from bridge.pull.catch_up import catch_up
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.encapsulation import Role
from bridge.pull.plan import Lookup
from bridge.pull.refnames import layer_ref
from bridge.pull.xattrs import LABEL


def published(repo: Repository, reference: ImageReference) -> ImageReference:
    """Return where the very image is to be had that the repository has under a name: at its
    source, by its digest. `NotFound` where it is not stored."""
    found = images.find(repo, reference)
    if reference.transport is not Transport.REGISTRY:
        return reference
    pinned = reference.registry.with_digest(Digest.parse(found.manifest_digest))
    return replace(reference, name=str(pinned))


class StoredImage:
    """One image of a repository, and of what that holds only what is the image's."""

    def __init__(self, repo: Repository, reference: ImageReference) -> None:
        """Find the image; `NotFound`, `DamagedRepository`. The repository stays the caller's."""
        self._repo = repo
        found = images.find(repo, reference)
        self._commit = found.checksum
        raw = found.manifest.raw
        size = len(raw) + found.manifest.config.size
        digest = Digest.parse(found.manifest_digest)
        self.identity = Identity(str(reference), digest, found.manifest, found.config, size)

    def load(self) -> bool:
        """Bring the index of the repository up to date, as a pull does; `Busy`."""
        with lock.writing(self._repo), ContentIndex.open(self._repo) as index:
            catch_up(self._repo, index)
        return True

    @cached_property
    def lookup(self) -> Lookup:
        """What the store knows of the image's content. To be asked for after `load`."""
        checksums: set[str] = set()
        for layer in self.identity.manifest.layers:
            commit = refs.current(self._repo, layer_ref(layer.digest))
            if commit is None:
                raise NotFound(
                    f"layer {layer.digest} of {self.identity.reference} is not in "
                    f"{self._repo.path}: pull the image again"
                )
            found = self._repo.read_commit(commit)
            tree = Tree.stored(self._repo, found.tree, found.meta)
            for _, each in tree.walk(""):
                checksums.update(each.files.values())
        return _Within(self._repo, checksums)

    @cached_property
    def tree(self) -> list[tuple[str, Spot]]:
        """All that the image has, by path; every file is read once for it."""
        digests: dict[str, bytes] = {}
        found: list[tuple[str, Spot]] = []
        for path, node in self._contents.nodes.items():
            digest = b""
            if node.is_file:
                if node.key not in digests:
                    hashed = hashlib.sha256()
                    for chunk in self._contents.chunks(node):
                        hashed.update(chunk)
                    digests[node.key] = hashed.digest()
                digest = digests[node.key]
            entry = Entry(
                path, node.type, node.mode, node.uid, node.gid, node.size, 0, node.target,
                node.xattrs, (0, 0),
            )  # fmt: skip
            found.append((path, Spot(Item(entry, digest, None), 0)))
        return found

    @property
    def objects(self) -> set[Object]:
        """The image's files, as a store tells them apart: without the labels that came with the
        image's policy, but with those of an encapsulated commit."""
        found: set[Object] = set()
        has_labels = Role.COMMIT in self.identity.roles
        for _, spot in self.tree:
            item = spot.item
            if item.entry.type is EntryType.FILE:
                found.add(identity(item if has_labels else _unlabelled(item)))
        return found

    @cached_property
    def packages(self) -> list[Package]:
        """The packages that are installed, as `installed` has them."""
        return installed(self._contents)

    @cached_property
    def _contents(self) -> Contents:
        return of_commit(self._repo, self._commit)


def _unlabelled(item: Item) -> Item:
    entry = item.entry
    if all(name != LABEL for name, _ in entry.xattrs):
        return item
    kept = tuple(pair for pair in entry.xattrs if pair[0] != LABEL)
    return item._replace(entry=entry._replace(xattrs=kept))


class _Within:
    """A repository's index, of which only some objects count."""

    def __init__(self, repo: Repository, checksums: set[str]) -> None:
        self._repo = repo
        self._checksums = checksums

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """Return a place for each of the digests that one of the objects has."""
        with ContentIndex.open(self._repo, writing=False) as index:
            return index.find(digests, self._checksums)
