"""Builds an image once more, and names what came out otherwise than in the cache.

Two builds of the same sources have to have the same files. Times of modification are looked
at as `bootc-py build` leaves them: none is newer than SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tools.images import build, cache, spec
from tools.images.layout import Layout


def reproduce(name: str, version: str) -> Iterator[str]:
    """Builds an image on its cached parent; yields a line for each thing that differs."""
    first = build.image(name, version, "plain")
    with cache.scratch(cache.root() / "work") as work:
        again = build.once_more(name, version, work / "plain")
        yield from differences(first, again)


def differences(first: Layout, second: Layout) -> Iterator[str]:
    """A line for each path in the layers of two images (plain tars) that differs, and how."""
    if len(first.layers) != len(second.layers):
        yield f"layers: {len(first.layers)} and {len(second.layers)}"
        return
    for number, layers in enumerate(zip(first.layers, second.layers, strict=True)):
        one, other = (
            _members(image.blob(layer["digest"]))
            for image, layer in zip((first, second), layers, strict=True)
        )
        for path in sorted(one.keys() | other.keys()):
            if path not in one or path not in other:
                yield f"layer {number}: {path}: only in the {'first' if path in one else 'second'}"
            elif changed := [
                f"{key} {one[path][key]!s:.40} and {other[path][key]!s:.40}"
                for key in one[path]
                if one[path][key] != other[path][key]
            ]:
                yield f"layer {number}: {path}: {', '.join(changed)}"
        if one.keys() == other.keys() and list(one) != list(other):
            yield f"layer {number}: the order of its entries"


def _members(path: Path) -> dict[str, dict[str, object]]:
    """What an image is made of, of each entry of a tar."""
    found: dict[str, dict[str, object]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            found[member.name] = {
                "type": member.type,
                "mode": oct(member.mode),
                "owner": (member.uid, member.gid),
                "size": member.size,
                "target": member.linkname,
                "time": min(int(member.mtime), spec.SOURCE_DATE_EPOCH),
                "attributes": sorted(
                    each for each in member.pax_headers.items() if each[0].startswith("SCHILY")
                ),
                "content": content and hashlib.file_digest(content, "sha256").hexdigest()[:12],  # type: ignore[arg-type]
            }
    return found
