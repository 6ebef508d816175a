"""Images that differ in a layer, each of which boots: a machine switches among them."""

from __future__ import annotations

import gzip
import hashlib
import random
import tarfile
import zlib
from pathlib import Path
from typing import Any

from support import images

from rig.small import altered
from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS

NAME = "usr/share/variant"
"""The file with a variant's name."""
_FILES, _SIZE = 200, 5_000
_INITRAMFS = "initramfs.img"


def variant(base: Layout, target: Path, name: str, path: str, initramfs: bytes) -> Layout:
    """`base` with a layer that gives it a name, files, and at `path` an initramfs of its own: to
    ostree it has another kernel then, and needs room and entries on /boot.
    """
    layer = images.tar(
        [
            images.file(path, _archive_of(name) + initramfs),
            images.file(NAME, name),
            images.directory(f"{NAME}.d"),
            *(
                images.file(f"{NAME}.d/{n:03}", random.Random(f"{name} {n}").randbytes(_SIZE))
                for n in range(_FILES)
            ),
        ]
    )

    def config(document: dict[str, Any]) -> None:
        document["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        document.pop("history", None)

    def manifest(document: dict[str, Any]) -> None:
        packed = gzip.compress(layer, 1, mtime=0)
        document["layers"].append(oci.add_blob(target, packed, FORMATS["gzip"]))

    return altered(base, target, config=config, manifest=manifest)


def initramfs(image: Layout) -> tuple[str, bytes]:
    """The path and the content of the initramfs of an image whose layers are plain tars."""
    for layer in reversed(image.layers):
        with tarfile.open(image.blob(layer["digest"])) as tar:
            for member in tar:
                if member.isreg() and member.name.endswith(f"/{_INITRAMFS}"):
                    file = tar.extractfile(member)
                    assert file
                    return member.name.removeprefix("./"), file.read()
    raise AssertionError(f"{image.path} has no {_INITRAMFS}")


def _archive_of(name: str) -> bytes:
    """An archive (cpio, newc) without files, as such go before an initramfs; its end has a time."""
    end = b"TRAILER!!!\0"
    time = zlib.crc32(name.encode())
    header = (0, 0, 0, 0, 1, time, 0, 0, 0, 0, 0, len(end), 0)
    return (b"070701" + b"".join(b"%08x" % field for field in header) + end).ljust(512, b"\0")
