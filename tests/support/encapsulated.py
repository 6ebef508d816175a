"""Encapsulated commits, put together entry by entry: what tests break, they break here.

Nothing of the program's own writer is used; that a tree's commit is the right one, `ostree` says.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.oci.digest import Digest
from bridge.ostree import objects, variant
from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta, Xattrs
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from support.images import Image, Member, directory, file, hardlink, image, tar

REPOSITORY = "sysroot/ostree/repo"
LABEL = b"security.selinux"


@dataclass(frozen=True)
class File:
    """A regular file, or with a `target` a symbolic link."""

    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    xattrs: Xattrs = ()
    target: str = ""

    @property
    def meta(self) -> FileMeta:
        kind = stat.S_IFLNK | 0o777 if self.target else stat.S_IFREG | self.mode
        return FileMeta(self.uid, self.gid, kind, self.xattrs, self.target)

    @property
    def checksum(self) -> str:
        return objects.file_checksum(self.meta, self.data)


@dataclass(frozen=True)
class Dir:
    entries: Mapping[str, File | Dir] = field(default_factory=dict)
    mode: int = 0o755
    xattrs: Xattrs = ()

    @property
    def meta(self) -> DirMeta:
        return DirMeta(0, 0, stat.S_IFDIR | self.mode, self.xattrs)


def name(checksum: str, ending: str) -> str:
    return f"{REPOSITORY}/objects/{checksum[:2]}/{checksum[2:]}.{ending}"


def xattrs_of(found: File) -> bytes:
    return variant.encode("a(ayay)", [(key + b"\0", value) for key, value in found.xattrs])


def content(found: File, paths: Sequence[str] = ()) -> list[Member]:
    """The entries of a file: its xattrs, itself, and links to it."""
    path = name(found.checksum, "file")
    own = {"mode": found.mode, "uid": found.uid, "gid": found.gid}
    item = file(path, found.data, **own)
    if found.target:
        item = Member(path, tarfile.SYMTYPE, mode=0o777, target=found.target, uid=found.uid)
    return [
        file(name(found.checksum, "file-xattrs-link"), xattrs_of(found)),
        item,
        *(hardlink(each, path) for each in paths),
    ]


@dataclass
class Encapsulated:
    """A commit, and the entries of its layers: a test may change any of them."""

    commit: str
    metadata: list[Member]
    files: dict[str, tuple[File, list[str]]]
    serialised: bytes

    def layer(self, *checksums: str, metadata: bool = False) -> list[Member]:
        """The layer with these files, and with all metadata."""
        made = [directory("./"), file(f"{REPOSITORY}/config", "[core]\n")]
        if metadata:
            made += self.metadata
        for checksum in checksums:
            made += content(*self.files[checksum])
        return made

    def whole(self) -> list[Member]:
        return self.layer(*self.files, metadata=True)


def encapsulated(
    root: Dir, *, detached: Mapping[str, Any] | None = None, **more: Any
) -> Encapsulated:
    """A commit of that tree; `more` is for the commit."""
    metadata: dict[str, Member] = {}
    files: dict[str, tuple[File, list[str]]] = {}

    def add(ending: str, data: bytes) -> str:
        checksum = hashlib.sha256(data).hexdigest()
        metadata[f"{checksum}.{ending}"] = file(name(checksum, ending), data)
        return checksum

    def walk(here: Dir, at: str) -> tuple[str, str]:
        named: dict[str, str] = {}
        dirs: dict[str, tuple[str, str]] = {}
        for key, each in here.entries.items():
            if isinstance(each, Dir):
                dirs[key] = walk(each, f"{at}{key}/")
                continue
            named[key] = each.checksum
            shown = f"{at}{key}".removeprefix("usr/") if at.startswith("usr/etc/") else f"{at}{key}"
            files.setdefault(each.checksum, (each, []))[1].append(shown)
        tree = add("dirtree", objects.encode_dirtree(DirTree(named, dirs)))
        return tree, add("dirmeta", objects.encode_dirmeta(here.meta))

    tree, meta = walk(root, "")
    data = objects.encode_commit(Commit(tree, meta, **more))
    commit = hashlib.sha256(data).hexdigest()
    first = [file(name(commit, "commit"), data)]
    if detached is not None:
        first.append(file(name(commit, "commitmeta"), variant.encode("a{sv}", detached)))
    return Encapsulated(commit, [*first, *metadata.values()], files, data)


def as_image(*layers: Sequence[Member], last: int, commit: str | None = None, **more: Any) -> Image:
    """An image of which the layers up to `last` are a commit's."""
    labels = {"containers.bootc": "1", **more.pop("labels", {})}
    labels["ostree.final-diffid"] = str(Digest.of(tar(layers[last])))
    if commit is not None:
        labels["ostree.commit"] = commit
    return image(*layers, labels=labels, **more)


def store(
    repo: Repository, root: Dir, *, detached: Mapping[str, Any] | None = None, **more: Any
) -> str:
    """Write the tree and a commit of it; return the commit."""
    with Transaction(repo) as transaction:

        def walk(here: Dir) -> tuple[str, str]:
            named: dict[str, str] = {}
            dirs: dict[str, tuple[str, str]] = {}
            for key, each in here.entries.items():
                if isinstance(each, Dir):
                    dirs[key] = walk(each)
                elif each.target:
                    named[key] = transaction.write_link(each.meta)
                else:
                    named[key] = transaction.write_payload(each.meta, each.data)
            tree = transaction.write_dirtree(DirTree(named, dirs))
            return tree, transaction.write_dirmeta(here.meta)

        commit = transaction.write_commit(Commit(*walk(root), **more))
        if detached is not None:
            beside = transaction.write_beside(f"objects/{commit[:2]}/{commit[2:]}.commitmeta")
            beside.write(variant.encode("a{sv}", detached))
        transaction.set_ref("test/commit", commit)
        transaction.publish()
    return commit
