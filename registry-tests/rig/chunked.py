"""Images with zstd:chunked layers as current skopeo writes them, in a registry's storage.

Skopeo takes more than a minute for 900 MB, so what it wrote is kept in the cache.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from support import images
from support.images import Image, Member

from rig import forky
from rig.forky import Forky
from rig.registry import Registry, run_registry
from tools.images import cache
from tools.images import layout as oci
from tools.images.layout import Layout

STABLE = 30
"""Files of the small image that are the same in both versions."""


def storage(images: Mapping[str, Layout]) -> Path:
    """The cached storage with `images`, by REPOSITORY:TAG. Not to be served: clone it."""
    names = [f"{name}@{layout.diff_ids}" for name, layout in sorted(images.items())]
    key = hashlib.sha256("\n".join([forky.KEY, *names]).encode()).hexdigest()[:12]

    def make(directory: Path) -> None:
        with (
            cache.scratch(cache.root() / "work") as work,
            run_registry(directory) as registry,
            forky.run_forky(work / "forky") as peer,
        ):
            for name, layout in images.items():
                write(peer, layout, registry, name)

    return cache.entry(f"chunked/{key}", make)


def write(peer: Forky, layout: Layout, registry: Registry, name: str) -> None:
    """Has skopeo write `layout` to REPOSITORY:TAG of `registry`; its config stays as it is."""
    peer.bound(image=layout.path).checked(
        "skopeo", "copy", "--quiet", "--dest-tls-verify=false",
        "--dest-compress-format=zstd:chunked",
        f"oci:/run/host/image:{layout.tag}", f"docker://{registry.host}/{name}",
    )  # fmt: skip


def small(version: int) -> list[Member]:
    """A layer of a small image: in version 2 files are new, gone, longer, and changed in places."""
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


def layout(path: Path, *layers: Sequence[Member] | bytes) -> Layout:
    """An image in a new layout at `path`: entries, or bytes that are a tar stream, by layer."""
    made: Image = images.image(*layers, compression="none")
    return oci.read(images.write_layout(path, {"v1": made}))


def _noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)
