"""The composefs image of a deployment, which ostree-prepare-root mounts as its root file system.

Made where the deployed tree asks for it, as libostree does: `.ostree.cfs` in the deployment's
directory, and beside the deployments a directory for what the running system adds to it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from bridge.errors import BridgeError, DamagedRepository, MalformedImage
from bridge.ostree import composefs, durable, fsverity, prepare_root
from bridge.ostree.composefs import IMAGE
from bridge.ostree.objects import Commit, ObjectType
from bridge.ostree.prepare_root import Composefs
from bridge.ostree.repository import Repository
from bridge.ostree.tree import Tree
from bridge.sysroot import cached_update, files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import Sysroot

_SIGNATURES = "ostree.sign.ed25519"
"""In a commit's detached metadata (type `aay`), where other things may be as well."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def add(sysroot: Sysroot, new: Deployment, tree: int) -> None:
    """Give a deployment, whose directory is `tree`, the composefs image that it asks for, if any.

    Raises `MalformedImage` where it asks for what would not boot: a signature that its commit does
    not have, a tree that cannot be in such an image; `BridgeError` where files have to be verified
    and the file system cannot.
    """
    what = f"image {new.checksum}"
    commit = sysroot.repo.read_commit(new.checksum)
    top = Tree.stored(sysroot.repo, commit.tree, commit.meta)
    try:
        asked = prepare_root.read(sysroot.repo, top)
        if asked is Composefs.NO:
            return
        if asked is Composefs.SIGNED and not _is_signed(sysroot.repo, new.checksum):
            raise MalformedImage(
                "it boots with a signature only (prepare-root.conf has enabled=signed), and its "
                "commit has none; `image pull` it, sign the commit with `ostree sign`, deploy then"
            )
        if asked.is_verified:
            _verify_objects(sysroot.repo, top)
        measured = _write(composefs.image(sysroot.repo, top, composefs.as_stored), tree)
    except MalformedImage as error:
        raise MalformedImage(f"{what}: {error}") from error
    if asked.is_verified:
        expected = commit.metadata.get(composefs.DIGEST_KEY)
        if expected not in (None, measured):
            raise DamagedRepository(
                f"{what}: its composefs image has digest {measured.hex()}, the commit has "
                f"{bytes(expected).hex()}"
            )
        _verify(IMAGE, tree)
    _make_backing(sysroot, new, tree)


def protect(repo: Repository, commit: Commit) -> None:
    """Have the kernel verify the files of a deployed commit again that were replaced, if it asks
    for that."""
    tree = Tree.stored(repo, commit.tree, commit.meta)
    # What cannot be read or verified did not boot so before: it is no reason to end a repair.
    with suppress(BridgeError):
        if prepare_root.read(repo, tree).is_verified:
            _verify_objects(repo, tree)


def _write(pieces: Iterator[bytes], tree: int) -> bytes:
    """Write the image; return its fs-verity digest."""
    measure = fsverity.Measure()
    with open(os.open(IMAGE, _CREATE, 0o644, dir_fd=tree), "wb") as file:
        for piece in pieces:
            measure.update(piece)
            file.write(piece)
        os.fchmod(file.fileno(), 0o644)
    return measure.digest()


def _verify_objects(repo: Repository, tree: Tree) -> None:
    done = set()
    for _path, each in tree.walk():
        for checksum in each.files.values():
            if checksum not in done:
                done.add(checksum)
                _verify(repo.object_path(checksum, ObjectType.FILE), repo.fd)


def _verify(path: str, dir_fd: int) -> None:
    """Have the kernel verify a file whenever it is read; a link has nothing to be verified."""
    status = files.lstat(dir_fd, path)
    if status is None or not stat.S_ISREG(status.st_mode):
        return
    fd = os.open(path, files.READ_FLAGS, dir_fd=dir_fd)
    try:
        if not fsverity.enable(fd):
            raise BridgeError(
                "the image boots only from a file system with fs-verity (prepare-root.conf has "
                "enabled=verity or signed), and this one has none; ext4 gets it with "
                "`tune2fs -O verity`, if the kernel has it"
            )
    finally:
        os.close(fd)


def _is_signed(repo: Repository, commit: str) -> bool:
    """Tell whether a commit has signatures: ostree-prepare-root verifies them, not we."""
    return bool(cached_update.detached(repo, commit).get(_SIGNATURES))


def _make_backing(sysroot: Sysroot, new: Deployment, tree: int) -> None:
    """Make the directories of the overlay with which the root file system can be made writable."""
    with files.directory(
        sysroot.ostree_fd, f"deploy/{new.stateroot}/backing", create=0o700
    ) as backing:
        durable.remove_tree(new.name, backing)
        files.make_directories(backing, f"{new.name}/root-transient", 0o700)
    path = f"deploy/{new.stateroot}/backing/{new.name}/root-transient"
    with files.directory(sysroot.ostree_fd, path) as fd:
        os.mkdir("work", 0o700, dir_fd=fd)
        os.mkdir("upper", 0o700, dir_fd=fd)
        with files.directory(fd, "upper") as upper:
            os.fchmod(upper, os.fstat(tree).st_mode & 0o7777)
