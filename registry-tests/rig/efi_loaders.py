"""Boot loaders for EFI of Debian forky, in a root directory of their own: GRUB 2.14 with blscfg,
systemd-boot. Debian 12's GRUB as it is signed, which has no blscfg, is in another."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from rig.peers import require
from tools.images import cache

_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = {
    "forky": ("essential", "grub-efi-amd64-bin,grub-common,systemd-boot-efi"),
    # Only to be copied from: nothing in it has to run.
    "bookworm": ("extract", "grub-efi-amd64-signed,shim-signed"),
}


def root(suite: str) -> Path:
    """The root directory with the loaders of a Debian suite."""
    variant, packages = _PACKAGES[suite]
    recipe = (
        "mmdebstrap", "--quiet", "--mode=root", f"--variant={variant}",
        # A mirror that is frozen at a date is good enough.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--include={packages}",
    )  # fmt: skip
    key = hashlib.sha256("\0".join([*recipe, suite, _MIRROR]).encode()).hexdigest()[:12]

    def make(directory: Path) -> None:
        subprocess.run([require("mmdebstrap"), *recipe[1:], suite, directory, _MIRROR], check=True)

    return cache.entry(f"loaders/{suite}-{key}", make)
