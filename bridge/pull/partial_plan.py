"""A layer in parts: what of it is here, and what has to be fetched.

A file that the store has, under whatever name and from whatever image, is not fetched; of one
that it lacks, neither are the pieces that it has in other files, nor zeros. Pure: what the store
has, the caller has found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.layer.blob_index import BlobIndex
from bridge.pull.coalesce import Range, covered, joined
from bridge.pull.content_index import Place


@dataclass(frozen=True, slots=True)
class Missing:
    """What a layer's blob has that the store lacks."""

    pieces: Mapping[bytes, Range]
    """Where in the blob to find each piece that is not here, by its digest."""
    ranges: tuple[Range, ...]
    """These places, joined."""
    local: tuple[Range, ...]
    """The places of pieces that are here, or zeros, in files that are not."""
    files: int
    """Files that are not here..."""
    bytes: int
    """...and their size, unpacked."""


@dataclass(frozen=True, slots=True)
class PartialPlan:
    """How a layer is to be had in parts; sizes are the blob's own, compressed bytes."""

    places: Mapping[bytes, Place]
    """Where the store has files and pieces of the layer, and of others, by their digests."""
    missing: Missing
    ranges: tuple[Range, ...]
    """What to fetch, gaps that save a request included."""
    fetch_bytes: int
    chunk_bytes: int
    """Pieces that are here, in files that are not, and so are not fetched."""


def missing(blob: BlobIndex, places: Mapping[bytes, Place]) -> Missing:
    """Return what has to be fetched where the store has `places`, by the digests of content."""
    pieces: dict[bytes, Range] = {}
    ranges: list[Range] = []
    local: list[Range] = []
    files = size = 0
    for file in blob.files:
        if file.digest in places:
            continue
        files += 1
        size += file.size
        for piece in file.pieces:
            where = piece.start, piece.end
            if piece.zeros or piece.digest in places:
                local.append(where)
            elif piece.digest not in pieces:  # one that the layer has twice is fetched once
                pieces[piece.digest] = where
                ranges.append(where)
    return Missing(pieces, tuple(joined(sorted(ranges))), tuple(joined(sorted(local))), files, size)


def partial_plan(
    found: Missing, places: Mapping[bytes, Place], ranges: Sequence[Range]
) -> PartialPlan:
    """Return the plan that fetches `ranges`, in which all that is missing lies."""
    there = sum(end - start for start, end in found.local)
    return PartialPlan(
        places=places,
        missing=found,
        ranges=tuple(ranges),
        fetch_bytes=sum(end - start for start, end in ranges),
        chunk_bytes=there - covered(found.local, ranges),
    )
