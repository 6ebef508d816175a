"""The files of deployments held against their commits, and put right from the repository.

A deployment's files are hard links to objects, so one look at two inodes verifies most of them.
Where an object was damaged and then replaced, the links still lead to the damaged file. `/etc`
and `/var` are the administrator's, and not looked at; nor are the owners and modes of
directories.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from bridge.errors import BridgeError, DamagedRepository
from bridge.limits import BLOB_BUFFER
from bridge.ostree import checkout, content, durable, objects
from bridge.ostree.objects import DirTree, ObjectType
from bridge.sysroot import composefs, files, kernel
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import State, Sysroot

_TEMPORARY = ".bootc-py-mended-"


@dataclass(frozen=True, slots=True)
class DeployedFault:
    """A file of a deployment, or of its kernel in /boot, that is not what its commit has."""

    deployment: str
    path: str
    """Relative to the deployment's directory, or to the sysroot where it begins with `boot/`."""
    reason: str

    def __str__(self) -> str:
        return f"deployment {self.deployment}: {self.path}: {self.reason}"


def verify(sysroot: Sysroot, state: State, *, mend: bool = False) -> list[DeployedFault]:
    """Return what is wrong with the files of all deployments; with `mend` put it right first.

    What its repository cannot tell of, because of damage there, is passed over. To mend, hold the
    sysroot's lock.
    """
    found: list[DeployedFault] = []
    for each in state.all:
        with (
            files.doing(f"verifying deployment {each.name}"),
            suppress(FileNotFoundError),
            files.directory(sysroot.ostree_fd, each.path) as root,
        ):
            found += _Verifier(sysroot, each, mend).run(root)
    return found


class _Verifier:
    def __init__(self, sysroot: Sysroot, deployment: Deployment, mend: bool) -> None:
        self._repo = sysroot.repo
        self._boot_fd = sysroot.boot_fd
        self._deployment = deployment
        self._mend = mend

    def run(self, root: int) -> Iterator[DeployedFault]:
        try:
            commit = self._repo.read_commit(self._deployment.checksum)
        except DamagedRepository:
            return
        # The directory itself is immutable, and holds links such as /bin.
        thawed = self._mend and files.set_immutable(root, False)
        try:
            yield from self._directory(commit.tree, root, "")
        finally:
            if thawed:
                files.set_immutable(root, True)
        yield from self._kernel(root)
        if self._mend:
            composefs.protect(self._repo, commit)

    def _directory(self, tree: str, fd: int, path: str) -> Iterator[DeployedFault]:
        try:
            found = self._repo.read_dirtree(tree)
        except DamagedRepository:
            return
        if self._mend:
            self._sweep(fd, found)
        for name, checksum in found.files.items():
            reason = self._file(checksum, fd, name)
            if reason:
                yield self._fault(f"{path}{name}", reason)
                if self._mend:
                    self._replace(checksum, fd, name)
        for name, (below, meta) in found.dirs.items():
            if not path and name == "etc":
                continue
            with ExitStack() as stack:
                try:
                    opened = stack.enter_context(files.directory(fd, name))
                except OSError as error:
                    yield self._fault(f"{path}{name}", f"no directory: {error.strerror}")
                    if self._mend:
                        durable.remove_tree(name, fd)
                        checkout.checkout_tree(self._repo, below, meta, fd, name)
                    continue
                yield from self._directory(below, opened, f"{path}{name}/")

    def _file(self, checksum: str, fd: int, name: str) -> str:
        """Return what is wrong with a file; nothing where the object itself is damaged."""
        path = self._repo.object_path(checksum, ObjectType.FILE)
        try:
            there = os.stat(path, dir_fd=self._repo.fd, follow_symlinks=False)
        except FileNotFoundError:
            return ""
        here = files.lstat(fd, name)
        if here is None:
            return "missing"
        if os.path.samestat(here, there) or _hash(name, fd) == checksum:
            return ""
        return "damaged" if _hash(path, self._repo.fd) == checksum else ""

    @staticmethod
    def _sweep(fd: int, tree: DirTree) -> None:
        """Remove what a run that was cut off has not renamed."""
        for name in os.listdir(fd):
            if name.startswith(_TEMPORARY) and name not in tree.files and name not in tree.dirs:
                durable.remove_tree(name, fd)

    def _replace(self, checksum: str, fd: int, name: str) -> None:
        temporary = f"{_TEMPORARY}{checksum}"
        checkout.checkout_file(self._repo, checksum, fd, temporary)
        here = files.lstat(fd, name)
        if here is not None and stat.S_ISDIR(here.st_mode):
            durable.remove_tree(name, fd)
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        os.fsync(fd)

    def _kernel(self, root: int) -> Iterator[DeployedFault]:
        each = self._deployment
        try:
            found = kernel.find(root, f"deployment {each.name}")
        except BridgeError:
            return  # its files are missing: that was told, or their objects are damaged
        if found.bootcsum != each.bootcsum:
            return
        for name in kernel.damaged(found, root, self._boot_fd, each.stateroot):
            yield self._fault(f"boot/{found.directory(each.stateroot)}/{name}", "damaged")
        if self._mend:
            kernel.install(found, root, self._boot_fd, each.stateroot, check_content=True)

    def _fault(self, path: str, reason: str) -> DeployedFault:
        return DeployedFault(self._deployment.name, path, reason)


def _hash(path: str, dir_fd: int) -> str:
    """Return the checksum that a file or link would have as an object; empty for anything else."""
    try:
        meta, payload = content.open_bare(path, dir_fd)
    except (DamagedRepository, OSError):
        return ""
    digest = hashlib.sha256(objects.content_header(meta))
    if payload is not None:
        with payload:
            while chunk := payload.read(BLOB_BUFFER):
                digest.update(chunk)
    return digest.hexdigest()
