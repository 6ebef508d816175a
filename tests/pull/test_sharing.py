"""Which new object is to share blocks with which old one."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from bridge.layer.blob_index import BlobIndex, File
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.ostree.share import WORTH
from bridge.pull.content_index import Place
from bridge.pull.partial_plan import Missing, partial_plan
from bridge.pull.plan import Inside, LayerPlan, Mode
from bridge.pull.sharing import origins, sharing

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"


def plan(*sizes: int, lacking: int) -> tuple[LayerPlan, list[str]]:
    """A plan for files of these sizes, all of which but one the store has; the objects that they
    are read from."""
    digests = [hashlib.sha256(b"%d" % each).digest() for each in range(len(sizes))]
    files = tuple(
        File(path=f"f{each}", size=size, digest=digest, pieces=(), offset=each * 1000)
        for each, (size, digest) in enumerate(zip(sizes, digests, strict=True))
    )
    old = [f"{each:064x}" for each in range(len(sizes))]
    places = {
        file.digest: Place(checksum, 0, file.size)
        for each, (checksum, file) in enumerate(zip(old, files, strict=True))
        if each != lacking
    }
    inside = Inside(b"", BlobIndex("zstd", files, [512] * len(files), (), 0, 0, 0, {}))
    layer = Descriptor(MEDIA_TYPE, Digest("sha256:" + "0" * 64), 1)
    parts = partial_plan(Missing({}, (), (), 0, 0), places, ())
    whole = LayerPlan(layer, layer.digest, Mode.PARTIAL, inside=inside)
    return replace(whole, parts=parts), old


def test_new_objects_share_with_what_their_content_is_from() -> None:
    wanted, old = plan(WORTH, WORTH, WORTH - 1, WORTH, WORTH, lacking=3)
    found = origins(wanted)
    assert found == {0: old[0], 1000: old[1], 4000: old[4]}
    shared: list[tuple[str, str]] = []
    on_file = sharing(found, lambda *pair: shared.append(pair))
    new = [f"{each:064x}" for each in range(10, 15)]
    new[1] = old[1]  # the very same object
    for offset, checksum in zip(range(0, 5000, 1000), new, strict=True):
        on_file(offset, checksum)
    on_file(7, new[0])
    assert shared == [(new[0], old[0]), (new[4], old[4])]


def test_a_layer_that_is_not_put_together_is_from_nothing() -> None:
    wanted, _old = plan(WORTH, WORTH, lacking=1)
    assert origins(wanted.whole("")) == origins(replace(wanted, inside=None)) == {}
