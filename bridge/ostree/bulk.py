"""Reading tens of thousands of payloads in the order in which they are needed.

To open, read and close a file takes the interpreter about as long as all else that is done with a
small one, and at each of the three its threads wait for one another. A process of its own does it
on another processor, a pipe ahead.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER
from bridge.ostree import bulk_reader
from bridge.ostree.repository import Repository

LEAST = 1000
"""Payloads from which on the process costs less than it saves."""
_PIPE = 1 << 20
"""Bytes that it may be ahead: as many as Linux gives a pipe of an unprivileged process."""


class BulkReader:
    """Reads payloads of a repository, or parts of them: (checksum, offset, size), in that order.

    As with `Repository.read_payload` nothing is verified, and nothing but the payload is looked at.
    Not for the mode `archive`, which has them compressed. Use as a context manager. `OSError` where
    the process cannot be had.
    """

    def __init__(self, repo: Repository, wanted: Iterable[tuple[str, int, int]]) -> None:
        self._path = repo.path
        self._data, self._at = b"", 0
        requests = os.memfd_create("requests")
        try:
            pack = bulk_reader.REQUEST.pack
            with open(requests, "wb", closefd=False) as file:
                for checksum, offset, size in wanted:
                    file.write(pack(bytes.fromhex(checksum), offset, size))
            os.lseek(requests, 0, os.SEEK_SET)
            # Isolated: no module is looked for but the standard library's, and no variable heeded.
            program = [sys.executable, "-I", "-S", bulk_reader.__file__]
            self._process = subprocess.Popen(
                [*program, str(repo.fd), str(requests)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=(repo.fd, requests),
            )
        finally:
            os.close(requests)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        with suppress(OSError):  # the user has too many: then it stays a small one
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def __enter__(self) -> BulkReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process:  # closes the pipe and waits
            self._process.kill()

    def read(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes; `DamagedRepository` where one of the payloads cannot be
        read, or ends before it should: which one it is, is not known here."""
        data, at = self._data, self._at
        while size:
            if at == len(data):
                data, at = os.read(self._pipe, BLOB_BUFFER), 0
                if not data:
                    raise DamagedRepository(f"an object in {self._path} cannot be read")
            piece = data[at : at + size]
            at += len(piece)
            size -= len(piece)
            self._data, self._at = data, at
            yield piece
