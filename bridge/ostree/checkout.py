"""Checkout: a commit's tree, or a part of it, as files in a directory.

From a bare repository the files are hard links to their objects, so they must not be written
to; otherwise, and on another file system, they are copies that are hashed on the way.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, DamagedRepository, NoSpace, NotFound
from bridge.limits import BLOB_BUFFER
from bridge.ostree import durable, objects
from bridge.ostree.objects import DirMeta, FileMeta, ObjectType
from bridge.ostree.selinux import as_stored

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository


def checkout(
    repo: Repository,
    commit: str,
    parent_fd: int,
    name: str,
    *,
    subpath: str = "",
    hardlink: bool = True,
) -> None:
    """Make the new directory `name` in `parent_fd` the tree of `commit`, or the part at `subpath`.

    Owners are set when this process is root. `NotFound` where `subpath` is no directory,
    `DamagedRepository` where an object is missing or not what its name says.
    """
    found = repo.read_commit(commit)
    tree, meta = found.tree, found.meta
    for part in subpath.split("/") if subpath else ():
        try:
            tree, meta = repo.read_dirtree(tree).dirs[part]
        except KeyError:
            raise NotFound(f"commit {commit} has no directory {subpath}") from None
    checkout_tree(repo, tree, meta, parent_fd, name, hardlink=hardlink)


def checkout_tree(
    repo: Repository, tree: str, meta: str, parent_fd: int, name: str, *, hardlink: bool = True
) -> None:
    """Make the new directory `name` in `parent_fd` what a dirtree and a dirmeta say."""
    try:
        _Checkout(repo, hardlink).directory(tree, meta, parent_fd, name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMLINK):
            raise NoSpace(f"no room to check out {name}: {error.strerror}") from error
        raise BridgeError(f"cannot check out {name}: {error}") from error


def checkout_file(repo: Repository, checksum: str, parent_fd: int, name: str) -> None:
    """Make the new file `name` in `parent_fd` what a content object is, as `checkout` does."""
    _Checkout(repo, hardlink=True).file(checksum, parent_fd, name)


class _Checkout:
    def __init__(self, repo: Repository, hardlink: bool) -> None:
        self._repo = repo
        self._hardlink = hardlink and repo.mode == "bare"
        self._undated = hardlink  # copies that were asked for are somebody's own, and new
        self._root = os.geteuid() == 0
        self._now = time.time_ns()
        self._metas: dict[str, DirMeta] = {}

    def directory(self, tree: str, meta: str, parent_fd: int, name: str) -> None:
        if meta not in self._metas:
            self._metas[meta] = self._repo.read_dirmeta(meta)
        dirmeta = self._metas[meta]
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = durable.open_directory(name, parent_fd)
        try:
            found = self._repo.read_dirtree(tree)
            for each, checksum in found.files.items():
                self.file(checksum, fd, each)
            for each, (below, its_meta) in found.dirs.items():
                self.directory(below, its_meta, fd, each)
            if self._root:
                os.fchown(fd, dirmeta.uid, dirmeta.gid)
                for key, value in dirmeta.xattrs:
                    os.setxattr(fd, os.fsdecode(key), value)
            os.fchmod(fd, stat.S_IMODE(dirmeta.mode))
            os.utime(fd, ns=(self._now, 0))
        finally:
            os.close(fd)

    def file(self, checksum: str, fd: int, name: str) -> None:
        if self._hardlink:
            path = self._repo.object_path(checksum, ObjectType.FILE)
            try:
                os.link(path, name, src_dir_fd=self._repo.fd, dst_dir_fd=fd, follow_symlinks=False)
                return
            except FileNotFoundError:
                raise DamagedRepository(
                    f"file {checksum} is missing from {self._repo.path}"
                ) from None
            except OSError as error:
                # Another file system, or the object has as many links as it may have.
                if error.errno not in (errno.EXDEV, errno.EMLINK):
                    raise
        self._copy(checksum, fd, name)

    def _copy(self, checksum: str, fd: int, name: str) -> None:
        meta, payload = self._repo.open_file(checksum)
        digests = [hashlib.sha256(objects.content_header(each)) for each in as_stored(meta)]
        if payload is None:
            os.symlink(meta.target, name, dir_fd=fd)
            if self._root:
                os.chown(name, meta.uid, meta.gid, dir_fd=fd, follow_symlinks=False)
                for key, value in meta.xattrs:
                    path = f"/proc/self/fd/{fd}/{name}"
                    os.setxattr(path, os.fsdecode(key), value, follow_symlinks=False)
        else:
            with payload:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                out = os.open(name, flags, 0o600, dir_fd=fd)
                try:
                    while chunk := payload.read(BLOB_BUFFER):
                        for digest in digests:
                            digest.update(chunk)
                        durable.write_all(out, chunk)
                    self._dress(out, meta)
                finally:
                    os.close(out)
        if checksum not in (each.hexdigest() for each in digests):
            os.unlink(name, dir_fd=fd)
            raise DamagedRepository(f"file {checksum} in {self._repo.path} is damaged")

    def _dress(self, fd: int, meta: FileMeta) -> None:
        mode = stat.S_IMODE(meta.mode)
        if self._root:
            os.fchown(fd, meta.uid, meta.gid)
            for key, value in meta.xattrs:
                os.setxattr(fd, os.fsdecode(key), value)
        else:
            mode &= 0o777
        os.fchmod(fd, mode)
        if self._undated:
            os.utime(fd, ns=(self._now, 0))
