"""The kernel of a deployment: find it in the tree, name it by checksum, put it into /boot.

In the tree: `usr/lib/modules/KV/vmlinuz`, with `initramfs.img` (or `initramfs`), `devicetree` and
`.vmlinuz.hmac` beside it. In /boot: `ostree/STATEROOT-BOOTCSUM/`. The bootcsum is sha256 over
vmlinuz, initramfs and devicetree, one after the other (libostree: get_kernel_from_tree). A
directory of device trees, Android boot images and the layouts from before 2016 are not handled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass

from bridge import limits
from bridge.errors import MalformedImage, NoSpace
from bridge.ostree import durable
from bridge.sysroot import bls, files

_MODULES = "usr/lib/modules"


@dataclass(frozen=True, slots=True)
class BootFile:
    """One file for /boot: its name in the modules directory and the one it gets."""

    source: str
    name: str
    size: int
    key: str
    """The key that names it in a boot entry; empty for none."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in a tree."""

    version: str
    files: tuple[BootFile, ...]
    bootcsum: str

    def directory(self, stateroot: str) -> str:
        """Return its directory below /boot."""
        return f"ostree/{stateroot}-{self.bootcsum}"


def find(tree_fd: int, what: str, bootcsum: str | None = None) -> Kernel:
    """Find the kernel of the checked-out tree `tree_fd`; `MalformedImage` when it has none.

    Of several the one with the highest version: libostree takes the one it happens to see first.
    `what` names the tree in messages. The checksum is computed unless it is known (`bootcsum`).
    """
    try:
        with files.directory(tree_fd, _MODULES) as modules:
            versions = [name for name in os.listdir(modules) if _is_kernel(modules, name)]
            if versions:
                newest = max(versions, key=bls.version_key)
                with files.directory(modules, newest) as fd:
                    return _read(fd, newest, bootcsum)
    except (FileNotFoundError, NotADirectoryError):
        pass
    raise MalformedImage(
        f"{what} has no kernel (no /{_MODULES}/*/vmlinuz); it is not an image to boot from"
    )


def install(
    kernel: Kernel, tree_fd: int, boot_fd: int, stateroot: str, *, check_content: bool
) -> None:
    """Put the kernel's files into /boot, unless they are there.

    What is there has to have the right size, and with `check_content` the right content.

    Hard links where tree and /boot share a file system, else copies that are on disk before they
    get their names. Raises `NoSpace` before anything is written when they would not fit.
    """
    target = kernel.directory(stateroot)
    with files.directory(tree_fd, f"{_MODULES}/{kernel.version}") as source:
        missing = _missing(kernel, source, boot_fd, target, check_content)
        _require(kernel, _shortage(source, boot_fd, missing))
        if missing:
            with files.directory(boot_fd, target, create=0o755) as directory:
                for each in missing:
                    _place(source, directory, each)
                os.fsync(directory)


def require_room(kernel: Kernel, tree_fd: int, boot_fd: int, stateroot: str) -> None:
    """Raise `NoSpace` where the kernel's files do not fit into /boot."""
    _require(kernel, shortage(kernel, tree_fd, boot_fd, stateroot))


def _require(kernel: Kernel, short: int) -> None:
    if short > 0:
        raise NoSpace(
            f"/boot has no room for kernel {kernel.version}: "
            f"{-(-short // limits.MIB)} MiB more are needed; remove a pinned deployment, or "
            "make /boot larger"
        )


def shortage(kernel: Kernel, tree_fd: int, boot_fd: int, stateroot: str) -> int:
    """Return how many bytes /boot is too small for the kernel's files; 0 or less when they fit."""
    with files.directory(tree_fd, f"{_MODULES}/{kernel.version}") as source:
        missing = _missing(kernel, source, boot_fd, kernel.directory(stateroot), False)
        return _shortage(source, boot_fd, missing)


def damaged(kernel: Kernel, tree_fd: int, boot_fd: int, stateroot: str) -> list[str]:
    """Return the names of the kernel's files that are not in /boot as they are in the tree."""
    with files.directory(tree_fd, f"{_MODULES}/{kernel.version}") as source:
        found = _missing(kernel, source, boot_fd, kernel.directory(stateroot), True)
    return [each.name for each in found]


def size_in_boot(boot_fd: int, directory: str) -> int:
    """Return the bytes that a kernel's directory in /boot occupies; 0 when it is not there."""
    try:
        with files.directory(boot_fd, directory) as fd, os.scandir(fd) as entries:
            return sum(each.stat(follow_symlinks=False).st_blocks * 512 for each in entries)
    except FileNotFoundError:
        return 0


def _missing(
    kernel: Kernel, source: int, boot_fd: int, target: str, check_content: bool
) -> list[BootFile]:
    return [
        each for each in kernel.files if not _is_there(source, boot_fd, target, each, check_content)
    ]


def _shortage(source: int, boot_fd: int, missing: list[BootFile]) -> int:
    if not missing or os.fstat(source).st_dev == os.fstat(boot_fd).st_dev:
        return 0
    where = os.fstatvfs(boot_fd)
    block = where.f_frsize
    needed = sum(-(-each.size // block) * block for each in missing)
    return needed + limits.BOOT_MARGIN - where.f_bavail * block


def _is_kernel(modules: int, version: str) -> bool:
    found = files.lstat(modules, f"{version}/vmlinuz")
    directory = files.lstat(modules, version)
    return (
        found is not None
        and directory is not None
        and stat.S_ISDIR(directory.st_mode)
        and stat.S_ISREG(found.st_mode)
    )


def _read(fd: int, version: str, bootcsum: str | None) -> Kernel:
    wanted = (
        (("vmlinuz",), f"vmlinuz-{version}", "linux"),
        (("initramfs.img", "initramfs"), f"initramfs-{version}.img", "initrd"),
        (("devicetree",), f"devicetree-{version}", "devicetree"),
        ((".vmlinuz.hmac",), f".vmlinuz-{version}.hmac", ""),
    )
    found: list[BootFile] = []
    checksum = hashlib.sha256()
    for sources, name, key in wanted:
        for source in sources:
            present = files.lstat(fd, source)
            if present is not None and stat.S_ISREG(present.st_mode):
                found.append(BootFile(source, name, present.st_size, key))
                if key and bootcsum is None:
                    _hash_into(checksum, fd, source)
                break
    return Kernel(version, tuple(found), bootcsum or checksum.hexdigest())


def _hash_into(checksum: hashlib._Hash, fd: int, name: str) -> None:
    with open(os.open(name, files.READ_FLAGS, dir_fd=fd), "rb", buffering=0) as stream:
        while chunk := stream.read(files.COPY_BUFFER):
            checksum.update(chunk)


def _digest(fd: int, name: str) -> bytes:
    checksum = hashlib.sha256()
    _hash_into(checksum, fd, name)
    return checksum.digest()


def _is_there(
    source: int, boot_fd: int, target: str, wanted: BootFile, check_content: bool
) -> bool:
    there = files.lstat(boot_fd, f"{target}/{wanted.name}")
    if there is None:
        return False
    here = os.stat(wanted.source, dir_fd=source, follow_symlinks=False)
    if os.path.samestat(here, there):
        return True
    if not stat.S_ISREG(there.st_mode) or there.st_size != here.st_size:
        return False
    if not check_content:
        return True
    with files.directory(boot_fd, target) as directory:
        return _digest(source, wanted.source) == _digest(directory, wanted.name)


def _place(source: int, directory: int, wanted: BootFile) -> None:
    temporary = f".{wanted.name}.tmp"
    durable.remove_tree(temporary, directory)
    try:
        os.link(
            wanted.source,
            temporary,
            src_dir_fd=source,
            dst_dir_fd=directory,
            follow_symlinks=False,
        )
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
            raise
        _copy(source, wanted.source, directory, temporary)
    os.rename(temporary, wanted.name, src_dir_fd=directory, dst_dir_fd=directory)


def _copy(source: int, name: str, directory: int, target: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with (
        open(os.open(name, files.READ_FLAGS, dir_fd=source), "rb", buffering=0) as reader,
        open(os.open(target, flags, 0o600, dir_fd=directory), "wb", buffering=0) as writer,
    ):
        what = os.fstat(reader.fileno())
        files.copy_bytes(reader.fileno(), writer.fileno())
        # /boot may be a FAT file system, which knows no owners.
        with contextlib.suppress(PermissionError):
            os.fchown(writer.fileno(), what.st_uid, what.st_gid)
        os.fchmod(writer.fileno(), stat.S_IMODE(what.st_mode))
        os.fdatasync(writer.fileno())
