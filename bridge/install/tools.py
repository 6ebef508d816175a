"""Programs that others keep well: partitioning, making file systems, filling a FAT."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from bridge.errors import BridgeError

_PACKAGES = {
    "sfdisk": "fdisk (util-linux)",
    "losetup": "mount (util-linux)",
    "wipefs": "util-linux",
    "findmnt": "util-linux",
    "mount": "mount (util-linux)",
    "umount": "mount (util-linux)",
    "blkid": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "grub-mkstandalone": "grub-common and grub-efi-amd64-bin",
    "unshare": "util-linux",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def need(*names: str) -> None:
    """Raise `BridgeError` for the first program that is not there, with the package to install."""
    for name in names:
        if shutil.which(name, path=_PATH) is None:
            package = _PACKAGES.get(name, name)
            raise BridgeError(f"the program {name} is needed; install {package}")


def run(*words: str, stdin: str | None = None) -> str:
    """Run a program to its end and return what it printed; `BridgeError` with its last line."""
    need(words[0])
    done = subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        text=True,
        env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    if done.returncode:
        said: Sequence[str] = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BridgeError(f"{words[0]} failed: {said[-1] if said else done.returncode}")
    return done.stdout
