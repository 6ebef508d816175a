"""Which new object is to share blocks with which old one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from bridge.layer.blob_index import BlobIndex, File
from bridge.layer.tar import Entry
from bridge.ostree.share import WORTH
from bridge.pull.content_index import Place
from bridge.pull.sharing import sharing


def nothing() -> Iterator[bytes | File]:
    return iter(())


def check() -> Callable[[Entry | None], None]:
    return lambda _entry: None


def blob(*sizes: int) -> tuple[BlobIndex, list[bytes]]:
    """An index of files of these sizes, and their digests."""
    digests = [hashlib.sha256(b"%d" % each).digest() for each in range(len(sizes))]
    files = tuple(
        File(path=f"f{each}", size=size, digest=digest, pieces=(), offset=each * 1000)
        for each, (size, digest) in enumerate(zip(sizes, digests, strict=True))
    )
    return BlobIndex("zstd", files, nothing, 0, 0, 0, check), digests


def test_new_objects_share_with_what_their_content_is_from() -> None:
    index, digests = blob(WORTH, WORTH, WORTH - 1, WORTH, WORTH)
    old = [f"{each:064x}" for each in range(5)]
    places = {
        digest: Place(checksum, 0, file.size)
        for digest, checksum, file in zip(digests, old, index.files, strict=True)
    }
    del places[digests[3]]  # it was fetched
    shared: list[tuple[str, str]] = []
    on_file = sharing(index, places, lambda *pair: shared.append(pair))
    assert on_file is not None
    new = [f"{each:064x}" for each in range(10, 15)]
    new[1] = old[1]  # the very same object
    for file, checksum in zip(index.files, new, strict=True):
        on_file(file.offset, checksum)
    on_file(7, new[0])
    assert shared == [(new[0], old[0]), (new[4], old[4])]


def test_nothing_to_share_costs_nothing() -> None:
    index, digests = blob(WORTH - 1, WORTH)
    assert sharing(index, {digests[0]: Place("0" * 64, 0, WORTH - 1)}, print) is None
