"""Files whose content is here: which object each is read from. With the same metadata it is that
object again; with other metadata the two share blocks, where the file system can."""

from __future__ import annotations

from collections.abc import Callable

from bridge.ostree.share import WORTH
from bridge.pull.ingest import OnFile
from bridge.pull.plan import LayerPlan


def origins(plan: LayerPlan) -> dict[int, str]:
    """Return the objects that a layer's files of some size are read from, by the offset of each
    file in the layer's tar stream."""
    if plan.inside is None or plan.parts is None:
        return {}
    places = plan.parts.places
    return {
        file.offset: places[file.digest].checksum
        for file in plan.inside.index.files
        if file.size >= WORTH and file.digest in places
    }


def sharing(origins: dict[int, str], share: Callable[[str, str], object]) -> OnFile:
    """Return a hook of `ingest` that has new objects share blocks.

    `share` is called with one, and with the one that its content is from.
    """

    def on_file(offset: int, checksum: str) -> None:
        origin = origins.get(offset, checksum)
        if origin != checksum:
            share(checksum, origin)

    return on_file
