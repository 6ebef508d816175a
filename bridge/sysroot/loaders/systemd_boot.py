"""systemd-boot: entries and kernels copied to the EFI system partition, the only one it reads.

Below the partition's root, `loader/entries/ostree-N.conf` and `ostree/STATEROOT-BOOTCSUM/` as
they are in `/boot`. Every step leaves an entry whose files are all there: kernels come before the
entries that name them, and go after them. A FAT has no journal, so each step is synced.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, NoSpace, NotFound
from bridge.ostree import durable
from bridge.sysroot import bls, files

MOUNT = "efi"
"""Of `/boot`: where the partition is mounted."""
_ENTRIES = "loader/entries"
_KERNELS = "ostree"


def copy(boot_fd: int, entries: Sequence[bls.Entry]) -> None:
    """Make `entries`, in boot order, what the partition at `/boot/efi` has.

    Raises `NotFound` when it is not mounted, `NoSpace` before an old entry is touched when the
    new kernels do not fit.
    """
    with files.doing("copying boot entries to the EFI system partition"), _opened(boot_fd) as esp:
        directories = [_copy_kernel(boot_fd, esp, entry) for entry in entries]
        durable.syncfs(esp)
        with files.directory(esp, _ENTRIES, create=0o755) as fd:
            # Ascending by version: what boots next changes last.
            for place in reversed(range(len(entries))):
                name = bls.file_name(len(entries) - place)
                durable.replace_file(name, bls.render(_rooted(entries[place])).encode(), fd)
            durable.syncfs(fd)
            wanted = {bls.file_name(number + 1) for number in range(len(entries))}
            for name in sorted(set(filter(bls.is_entry_name, os.listdir(fd))) - wanted):
                os.unlink(name, dir_fd=fd)
            durable.syncfs(fd)
        with files.directory(esp, _KERNELS, create=0o755) as fd:
            for name in sorted(set(os.listdir(fd)) - set(directories)):
                durable.remove_tree(name, fd)
        durable.syncfs(esp)


@contextlib.contextmanager
def _opened(boot_fd: int) -> Iterator[int]:
    try:
        with files.directory(boot_fd, MOUNT) as esp:
            # Where nothing is mounted, this would fill /boot and change nothing at all.
            if files.lstat(esp, "EFI") is None and files.lstat(esp, "efi") is None:
                raise FileNotFoundError
            yield esp
    except FileNotFoundError:
        raise NotFound(
            "the EFI system partition is not mounted at /boot/efi; mount it and try again"
        ) from None


def _copy_kernel(boot_fd: int, esp: int, entry: bls.Entry) -> str:
    """Copy what an entry names, unless it is there; return the directory that it is in."""
    directory = ""
    for key in ("linux", "initrd", "devicetree"):
        for path in entry.get_all(key):
            parent, _, name = _below_boot(path).rpartition("/")
            if not parent.startswith(f"{_KERNELS}/") or parent.count("/") != 1:
                raise BridgeError(f"the boot entry names {path!r:.200}, which is not OSTree's")
            with (
                files.directory(boot_fd, parent) as source,
                files.directory(esp, parent, create=0o755) as target,
            ):
                _copy_file(source, target, name)
            directory = parent.partition("/")[2]
    if not directory:
        raise MalformedImage("a boot entry names no kernel")
    return directory


def _copy_file(source: int, target: int, name: str) -> None:
    fd = os.open(name, files.READ_FLAGS, dir_fd=source)
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        there = files.lstat(target, name)
        if there is not None and there.st_size == size:
            return  # named by its content's digest, and whole: it got its name when it was
        free = os.fstatvfs(target)
        if size + limits.MIB > free.f_bavail * free.f_frsize:
            raise NoSpace(
                f"the EFI system partition has no room for {name} of {size} bytes; remove a pinned "
                "deployment, or make it larger"
            )
        durable.replace_file(name, iter(lambda: file.read(files.COPY_BUFFER), b""), target)


def _rooted(entry: bls.Entry) -> bls.Entry:
    """Return the entry with paths from the partition's root."""
    for key in ("linux", "initrd", "devicetree"):
        if values := entry.get_all(key):
            entry = entry.replace(key, *(f"/{_below_boot(value)}" for value in values))
    return entry


def _below_boot(path: str) -> str:
    return path.lstrip("/").removeprefix("boot/")
