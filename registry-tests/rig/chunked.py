"""Images with zstd:chunked layers as current skopeo writes them, in a registry's storage.

Skopeo takes more than a minute for 900 MB, so what it wrote is kept in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rig import forky, published
from rig.forky import Forky
from rig.registry import Registry, run_registry
from tools.images import cache
from tools.images.layout import Layout


def storage(images: Mapping[str, Layout]) -> Path:
    """The cached storage with `images`, by REPOSITORY:TAG. Not to be served: clone it."""
    names = sorted(images)
    contents = [str(images[name].diff_ids) for name in names]
    key = f"{published.key(names)}-{published.key([forky.KEY, *contents])}"

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
