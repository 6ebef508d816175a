"""The composefs image of a tree in the store, as libostree makes it for a deployment.

Rules: libostree's `ostree-repo-composefs.c`. All that the tree has is in the image; what a root
file system is mounted on is there in any case.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from bridge.ostree import erofs, fsverity
from bridge.ostree.erofs import Node
from bridge.ostree.objects import DirMeta, FileMeta
from bridge.ostree.tree import Tree

IMAGE = ".ostree.cfs"
"""The image's name in the directory of a deployment."""
DIGEST_KEY = "ostree.composefs.digest.v0"
"""In a commit's metadata (type `ay`): the fs-verity digest of the image that has all files'."""
_MOUNT_POINTS = ("usr", "etc", "boot", "var", "sysroot")

Measured = Callable[[BinaryIO], tuple[int, bytes | None]]
"""Takes the payload of a file that is not read yet; returns its size, and its fs-verity digest
where that is to be in the image."""


class Objects(Protocol):
    """Where objects are read: a repository, or a transaction with what is staged in it."""

    def open_file(self, checksum: str) -> tuple[FileMeta, BinaryIO | None]:
        """As `Repository.open_file`."""

    def read_dirmeta(self, checksum: str) -> DirMeta:
        """As `Repository.read_dirmeta`."""


def image(objects: Objects, tree: Tree, measured: Measured) -> Iterator[bytes]:
    """Yield the image of `tree` in pieces. The names and metadata of all of it are in memory.

    Raises `MalformedImage` where the tree cannot be in such an image, `DamagedRepository` where
    an object is missing or cannot be read.
    """
    root = _directory(objects, tree, measured, {})
    for name in _MOUNT_POINTS:
        root.children.setdefault(name.encode(), Node(stat.S_IFDIR | 0o755))
    return erofs.image(root)


def digest(objects: Objects, tree: Tree) -> bytes:
    """Return the fs-verity digest of the image that has the digests of all files in it.

    It depends on the tree alone. The content of all files is read.
    """
    measure = fsverity.Measure()
    for piece in image(objects, tree, fsverity.compute):
        measure.update(piece)
    return measure.digest()


def as_stored(payload: BinaryIO) -> tuple[int, bytes | None]:
    """Return size and digest of a file in a bare repository, the digest where the file system
    holds it to one. Nothing is read."""
    fd = payload.fileno()
    return os.fstat(fd).st_size, fsverity.enabled(fd)


def _directory(objects: Objects, tree: Tree, measured: Measured, metas: dict[str, DirMeta]) -> Node:
    if tree.meta not in metas:
        metas[tree.meta] = objects.read_dirmeta(tree.meta)
    meta = metas[tree.meta]
    node = Node(meta.mode, meta.uid, meta.gid, meta.xattrs)
    for name, checksum in tree.files.items():
        node.children[name.encode()] = _file(objects, checksum, measured)
    for name, below in tree.dirs.items():
        node.children[name.encode()] = _directory(objects, below, measured, metas)
    return node


def _file(objects: Objects, checksum: str, measured: Measured) -> Node:
    meta, payload = objects.open_file(checksum)
    # libostree does not see those of a file that have no value.
    xattrs = tuple(pair for pair in meta.xattrs if pair[1])
    node = Node(meta.mode, meta.uid, meta.gid, xattrs)
    if payload is None:
        node.target = meta.target.encode()
        return node
    with payload:
        node.size, node.digest = measured(payload)
    node.target = f"{checksum[:2]}/{checksum[2:]}.file".encode()
    return node
