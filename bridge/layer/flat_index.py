"""A blob's index as plain data in pieces, for a pipe between two processes of this program.

Columns of numbers and strings in Python's own `marshal` form: an index is made of them again in a
tenth of the time that reading the blob's tables takes. Never for a file, nor for what others wrote.
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any

from bridge.layer.blob_index import BlobIndex, File, Piece
from bridge.layer.facts import MODES, Facts
from bridge.layer.tar import EntryType

_TOGETHER = 8192
"""Entries, or files, of one piece: what is in memory twice for a while."""
_TYPES = {each.value: each for each in EntryType}
# As their own constructors, which are Python functions: there are a hundred thousand to make.
_piece: Callable[[tuple[Any, ...]], Piece] = partial(tuple.__new__, Piece)
_file: Callable[[tuple[Any, ...]], File] = partial(tuple.__new__, File)


def flatten(index: BlobIndex) -> Iterator[bytes]:
    """Yield the pieces of an index: `flat_index.read` makes it of them."""
    yield marshal.dumps(
        (
            *(index.compression, list(index.tar_split), index.tar_split_size, index.end),
            *(index.held, index.own, len(index.entries), len(index.files)),
        )
    )
    entries = iter(index.entries.items())
    while part := list(islice(entries, _TOGETHER)):
        kinds, *facts = zip(*(each for _name, each in part), strict=True)
        columns = [[name for name, _facts in part], [kind.value for kind in kinds], *facts]
        yield marshal.dumps(columns)
    ordinal_of = dict(zip(index.entries, range(len(index.entries)), strict=True))
    for at in range(0, len(index.files), _TOGETHER):
        paths, sizes, digests, pieces = zip(*index.files[at : at + _TOGETHER], strict=True)
        ordinals = array("L", map(ordinal_of.__getitem__, paths)).tobytes()
        each_piece = zip(*(piece for several in pieces for piece in several), strict=True)
        yield marshal.dumps((ordinals, sizes, digests, list(map(len, pieces)), tuple(each_piece)))


def read(pieces: Iterator[bytes]) -> BlobIndex:
    """Return the index that `flatten` made these pieces of; no more of them are taken."""
    compression, tar_split, tar_split_size, end, held, own, count, of_files = _load(pieces)
    entries: dict[str, Facts] = {}
    while len(entries) < count:
        names, kinds, modes, *facts = _load(pieces)
        columns = (map(_TYPES.__getitem__, kinds), map(MODES.__getitem__, modes), *facts)
        entries.update(zip(names, zip(*columns, strict=True), strict=True))
    names = list(entries)
    files: list[File] = []
    while len(files) < of_files:
        ordinals, sizes, digests, counts, columns = _load(pieces)
        each_piece = map(_piece, zip(*columns, strict=True))
        several = map(tuple, map(islice, repeat(each_piece), counts))
        paths = map(names.__getitem__, memoryview(ordinals).cast("L"))
        files.extend(map(_file, zip(paths, sizes, digests, several, strict=True)))
    return BlobIndex(compression, tuple(files), tar_split, tar_split_size, end, held, entries, own)


def _load(pieces: Iterator[bytes]) -> Any:
    return marshal.loads(next(pieces))
