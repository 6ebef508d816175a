"""Small images made in a moment: good ones, and ones that are wrong in one thing."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support import images
from support.images import Image, Member

from rig.twopkg import write_image
from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS

STABLE = 30
"""Files of the image that changes, which are the same in both versions."""
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def small(path: Path, tag: str = "v1", version: str = "1") -> Layout:
    """A bootable-looking image in the new layout `path`; versions share their first layer."""
    stable = {
        "usr/lib/modules/6.1.0/vmlinuz": _noise("vmlinuz", 600_000),
        "usr/lib/modules/6.1.0/initramfs.img": _noise("initramfs", 600_000),
        "etc/hosts": b"127.0.0.1 localhost\n",
    }
    moving = {
        "usr/lib/os-release": f'ID=test\nVERSION_ID={version}\nPRETTY_NAME="Test"\n'.encode(),
        "usr/share/data": _noise(f"data {version}", 2_500_000),
        "etc/release": f"{version}\n".encode(),
    }
    return write_image(path, tag, [stable, moving, {"usr/bin/app": b"#!/bin/sh\n"}])


def changing(version: int) -> list[Member]:
    """A layer for upgrades: in version 2 files are new, gone, longer, and changed in places."""
    tool = _noise("tool", 1_500_000)
    disk = _noise("disk", 300_000) + bytes(1_000_000) + _noise("disk's end", 300_000)
    members = [
        images.directory("usr"),
        images.directory("usr/share"),
        *(
            images.file(f"usr/share/{number:02}", _noise(f"file {number}", 20_000 + number))
            for number in range(STABLE)
        ),
        images.file("usr/empty"),
        # As buildah writes whiteouts: with the target of a link that came before.
        images.file("usr/stale", target="share/00"),
        images.symlink("usr/link", "share/00"),
        images.hardlink("usr/hard", "usr/share/01"),
        images.file("usr/marked", _noise("marked", 9_000), xattrs={"user.test": "x"}),
    ]
    if version == 2:
        tool = tool[:700_000] + b"inserted" + tool[700_000:]
        disk = disk[:-10] + b"0123456789"
        members += [
            images.file("usr/new", _noise("new", 100_000)),
            images.file("usr/moved", _noise("file 2", 20_002), mode=0o755, uid=7),
        ]
    else:
        members.append(images.file("usr/old", _noise("old", 50_000)))
    return [
        *members,
        images.file("usr/tool", tool, mode=0o755),
        images.file("usr/disk", disk),
        images.file("usr/last", f"{version}\n"),
    ]


def of_layers(path: Path, *layers: Sequence[Member] | bytes) -> Layout:
    """An image in a new layout at `path`: entries, or bytes that are a tar stream, by layer."""
    made: Image = images.image(*layers, compression="none")
    return oci.read(images.write_layout(path, {"v1": made}))


def medium(path: Path, tag: str = "v1", version: str = "1") -> Layout:
    """An image of two layers, the larger of which has less than 1 MiB: enough to be cut in parts,
    and too little for a try to be forgotten."""
    return write_image(
        path,
        tag,
        [
            {"usr/lib/modules/6.1.0/vmlinuz": _noise("vmlinuz", 10_000)},
            {"usr/share/data": _noise(f"data {version}", 700_000)},
        ],
    )


def altered(
    source: Layout,
    target: Path,
    *,
    config: Callable[[dict[str, Any]], None] = lambda config: None,
    manifest: Callable[[dict[str, Any]], None] = lambda manifest: None,
) -> Layout:
    """`source` at `target`, after the functions had their way with its documents."""
    shutil.copytree(source.path, target, copy_function=os.link)
    (target / "index.json").unlink()
    document = source.config
    config(document)
    changed: dict[str, Any] = json.loads(json.dumps(source.manifest))
    if document != source.config:
        changed["config"] = oci.add_blob(target, json.dumps(document).encode(), CONFIG)
    manifest(changed)
    (target / "oci-layout").unlink()
    return oci.write(target, source.tag, changed)


def plain(source: Layout, target: Path) -> Layout:
    """The image, whose layers are gzip, with the same layers uncompressed."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"] = [
            oci.add_blob(
                target,
                gzip.decompress(source.blob(layer["digest"]).read_bytes()),
                FORMATS["plain"],
            )
            for layer in source.layers
        ]

    return altered(source, target, manifest=change)


def wrong_diff_id(source: Layout, target: Path) -> Layout:
    """An image whose config has one digit wrong in its second layer's DiffID."""

    def change(config: dict[str, Any]) -> None:
        right = config["rootfs"]["diff_ids"][1]
        config["rootfs"]["diff_ids"][1] = right[:-1] + ("0" if right[-1] != "0" else "1")

    return altered(source, target, config=change)


def other_platform(source: Layout, target: Path) -> Layout:
    """The image as one for a machine that is not this one's kind."""

    def change(config: dict[str, Any]) -> None:
        config["architecture"] = "s390x"

    return altered(source, target, config=change)


def _noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)
