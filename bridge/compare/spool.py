"""Content that is needed again: files of package databases, out of layers that pass by once.

A file without a name in TMPDIR, else in `/var/tmp`: it is gone with the process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Self

from bridge import limits
from bridge.errors import MalformedImage


class Spool:
    """Contents by their sha256 digests. A context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(  # noqa: SIM115 - closed with this
            prefix="bootc-py-", dir=os.environ.get("TMPDIR", "/var/tmp")
        )
        self._places: dict[bytes, tuple[int, int]] = {}
        self._end = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def takes(self, size: int) -> bool:
        """Tell whether there is room for a content of that many bytes."""
        return self._end + size <= limits.SPOOL_MAX

    def write(self, chunks: Iterable[bytes | memoryview]) -> int:
        """Append a content whose digest is not known yet; return how long it is.

        `MalformedImage` where there would be more than is kept.
        """
        size = 0
        for chunk in chunks:
            if self._end + size + len(chunk) > limits.SPOOL_MAX:
                raise MalformedImage(
                    f"package databases of more than {limits.SPOOL_MAX} bytes, which is the limit"
                )
            os.pwrite(self._file.fileno(), chunk, self._end + size)
            size += len(chunk)
        return size

    def keep(self, digest: bytes, size: int) -> None:
        """Give the last `size` bytes that were written to `digest`, unless that has some."""
        if digest not in self._places:
            self._places[digest] = (self._end, size)
            self._end += size

    def chunks(self, digest: bytes) -> Iterator[bytes]:
        """Return a content in pieces of at most `limits.BLOB_BUFFER` bytes; `KeyError`."""
        start, size = self._places[digest]
        return self._read(start, start + size)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, limits.BLOB_BUFFER):
            yield os.pread(self._file.fileno(), min(limits.BLOB_BUFFER, end - at), at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
