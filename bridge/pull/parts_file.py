"""The parts of one blob that were fetched, on disk: a sparse file with each at its own offset.

Beside it lies a list with a line for each stretch, `START END` (exclusive), added once its bytes
were written; so the next process fetches none of them again. Neither file is synced: after a power
cut the list may speak of bytes that are not there, or are others. Whoever reads verifies, and has
what is wrong fetched again.
"""

from __future__ import annotations

import os
import re
import threading
from typing import Self

from bridge.errors import BridgeError
from bridge.oci.model import Descriptor
from bridge.ostree.space import Space
from bridge.pull import kept
from bridge.pull.extents import Extents

_LINE = re.compile(rb"([0-9]{1,19}) ([0-9]{1,19})\n")
_LONGEST_LINE = 40


class PartsFile:
    """Safe for several threads that write to different stretches."""

    def __init__(self, descriptor: Descriptor, space: Space, dir_fd: int) -> None:
        self._size = descriptor.size
        self._space = space
        self._lock = threading.Lock()
        self._here = Extents()
        self.fetched = Extents()
        """What was written by this process."""
        parts, journal = kept.parts_names(descriptor.digest)
        self._fd = kept.open_file(parts, space, dir_fd)
        try:
            self._journal = kept.open_file(journal, space, dir_fd, os.O_APPEND)
        except BaseException:
            os.close(self._fd)
            raise
        self._load()

    def write(self, offset: int, data: bytes) -> None:
        """Keep bytes of the blob."""
        kept.write_at(self._fd, data, offset, self._space)
        end = offset + len(data)
        with self._lock:
            # Appended, whatever the offset.
            kept.write_at(self._journal, b"%d %d\n" % (offset, end), 0, self._space)
            self._here.add(offset, end)
            self.fetched.add(offset, end)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes that are here."""
        parts = []
        while start < end:
            data = os.pread(self._fd, end - start, start)
            if not data:
                raise BridgeError("a download was cut short while it was read")
            parts.append(data)
            start += len(data)
        return b"".join(parts)

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the stretches between `start` and `end` that are not here."""
        with self._lock:
            return self._here.missing(start, end)

    def discard(self, start: int, end: int) -> None:
        """Take that these bytes are wrong."""
        with self._lock:
            self._here.remove(start, end)
            self.fetched.remove(start, end)

    def close(self) -> None:
        """Let the files go; they stay."""
        os.close(self._fd)
        os.close(self._journal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        there = min(self._size, os.fstat(self._fd).st_size)
        line = b"\n"
        with open(os.dup(self._journal), "rb") as journal:
            journal.seek(0)
            while piece := journal.readline(_LONGEST_LINE):
                line = piece
                if found := _LINE.fullmatch(line):
                    self._here.add(int(found[1]), min(int(found[2]), there))
        if not line.endswith(b"\n"):  # a process that was killed has cut it short
            kept.write_at(self._journal, b"\n", 0, self._space)
