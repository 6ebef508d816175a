"""Which new object is to share blocks with which old one."""

from __future__ import annotations

import hashlib

from bridge.layer.blob_index import File, Placed
from bridge.ostree.share import WORTH
from bridge.pull.content_index import Place
from bridge.pull.partial_plan import Missing, PartialPlan, partial_plan
from bridge.pull.sharing import origins, sharing


def plan(*sizes: int, lacking: int) -> tuple[PartialPlan, Placed, list[str]]:
    """A plan for files of these sizes, all of which but one the store has; where they are in the
    stream; the objects that they are read from."""
    digests = [hashlib.sha256(b"%d" % each).digest() for each in range(len(sizes))]
    placed = {
        each * 1000: File(path=f"f{each}", size=size, digest=digest, pieces=())
        for each, (size, digest) in enumerate(zip(sizes, digests, strict=True))
    }
    old = [f"{each:064x}" for each in range(len(sizes))]
    places = {
        file.digest: Place(checksum, 0, file.size)
        for each, (checksum, file) in enumerate(zip(old, placed.values(), strict=True))
        if each != lacking
    }
    return partial_plan(Missing({}, (), (), 0, 0), places, ()), placed, old


def test_new_objects_share_with_what_their_content_is_from() -> None:
    parts, placed, old = plan(WORTH, WORTH, WORTH - 1, WORTH, WORTH, lacking=3)
    origin = origins(parts, placed)
    found = {at: origin(at) for at in (*placed, 1, 5000)}
    assert {at: checksum for at, checksum in found.items() if checksum is not None} == {
        0: old[0], 1000: old[1], 4000: old[4],
    }  # fmt: skip
    shared: list[tuple[str, str]] = []
    on_file = sharing(origin, lambda *pair: shared.append(pair))
    new = [f"{each:064x}" for each in range(10, 15)]
    new[1] = old[1]  # the very same object
    for offset, checksum in zip(range(0, 5000, 1000), new, strict=True):
        on_file(offset, checksum)
    on_file(7, new[0])
    assert shared == [(new[0], old[0]), (new[4], old[4])]


def test_a_file_is_from_somewhere_once_it_has_come() -> None:
    parts, placed, old = plan(WORTH, lacking=1)
    file = placed.pop(0)
    origin = origins(parts, placed)
    assert origin(0) is None
    placed[512] = file
    assert origin(512) == old[0] and origin(0) is None
