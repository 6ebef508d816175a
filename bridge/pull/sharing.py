"""Files whose content is here: which object each is read from. With the same metadata it is that
object again; with other metadata the two share blocks, where the file system can."""

from __future__ import annotations

from collections.abc import Callable

from bridge.layer.blob_index import Placed
from bridge.ostree.share import WORTH
from bridge.pull.ingest import Expected, OnFile
from bridge.pull.partial_plan import PartialPlan


def origins(parts: PartialPlan, placed: Placed) -> Expected:
    """Return what tells the object that a file of a layer is read from, by the file's offset in
    the tar stream: of those of some size, the others are not worth it."""
    places = parts.places

    def origin(offset: int) -> str | None:
        file = placed.get(offset)
        if file is None or file.size < WORTH or file.digest not in places:
            return None
        return places[file.digest].checksum

    return origin


def sharing(origin: Expected, share: Callable[[str, str], object]) -> OnFile:
    """Return a hook of `ingest` that has new objects share blocks.

    `share` is called with one, and with the one that its content is from.
    """

    def on_file(offset: int, checksum: str) -> None:
        other = origin(offset)
        if other is not None and other != checksum:
            share(checksum, other)

    return on_file
