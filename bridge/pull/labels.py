"""Labels: every file of a merged tree gets the one that the tree's own SELinux policy has for it.

As ostree-ext labels images with layers of their own: all of the tree, by the policy in it. Paths
are those of the running system. What is kept in `/usr/etc` gets the labels of `/etc` (libostree's
`SELINUX_LABEL_V1`): it is what `/etc` is copied from, and no less of a secret there.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import BinaryIO

from bridge import limits
from bridge.errors import DamagedRepository, MalformedImage
from bridge.ostree import objects, selinux
from bridge.ostree.objects import FileMeta
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import Labels, Policy
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree
from bridge.pull.ingest import IMPLIED_META
from bridge.pull.labelled import Labelled
from bridge.pull.paths import join, walk

_SELINUX = "usr/etc/selinux"


def policy_of(repo: Repository, tree: Tree) -> Policy | None:
    """Return the policy that an image's merged tree has and wants; None where it has none.

    Raises `MalformedImage` for one that is too large or has no proper name.
    """
    config = _read(repo, tree, f"{_SELINUX}/{selinux.CONFIG}")
    name = None if config is None else selinux.policy_name(config)
    if name is None:
        return None
    path = f"{_SELINUX}/{selinux.contexts_directory(name)}"
    directory = _directory(repo, tree, path)[0]
    if directory is None or selinux.FILE_CONTEXTS not in directory.files:
        return None
    found = {
        each: _read(repo, tree, f"{path}/{each}")
        for each in sorted(directory.files)
        if selinux.is_file_contexts(each)
    }
    return Policy(name, {each: data for each, data in found.items() if data is not None})


def label(repo: Repository, transaction: Transaction, tree: Tree, labels: Labels) -> None:
    """Give all that is in `tree` its label; what objects that takes are written in `transaction`.

    The tree's objects must be in the repository. What an earlier pull labelled alike is not read
    again. `DamagedRepository` where what is read is not what its name says: no new object is made
    of it.
    """
    labelled = Labelled(repo)
    _Labelling(repo, transaction, labels, labelled).directory(tree, "")
    labelled.keep()


def path_in_system(path: str) -> str:
    """Return where a path of the store is in the running system: absolute, `usr/etc` as `/etc`."""
    if path == "usr/etc" or path.startswith("usr/etc/"):
        path = path.removeprefix("usr/")
    return f"/{path}"


class _Labelling:
    def __init__(
        self, repo: Repository, transaction: Transaction, labels: Labels, labelled: Labelled
    ) -> None:
        self._repo = repo
        self._transaction = transaction
        self._labels = labels
        self._labelled = labelled
        self._modes: dict[str, int] = {}
        self._files: dict[tuple[str, bytes | None], str] = {}
        self._metas: dict[tuple[str, bytes | None], str] = {}
        # This one may have been made for the merge, and be in no layer.
        self._read_metas = {transaction.write_dirmeta(IMPLIED_META): IMPLIED_META}

    def directory(self, tree: Tree, path: str) -> None:
        """Label a directory and all below it."""
        tree.meta = self._meta(tree.meta, path)
        for name, checksum in list(tree.files.items()):
            tree.set_file(name, self._file(checksum, join(path, name)))
        for name, below in tree.dirs.items():
            self.directory(below, join(path, name))

    def _meta(self, checksum: str, path: str) -> str:
        meta = self._read_metas.get(checksum)
        if meta is None:
            meta = self._read_metas[checksum] = self._repo.read_dirmeta(checksum)
        label = self._labels.lookup(path_in_system(path), meta.mode)
        found = self._metas.get((checksum, label))
        if found is None:
            labelled = replace(meta, xattrs=selinux.with_label(meta.xattrs, label))
            found = self._metas[checksum, label] = self._transaction.write_dirmeta(labelled)
        return found

    def _file(self, checksum: str, path: str) -> str:
        mode = self._modes.get(checksum)
        if mode is not None:
            label = self._labels.lookup(path_in_system(path), mode)
            found = self._files.get((checksum, label))
            if found is not None:
                return found
        meta, payload = self._repo.open_file(checksum)
        try:
            self._modes[checksum] = meta.mode
            label = self._labels.lookup(path_in_system(path), meta.mode)
            found = self._object(checksum, label, meta, payload)
        finally:
            if payload is not None:
                payload.close()
        self._files[checksum, label] = found
        return found

    def _object(
        self, checksum: str, label: bytes | None, meta: FileMeta, payload: BinaryIO | None
    ) -> str:
        if label is None:
            return checksum
        found = self._labelled.find(checksum, label)
        if found is None:
            own = self._own(checksum, meta, payload)
            labelled = replace(meta, xattrs=selinux.with_label(meta.xattrs, label))
            found = self._transaction.write_changed(checksum, own, labelled, payload)
            self._labelled.remember(checksum, label, found)
        return found

    def _own(self, checksum: str, meta: FileMeta, payload: BinaryIO | None) -> FileMeta:
        """Return the metadata that is in the object: with the label that is read, or without it.

        On a host with SELinux the kernel gives one to whatever is stored without, in a repository
        of mode bare; but objects of an encapsulated commit have labels of their own.
        """
        bare = replace(meta, xattrs=selinux.without_label(meta.xattrs))
        if bare == meta or self._repo.mode != "bare":
            return meta
        digest = hashlib.sha256(objects.content_header(meta))
        if payload is not None:
            while chunk := payload.read(limits.BLOB_BUFFER):
                digest.update(chunk)
            payload.seek(0)
        return meta if digest.hexdigest() == checksum else bare


# -- reading the policy ------------------------------------------------------------------------


def _directory(repo: Repository, tree: Tree, path: str) -> tuple[Tree | None, str]:
    def target(checksum: str) -> str | None:
        meta, payload = repo.open_file(checksum)
        if payload is not None:
            payload.close()
        return meta.target if meta.is_symlink else None

    return walk(tree, path.split("/") if path else [], target, None)


def _read(repo: Repository, tree: Tree, path: str) -> bytes | None:
    """Return the content of a regular file, links followed inside of the image; None for none."""
    for _ in range(limits.LINK_HOPS_MAX):
        parent, _, name = path.rpartition("/")
        directory, at = _directory(repo, tree, parent)
        checksum = None if directory is None else directory.files.get(name)
        if checksum is None:
            return None
        meta, payload = repo.open_file(checksum)
        if payload is not None:
            with payload:
                return _verified(checksum, meta, payload, path)
        path = meta.target.lstrip("/") if meta.target.startswith("/") else join(at, meta.target)
    return None


def _verified(checksum: str, meta: FileMeta, payload: BinaryIO, path: str) -> bytes:
    data = bytearray()
    while chunk := payload.read(limits.BLOB_BUFFER):
        data += chunk
        if len(data) > limits.POLICY_MAX:
            raise MalformedImage(
                f"{path!r:.300} has more than {limits.POLICY_MAX} bytes: too much for a part"
                " of an SELinux policy"
            )
    bare = replace(meta, xattrs=selinux.without_label(meta.xattrs))
    if checksum not in (objects.file_checksum(each, bytes(data)) for each in (meta, bare)):
        raise DamagedRepository(f"file {checksum}, which is {path}, is damaged")
    return bytes(data)
