"""Two images that hold the same packages, cut into layers differently.

    one:  base | pkg1 (50 MB)                | app
    two:  base | pkg1 and pkg2 (100 MB)      | app

Their package layers are 150 MB; the different files in them are 100 MB.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.images import cache
from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS

MB = 1_000_000
FILES_PER_PACKAGE = 50
PACKAGE_BYTES = 50 * MB
MTIME = 1783728000


@dataclass(frozen=True)
class TwoImages:
    """The layouts of both images."""

    one: Layout
    two: Layout


def cached() -> TwoImages:
    """Both images from the cache, made if they are not there."""
    place = cache.entry("images/two-packages-1", make)
    return TwoImages(oci.read(place / "one"), oci.read(place / "two"))


def make(directory: Path) -> None:
    """Writes both images, gzip layers, to `directory`/one and /two: always the same bytes."""
    base = {
        "usr/lib/os-release": b'ID=test\nPRETTY_NAME="Test"\n',
        "usr/lib/modules/6.1.0/vmlinuz": _random_bytes("vmlinuz", MB),
        "usr/lib/modules/6.1.0/initramfs.img": _random_bytes("initramfs", MB),
        "etc/hostname": b"test\n",
    }
    app = {"usr/bin/app": b"#!/bin/sh\necho app\n", "etc/app.conf": b"colour=blue\n"}
    pkg1, pkg2 = dict(_package("pkg1")), dict(_package("pkg2"))
    write_image(directory / "one", "1", [base, pkg1, app])
    write_image(directory / "two", "2", [base, pkg1 | pkg2, app])


def write_image(path: Path, tag: str, layers: Iterable[Mapping[str, bytes]]) -> Layout:
    """Writes a bootable-looking image to the new layout `path`: regular files only, by layer."""
    path.mkdir(parents=True)
    descriptors, diff_ids = [], []
    for files in layers:
        tar = _tar(files)
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        # Level 1: the content cannot be compressed anyway.
        descriptors.append(oci.add_blob(path, gzip.compress(tar, 1, mtime=0), FORMATS["gzip"]))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"containers.bootc": "1", "ostree.bootable": "true"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": oci.add_blob(
            path, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"
        ),
        "layers": descriptors,
    }
    return oci.write(path, tag, manifest)


def _package(name: str) -> Iterator[tuple[str, bytes]]:
    """The files of a package: its path below usr/share, its content, which does not compress."""
    size = PACKAGE_BYTES // FILES_PER_PACKAGE
    for number in range(FILES_PER_PACKAGE):
        path = f"usr/share/{name}/{number:02}.bin"
        yield path, _random_bytes(path, size)


def _random_bytes(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def _tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of `files` with every directory before what is in it."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        seen = set()
        for name, data in sorted(files.items()):
            for parent in reversed(Path(name).parents[:-1]):
                if parent not in seen:
                    seen.add(parent)
                    tar.addfile(_member(str(parent), tarfile.DIRTYPE, 0o755))
            member = _member(name, tarfile.REGTYPE, 0o755 if "/bin/" in name else 0o644)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return output.getvalue()


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, MTIME
    return member
