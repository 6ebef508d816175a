"""The programs the tests hold bootc-py against. A missing one is a failure, never a skip."""

from __future__ import annotations

import shutil

import pytest

# Each program and the Debian package that has it.
PACKAGES = {
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "gcc": "gcc",
    "htpasswd": "apache2-utils",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "losetup": "mount",
    "ostree": "ostree",
    "matchpathcon": "selinux-utils",
    "podman": "podman",
    "qemu-system-x86_64": "qemu-system-x86",
    "rpmbuild": "rpm",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "skopeo": "skopeo",
    "strace": "strace",
    "tar": "tar",
    "umoci": "umoci",
    "zstd": "zstd",
}


def require(program: str) -> str:
    """The path of `program`; fails the test, naming the package to install, if it is missing."""
    path = shutil.which(program)
    if path is None:
        package = PACKAGES.get(program, program)
        remedy = f"apt-get install --no-install-recommends {package}"
        pytest.fail(f"{program} is missing: {remedy}", pytrace=False)
    return path
