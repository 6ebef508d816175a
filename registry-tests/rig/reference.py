"""What an image's tree is, as umoci sees it: the standard that imports are compared with."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rig.peers import require
from tools.images import cache
from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class Record:
    """What is at one path. `size` and `sha256` are of files, `target` is of symlinks."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    sha256: str = ""
    target: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Flat:
    """An image as one tar, and as a layout whose only layer is that tar, uncompressed."""

    tar: Path
    layout: Layout


def unpacked(layout: Layout) -> Path:
    """The root directory of `layout`'s tree as `umoci unpack` makes it, cached. Needs root."""

    def make(directory: Path) -> None:
        image = f"{layout.path}:{layout.tag}"
        command = [require("umoci"), "unpack", "--image", image, str(directory / "bundle")]
        subprocess.run(command, check=True)

    if os.geteuid() != 0:
        raise PermissionError("umoci gives files their real owners only when run as root")
    return cache.entry(f"trees/{_name(layout)}", make) / "bundle" / "rootfs"


def records(root: Path) -> dict[str, Record]:
    """Every path of the tree at `root` with what is there: `/` first, then `/bin`, ..."""
    found = {"/": _record(root, root.lstat())}
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found.update(_walk(descriptor, root, ""))
    finally:
        os.close(descriptor)
    return found


def flatten(layout: Layout) -> Flat:
    """The tree of `layout` as a single layer, cached: sorted by name, real owners, xattrs."""

    def make(directory: Path) -> None:
        tar = directory / "flat.tar"
        subprocess.run(
            [
                require("tar"), "--create", f"--file={tar}", f"--directory={unpacked(layout)}",
                "--format=posix", "--pax-option=delete=atime,delete=ctime",
                "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", ".",
            ],
            check=True,
        )  # fmt: skip
        layer = oci.adopt_blob(directory, tar, FORMATS["plain"])
        old = layout.config
        config = {name: value for name, value in old.items() if name != "history"}
        config["rootfs"] = {"type": "layers", "diff_ids": [layer["digest"]]}
        descriptor = oci.add_blob(
            directory, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"
        )
        oci.write(
            directory, layout.tag, {**layout.manifest, "config": descriptor, "layers": [layer]}
        )

    flat = oci.read(cache.entry(f"flat/{_name(layout)}", make))
    return Flat(flat.blob(flat.layers[0]["digest"]), flat)


def _name(layout: Layout) -> str:
    """The cache entry of what is derived from `layout`: the same for every compression."""
    return str(layout.manifest["config"]["digest"]).removeprefix("sha256:")[:16]


def _walk(directory: int, path: Path, prefix: str) -> Iterator[tuple[str, Record]]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            name, place = f"{prefix}/{entry.name}", path / entry.name
            yield name, _record(place, status)
            if stat.S_ISDIR(status.st_mode):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                child = os.open(entry.name, flags, dir_fd=directory)
                try:
                    yield from _walk(child, place, name)
                finally:
                    os.close(child)


def _record(path: Path, status: os.stat_result) -> Record:
    size, sha256, target = 0, "", ""
    if stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            size, sha256 = status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        target = os.readlink(path)
    xattrs = tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in sorted(os.listxattr(path, follow_symlinks=False))
    )
    return Record(
        kind=_KINDS[stat.S_IFMT(status.st_mode)],
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=size,
        sha256=sha256,
        target=target,
        xattrs=xattrs,
    )
