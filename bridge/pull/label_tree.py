"""Labelling an image's merged tree: every file, link and directory gets its label.

A label is part of an object, so each file that has one is an object of its own beside the one of
its layer. Where the file system can, the two share their blocks.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER, POLICY_MAX, SMALL_FILE
from bridge.ostree.objects import ObjectType, Xattrs, content_header
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree
from bridge.pull import labels
from bridge.pull.ingest import IMPLIED_META
from bridge.pull.label_cache import LabelCache
from bridge.pull.labels import XATTR, Labels

_POLICY = "usr/etc/selinux"


@contextmanager
def policy(repo: Repository, tree: Tree) -> Iterator[Labels | None]:
    """Yield the labels of the policy in a tree; None where it has none."""
    top = tree.find(_POLICY)

    def names(path: str) -> list[str]:
        found = top.find(path) if isinstance(top, Tree) else None
        return list(found.files) if isinstance(found, Tree) else []

    with labels.opened(_reader(repo, tree), names) as opened:
        yield opened


def has_policy(repo: Repository, tree: Tree) -> bool:
    """Return whether a tree has a policy that is in use; libselinux is not needed to tell."""
    config = _reader(repo, tree)(labels.CONFIG)
    return config is not None and labels.policy_type(config) is not None


def label(
    repo: Repository, transaction: Transaction, tree: Tree, found: Labels, cache: LabelCache
) -> None:
    """Give everything in `tree` its label, in place; new objects go to `transaction`."""
    _Labelling(repo, transaction, found, cache).directory(tree, "")


def _reader(repo: Repository, tree: Tree) -> labels.Read:
    top = tree.find(_POLICY)

    def read(path: str) -> bytes | None:
        found = top.find(path) if isinstance(top, Tree) else None
        if not isinstance(found, str):
            return None
        _meta, stream = repo.open_file(found)
        if stream is None:
            return None
        with stream:
            return labels.checked(stream.read(POLICY_MAX + 1), path)

    return read


class _Labelling:
    def __init__(
        self, repo: Repository, transaction: Transaction, found: Labels, cache: LabelCache
    ) -> None:
        self._cache = cache
        self._repo = repo
        self._transaction = transaction
        self._labels = found
        self._done: dict[tuple[str, bytes], str] = {}
        """Labelled objects, by the object without the label, and the label."""
        self._modes: dict[str, int] = {}
        self._metas: dict[tuple[str, bytes], str] = {}
        self._known = {transaction.write_dirmeta(IMPLIED_META): IMPLIED_META}
        """Directories' metadata that may not be in the repository yet."""

    def directory(self, tree: Tree, path: str) -> None:
        here = self._labels.of(path or "/", stat.S_IFDIR | 0o755)
        if here is not None:
            tree.meta = self._meta(tree.meta, here)
        for name, checksum in list(tree.files.items()):
            tree.set_file(name, self._file(checksum, f"{path}/{name}"))
        for name, below in list(tree.dirs.items()):
            self.directory(below, f"{path}/{name}")
            tree.set_dir(name, below)

    def _meta(self, checksum: str, found: bytes) -> str:
        key = checksum, found
        if key not in self._metas:
            meta = self._known.get(checksum) or self._repo.read_dirmeta(checksum)
            self._metas[key] = self._transaction.write_dirmeta(
                replace(meta, xattrs=_with(meta.xattrs, found))
            )
        return self._metas[key]

    def _file(self, checksum: str, path: str) -> str:
        # What the label depends on beside the path is whether it is a link.
        if checksum not in self._modes:
            self._modes[checksum] = stat.S_IFLNK if self._is_link(checksum) else stat.S_IFREG
        found = self._labels.of(path, self._modes[checksum])
        if found is None:
            return checksum
        key = checksum, found
        if key not in self._done:
            known = self._cache.find(*key)
            if known is None or not self._repo.has_object(known, ObjectType.FILE):
                known = self._labelled(checksum, found)
                self._cache.remember(*key, known)
            self._done[key] = known
        return self._done[key]

    def _labelled(self, checksum: str, found: bytes) -> str:
        """Write the object with the label; return its checksum."""
        meta, stream = self._repo.open_file(checksum)
        try:
            labelled = replace(meta, xattrs=_with(meta.xattrs, found))
            # What is written with a label is as good as what it is read from: that is hashed.
            verified = hashlib.sha256(content_header(meta))
            if stream is None:
                new = self._transaction.write_link(labelled)
            elif len(data := stream.read(SMALL_FILE + 1)) <= SMALL_FILE:
                verified.update(data)
                self._check(verified, checksum)
                new = self._transaction.write_payload(labelled, data)
            else:
                chunks = _hashed(self._repo.stream_payload(checksum, 0, 1 << 62), verified)
                new = self._transaction.write_stream(labelled, self._size(checksum), chunks)
                self._check(verified, checksum)
                self._transaction.share(new, checksum)
        finally:
            if stream is not None:
                stream.close()
        return new

    def _is_link(self, checksum: str) -> bool:
        meta, stream = self._repo.open_file(checksum)
        if stream is not None:
            stream.close()
        return meta.is_symlink

    def _check(self, digest: hashlib._Hash, checksum: str) -> None:
        if digest.hexdigest() != checksum:
            raise DamagedRepository(f"file {checksum} in {self._repo.path} is damaged")

    def _size(self, checksum: str) -> int:
        _meta, stream = self._repo.open_file(checksum)
        assert stream is not None
        with stream:
            if stream.seekable():
                return stream.seek(0, os.SEEK_END)
            return sum(map(len, iter(lambda: stream.read(BLOB_BUFFER), b"")))


def _hashed(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _with(xattrs: Xattrs, found: bytes) -> Xattrs:
    """Return the xattrs with this label and no other, in the order that objects have them in."""
    return tuple(sorted([*(each for each in xattrs if each[0] != XATTR), (XATTR, found)]))
