"""What is built: the images, their versions, the forms of their layers, and cache keys."""

from __future__ import annotations

import functools
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.images import wheels

CONTAINERFILES = Path(__file__).resolve().parents[2] / "containerfiles"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org"
# Newer time stamps in the base are set back to this one (11 July 2026, Debian 12.15).
SOURCE_DATE_EPOCH = 1783728000
# Part of every key: raise it when the way of building changes what comes out.
RECIPE = 1

# The forms an image's layers come in. One image has the same config, so the same
# DiffIDs, in each of them.
FORMATS = {
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    "plain": "application/vnd.oci.image.layer.v1.tar",
}


@dataclass(frozen=True)
class Version:
    """A state of the distribution: its tag, its label in the image, its apt sources."""

    tag: str
    label: str
    sources: tuple[str, ...]
    suite: str = SUITE


@dataclass(frozen=True)
class Image:
    """An image: the name of its containerfiles directory and the image it is built from."""

    name: str
    parent: str | None = None
    has_wheels: bool = False
    """Whether bootc-py is installed in it: it changes with the code."""

    @property
    def repository(self) -> str:
        return f"os/{self.name}"

    @property
    def directory(self) -> Path:
        return CONTAINERFILES / self.name


_RELEASE = f"deb {MIRROR}/debian {SUITE} main"
_UPDATES = (
    f"deb {MIRROR}/debian-security {SUITE}-security main",
    f"deb {MIRROR}/debian {SUITE}-updates main",
)
VERSIONS = {
    "v1": Version("v1", "1.0", (_RELEASE,)),
    "v2": Version("v2", "2.0", (_RELEASE, *_UPDATES)),
}
ALL_VERSIONS = {
    **VERSIONS,
    "forky": Version("forky", "14", (f"deb {MIRROR}/debian forky main",), "forky"),
}
IMAGES = {"base": Image("base"), "server": Image("server", parent="base")}
"""Those that depend on Debian alone, and are measured."""
EXAMPLES = {**IMAGES, "desktop": Image("desktop", parent="base")}
"""Those that users may start from. The desktop is big: it is built for who names it, and by
tests where `BOOTC_PY_DESKTOP` is set."""
ALL = {
    **EXAMPLES,
    "host": Image("host", parent="base", has_wheels=True),
    "selinux": Image("selinux", parent="base"),
    "composefs": Image("composefs", parent="base"),
}


@functools.cache
def key(image: Image, version: Version) -> str:
    """The cache key of an image: a hash of every input but the packages themselves."""
    parts = [f"recipe {RECIPE}", version.label, *version.sources]
    parts += _describe(image.directory)
    if image.parent:
        parts.append(key(IMAGES[image.parent], version))
    if image.has_wheels:
        parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.sources()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _describe(directory: Path) -> Iterator[str]:
    """One line per file below `directory`: its path, whether it is executable, its hash."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield f"{path.relative_to(directory)} {executable:d} {digest}"
