"""systemd-boot: entries and kernels copied to the EFI system partition, the only one it reads.

Below the partition's root, `loader/entries/ostree-N.conf` and `ostree/STATEROOT-BOOTCSUM/` as
they are in `/boot`. Every step leaves an entry whose files are all there: kernels come before the
entries that name them, and go after them. A FAT has no journal, so each step is synced.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

from bridge import limits
from bridge.errors import BridgeError, NoSpace, NotFound
from bridge.ostree import durable
from bridge.sysroot import bls, files

MOUNT = "efi"
"""Of `/boot`: where the partition is mounted."""
_ENTRIES = "loader/entries"
_KERNELS = "ostree"
_PATHS = ("linux", "initrd", "devicetree")
"""Keys whose values are paths."""


def copy_kernels(boot_fd: int, entries: Sequence[bls.Entry]) -> None:
    """Copy what `entries` name to the partition at `/boot/efi`, beside what its own entries name.

    Raises `NotFound` when it is not mounted, `NoSpace` when they do not fit.
    """
    with _doing(), _opened(boot_fd) as esp:
        # What an earlier run that was cut off has copied takes room, and boots nothing.
        _remove_kernels(esp, [*entries, *_present(esp).values()])
        for entry in entries:
            for parent, name in _named(entry):
                if not parent.startswith(f"{_KERNELS}/") or parent.count("/") != 1:
                    raise BridgeError(f"a boot entry names {parent}/{name}, which is not OSTree's")
                with (
                    files.directory(boot_fd, parent) as source,
                    files.directory(esp, parent, create=0o755) as target,
                ):
                    _copy_file(source, target, name)
        durable.syncfs(esp)


def copy(boot_fd: int, entries: Sequence[bls.Entry]) -> None:
    """Make `entries`, in boot order, what the partition at `/boot/efi` has, kernels included.

    Raises as `copy_kernels` does, before an entry is touched.
    """
    copy_kernels(boot_fd, entries)
    with _doing(), _opened(boot_fd) as esp:
        present = _present(esp)
        with files.directory(esp, _ENTRIES, create=0o755) as fd:
            wanted = set()
            # Ascending by version: what boots next changes last.
            for version, entry in enumerate(reversed(entries), 1):
                name, text = bls.file_name(version), bls.render(_rooted(entry))
                wanted.add(name)
                if present.get(name) != bls.parse(text):
                    durable.replace_file(name, text.encode(), fd)
            durable.syncfs(fd)
            for name in sorted(present.keys() - wanted):
                os.unlink(name, dir_fd=fd)
            durable.syncfs(fd)
        _remove_kernels(esp, entries)
        durable.syncfs(esp)


def _doing() -> contextlib.AbstractContextManager[None]:
    return files.doing("copying boot entries to the EFI system partition")


@contextlib.contextmanager
def _opened(boot_fd: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        try:
            esp = stack.enter_context(files.directory(boot_fd, MOUNT))
        except FileNotFoundError:
            esp = None
        # Where nothing is mounted, this would fill /boot and change nothing at all.
        if esp is None or not {"EFI", "efi"} & set(os.listdir(esp)):
            raise NotFound(
                "the EFI system partition is not mounted at /boot/efi; mount it and try again"
            )
        yield esp


def _present(esp: int) -> dict[str, bls.Entry]:
    """Return the partition's own boot entries by their file names."""
    found = {}
    for name in filter(bls.is_entry_name, files.names(esp, _ENTRIES)):
        with files.directory(esp, _ENTRIES) as fd:
            data = files.read_bytes(fd, name, limits.BLS_ENTRY_MAX)
        found[name] = bls.parse(data.decode("utf-8", "replace"))
    return found


def _named(entry: bls.Entry) -> list[tuple[str, str]]:
    """Return the files that an entry names, each with its directory below `/boot`."""
    found = []
    for path in (path for key in _PATHS for path in entry.get_all(key)):
        parent, _, name = _below_boot(path).rpartition("/")
        found.append((parent, name))
    return found


def _remove_kernels(esp: int, entries: Iterable[bls.Entry]) -> None:
    """Remove the directories of kernels that none of `entries` needs."""
    needed = {parent for entry in entries for parent, _ in _named(entry)}
    with files.directory(esp, _KERNELS, create=0o755) as fd:
        for name in sorted(os.listdir(fd)):
            if f"{_KERNELS}/{name}" not in needed:
                durable.remove_tree(name, fd)


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
    for key in _PATHS:
        if values := entry.get_all(key):
            entry = entry.replace(key, *(f"/{_below_boot(value)}" for value in values))
    return entry


def _below_boot(path: str) -> str:
    return path.lstrip("/").removeprefix("boot/")
