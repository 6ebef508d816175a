"""Files that were here under other metadata: their objects share blocks with those that they were
read from, where the file system can."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridge.layer.blob_index import BlobIndex
from bridge.ostree.share import WORTH
from bridge.pull.content_index import Place
from bridge.pull.ingest import OnFile


def sharing(
    index: BlobIndex, places: Mapping[bytes, Place], share: Callable[[str, str], object]
) -> OnFile | None:
    """Return a hook of `ingest` for a layer whose content is put together from `places`; None
    where there is nothing to share.

    `share` is called with a new object and the one that its content is from.
    """
    origins = {
        file.offset: places[file.digest].checksum
        for file in index.files
        if file.size >= WORTH and file.digest in places
    }
    if not origins:
        return None

    def on_file(offset: int, checksum: str) -> None:
        origin = origins.get(offset, checksum)
        if origin != checksum:
            share(checksum, origin)

    return on_file
