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
    """Yield the pieces of an index: `flat_index.read` makes it of them.

    Raises `ValueError` before the first one where the table of contents has its files in another
    order than the tar stream, as no writer does.
    """
    ordinals = _ordinals(index)
    yield marshal.dumps(
        (
            *(index.compression, array("Q", index.before).tobytes(), list(index.packed)),
            *(index.tar_size, index.end, index.held, index.own, len(index.entries)),
        )
    )
    entries = iter(index.entries.items())
    while part := list(islice(entries, _TOGETHER)):
        kinds, *facts = zip(*(each for _name, each in part), strict=True)
        columns = [[name for name, _facts in part], [kind.value for kind in kinds], *facts]
        yield marshal.dumps(columns)
    for at in range(0, len(index.files), _TOGETHER):
        files = index.files[at : at + _TOGETHER]
        _paths, sizes, digests, pieces, offsets = zip(*files, strict=True)
        each_piece = zip(*(piece for several in pieces for piece in several), strict=True)
        yield marshal.dumps(
            (
                *(ordinals[at : at + _TOGETHER].tobytes(), sizes, digests, offsets),
                *(list(map(len, pieces)), tuple(each_piece)),
            )
        )


def _ordinals(index: BlobIndex) -> array[int]:
    """Return which of the entries each file is."""
    entries = enumerate(index.entries)
    found = array("L")
    for file in index.files:
        for at, name in entries:
            if name == file.path:
                found.append(at)
                break
        else:
            raise ValueError("files in another order than their entries")
    return found


def read(pieces: Iterator[bytes]) -> BlobIndex:
    """Return the index that `flatten` made these pieces of; no more of them are taken."""
    compression, before, packed, tar_size, end, held, own, count = _load(pieces)
    entries: dict[str, Facts] = {}
    while len(entries) < count:
        names, kinds, modes, *facts = _load(pieces)
        columns = (map(_TYPES.__getitem__, kinds), map(MODES.__getitem__, modes), *facts)
        entries.update(zip(names, zip(*columns, strict=True), strict=True))
    names = list(entries)
    sizes_before = _numbers("Q", before)
    files: list[File] = []
    while len(files) < len(sizes_before):
        ordinals, sizes, digests, offsets, counts, columns = _load(pieces)
        each_piece = map(_piece, zip(*columns, strict=True))
        of_files = map(tuple, map(islice, repeat(each_piece), counts))
        paths = map(names.__getitem__, _numbers("L", ordinals))
        files.extend(map(_file, zip(paths, sizes, digests, of_files, offsets, strict=True)))
    return BlobIndex(
        compression, tuple(files), sizes_before, packed, tar_size, end, held, entries, own
    )


def _load(pieces: Iterator[bytes]) -> Any:
    return marshal.loads(next(pieces))


def _numbers(kind: str, data: bytes) -> array[int]:
    found = array(kind)
    found.frombytes(data)
    return found
