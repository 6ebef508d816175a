"""Where a file is cut into pieces, so that equal content is cut alike wherever it stands.

A rolling sum over the last 64 bytes decides: where its low 16 bits are all ones, a piece ends,
every 64 KiB on average. A run of 1024 zeros or more is a piece of its own. That is how
containers/storage cuts (pkg/chunked/compressor: rollsum.go, compressor.go), so that its pieces
and ours have the same digests; the sum is bup's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bridge.limits import BLOB_BUFFER

HOLE = 1024
"""Zeros in a row from which on they are a piece of their own."""

_WINDOW = 64
_SPLIT = 0xFFFF
_FIRST_SUM = _WINDOW * (_WINDOW - 1) * 31 & 0xFFFF
_HOLE = bytes(HOLE)
_SOLID = re.compile(rb"[^\0]")


class Cut(NamedTuple):
    """A piece of a file: its length in bytes, and whether it is a run of zeros."""

    size: int
    zeros: bool


def cut(chunks: Iterable[bytes]) -> Iterator[Cut]:
    """Yield the pieces of a file that comes in chunks of any size, as soon as they end."""
    cutter = Cutter()
    for chunk in chunks:
        yield from cutter.feed(chunk)
    yield from cutter.finish()


class Cutter:
    """Cuts one file. Nothing of what it is given is kept but the window."""

    def __init__(self) -> None:
        self._window: Any = np.zeros(_WINDOW, np.uint16)
        self._sum = _FIRST_SUM  # the window's: each byte times its age, from 1 to 64, and this
        self._zeros = 0  # at the end of what was given: they may become a hole, and wait
        self._size = 0  # of the piece that is open, without them

    @property
    def open(self) -> int:
        """Bytes that are known to belong to the piece that follows those which were returned."""
        return self._size or (self._zeros if self._zeros >= HOLE else 0)

    def feed(self, data: bytes) -> list[Cut]:
        """Take the file's next bytes; return the pieces that are known to end in them."""
        found: list[Cut] = []
        for start in range(0, len(data), BLOB_BUFFER):
            self._feed(data[start : start + BLOB_BUFFER], found)
        return found

    def finish(self) -> list[Cut]:
        """Return the pieces that end with the file."""
        found: list[Cut] = []
        self._segment(b"", found)
        self._end(found)
        return found

    def _feed(self, data: bytes, found: list[Cut]) -> None:
        body = data.rstrip(b"\0")
        at, end = 0, len(body)
        while at < end:
            solid = _SOLID.search(body, at)
            assert solid is not None  # the last byte is
            start = solid.start()
            self._zeros += start - at
            hole = body.find(_HOLE, start)
            at = end if hole < 0 else hole
            self._segment(body[start:at], found)
        self._zeros += len(data) - end
        if self._zeros >= HOLE:
            self._end(found)

    def _segment(self, data: bytes, found: list[Cut]) -> None:
        """Take the zeros that wait, and bytes without a hole in them."""
        zeros, self._zeros = self._zeros, 0
        if zeros >= HOLE:
            self._end(found)
            found.append(Cut(zeros, True))
            self._window = np.zeros(_WINDOW, np.uint16)
            self._sum = _FIRST_SUM
        elif zeros:
            data = bytes(zeros) + data
        if data:
            self._roll(np.frombuffer(data, np.uint8), found)

    def _roll(self, data: Any, found: list[Cut]) -> None:
        # Modulo 2^16 everywhere: only these bits of the sum are looked at.
        rolled = np.concatenate((self._window, data))
        totals = np.cumsum(rolled, dtype=np.uint16)
        # A byte that comes in makes all of the window older, and the oldest leaves.
        steps = totals[_WINDOW:] - totals[:-_WINDOW]
        steps -= rolled[:-_WINDOW] << 6
        sums = np.cumsum(steps, dtype=np.uint16)
        last = 0
        for at in np.flatnonzero(sums == (_SPLIT - self._sum & 0xFFFF)).tolist():
            found.append(Cut(self._size + at + 1 - last, False))
            self._size, last = 0, at + 1
        self._size += data.size - last
        self._sum = (self._sum + int(sums[-1])) & 0xFFFF
        self._window = rolled[-_WINDOW:]

    def _end(self, found: list[Cut]) -> None:
        if self._size:
            found.append(Cut(self._size, False))
            self._size = 0
