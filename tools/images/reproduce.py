"""Builds images twice by `bootc-py build`, in two places that have little in common.

Two builds of the same sources have to have one digest. Where they have not, what differs is named.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.images import cache, spec
from tools.images.layout import Layout
from tools.images.place import SKIPPED, Place

AHEAD = 2 * 86400 + 11 * 3600 + 7 * 60 + 5
"""Seconds: another day and another hour, within what package lists are valid for."""


@dataclass(frozen=True)
class Pair:
    """An image that was built twice."""

    name: str
    first: Layout
    second: Layout

    @property
    def same(self) -> bool:
        return self.first.digest == self.second.digest


def reproduce(
    names: Iterable[str], version: str, skipped: tuple[str, ...] = SKIPPED
) -> Iterator[Pair]:
    """Builds images, and what they are built from, twice. A pair's files last until the next."""
    with cache.scratch(cache.root() / "work") as work:
        one = Place(work / "one", skipped=skipped)
        other = Place(
            work / "elsewhere" / "other", umask=0o077, processors="0", ahead=AHEAD, skipped=skipped
        )
        for name in names:
            yield Pair(name, one.image(name, version), other.image(name, version))


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
