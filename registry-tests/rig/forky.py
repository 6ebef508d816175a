"""Current podman, skopeo, buildah and ostree: from Debian forky, in a root directory of their own.

They write and read zstd:chunked layers and composefs images as it is done today; those of Debian 12
do not. Each
command has mounts and process ids of its own, which are gone when it ends; the root directory
itself is read-only to it. Needs root.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rig.disk import ext4
from rig.peers import require
from tools.images import build, cache

SUITE = "forky"
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = ("podman", "skopeo", "buildah", "crun", "ca-certificates", "netavark")
OSTREE = ("composefs", "ostree")
"""Packages of a root directory with the current libostree instead."""


def _recipe(packages: tuple[str, ...]) -> tuple[str, ...]:
    return (
        "mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--skip=output/dev",
        # A mirror that is frozen at a date is good enough.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--include={','.join(packages)}",
    )  # fmt: skip


def _key(packages: tuple[str, ...]) -> str:
    parts = [*_recipe(packages), SUITE, _MIRROR]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


KEY = _key(_PACKAGES)
"""Of the root directory in the cache: a hash of how it is made."""

# What a command sees of its storage: short, for podman wants a run root of less than 50 characters.
_INSIDE = "/mnt"
_MOUNTS = f"""
set -e
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$work" "$root{_INSIDE}"
while [ "$1" != -- ]; do
    mkdir -p "$root/run/host/$1"
    mount --bind "$2" "$root/run/host/$1"
    shift 2
done
shift
exec chroot "$root" "$@"
"""
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
_STORAGE_CONF = f"""
[storage]
driver = "overlay"
graphroot = "{_INSIDE}/g"
runroot = "{_INSIDE}/r"
[storage.options]
pull_options = {{enable_partial_images = "true", use_hard_links = "false", ostree_repos = ""}}
"""


@dataclass(frozen=True)
class Output:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Forky:
    """The programs, with a container storage of their own in the directory `work`.

    `binds` are directories of this machine: NAME is at /run/host/NAME for the programs.
    """

    root: Path
    work: Path
    binds: Mapping[str, Path] = field(default_factory=dict)

    def bound(self, **binds: Path) -> Forky:
        """The same, with these directories at /run/host/NAME."""
        return replace(self, binds=binds)

    def run(self, *command: str) -> Output:
        """Runs a command to its end."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True)
        return Output(done.returncode, done.stdout, done.stderr)

    def command(self, *command: str) -> list[str]:
        """The command line on this machine for `command` in there."""
        binds = [word for name, path in self.binds.items() for word in (name, str(path))]
        return [
            *_NAMESPACES, "sh", "-c", _MOUNTS, "sh", str(self.root), str(self.work), *binds, "--",
            "env", f"CONTAINERS_STORAGE_CONF={_INSIDE}/storage.conf", f"TMPDIR={_INSIDE}/t",
            "HOME=/run", *command,
        ]  # fmt: skip

    def checked(self, *command: str) -> str:
        """The output of a command that must succeed."""
        done = self.run(*command)
        assert done.code == 0, f"{command}: {done.err}"
        return done.out

    def pull(self, name: str, *options: str) -> Output:
        """`podman pull` of HOST:PORT/REPOSITORY:TAG, in parts where podman can."""
        return self.run("podman", *options, "pull", "--tls-verify=false", name)


def root(packages: tuple[str, ...] = _PACKAGES) -> Path:
    """The root directory with the programs, from the cache; made if it is not there."""

    def make(directory: Path) -> None:
        require("mmdebstrap")
        build.run(*_recipe(packages), SUITE, str(directory / "root"), _MIRROR)
        for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(directory / "root" / unneeded, ignore_errors=True)

    return cache.entry(f"{SUITE}/{_key(packages)}", make) / "root"


@contextmanager
def run_forky(work: Path, mebibytes: int = 16_384) -> Iterator[Forky]:
    """The programs with an empty container storage, on an ext4 of its own at the new directory
    `work` (sparse: what is not used takes no space).
    """
    with ext4(work, mebibytes, inodes=1_000_000) as mount:
        for name in ("g", "r", "t"):
            (mount / name).mkdir()
        (mount / "storage.conf").write_text(_STORAGE_CONF)
        yield Forky(root(), mount)
