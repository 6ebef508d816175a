"""The boot counter that GRUB keeps, where its menu has one: it counts what never gets to userspace.

Fedora's menu, and greenboot's: while `boot_counter` is set and `boot_success` is 0, each boot takes
one from the counter. At 0 it becomes -1, and the second entry is booted: that of the rollback.
"""

from __future__ import annotations

import contextlib
import stat

from bridge import limits
from bridge.errors import BridgeError
from bridge.ostree import durable
from bridge.sysroot import files, grubenv
from bridge.sysroot.sysroot import Sysroot

_DIRECTORIES = ("grub2", "grub")
_NAME = "grubenv"


def set_counter(sysroot: Sysroot, attempts: int | None) -> None:
    """Let GRUB try the first entry for so many boots; `None`: it is good, there is no counting.

    Does nothing where GRUB has no environment block, or one that cannot be read or is behind a
    link. Raises `BridgeError` where it is full, or cannot be written.
    """
    counter = None if attempts is None else b"%d" % attempts
    success = b"1" if attempts is None else b"0"
    values = {b"boot_counter": counter, b"boot_success": success}
    for directory, mode, block in _blocks(sysroot):
        new = grubenv.changed(block, values)
        if grubenv.parse(new) != grubenv.parse(block):
            with (
                files.doing("setting GRUB's boot counter"),
                files.directory(sysroot.boot_fd, directory) as fd,
            ):
                durable.replace_file(_NAME, new, fd, mode)


def has_fallen_back(sysroot: Sysroot) -> bool:
    """Tell whether GRUB has used up the counter, and boots the second entry."""
    return any(
        found.get(b"boot_counter") in (b"0", b"-1") and found.get(b"boot_success") != b"1"
        for found in (grubenv.parse(block) for _, _, block in _blocks(sysroot))
    )


def _blocks(sysroot: Sysroot) -> list[tuple[str, int, bytes]]:
    found = []
    with files.doing("reading GRUB's boot counter"):
        for directory in _DIRECTORIES:
            path = f"{directory}/{_NAME}"
            status = files.lstat(sysroot.boot_fd, path)
            if status is not None and stat.S_ISREG(status.st_mode):
                block = files.read_bytes(sysroot.boot_fd, path, limits.GRUB_ENVIRONMENT_MAX)
                with contextlib.suppress(BridgeError):
                    grubenv.parse(block)
                    found.append((directory, stat.S_IMODE(status.st_mode), block))
    return found
