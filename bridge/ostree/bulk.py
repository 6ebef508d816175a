"""Reading tens of thousands of payloads in the order in which they are needed.

To open, read and close a file takes the interpreter about as long as all else that is done with a
small one, and at each of the three its threads wait for one another. A process of its own does it
on another processor, a pipe ahead, and puts in what belongs between the payloads.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import zstandard

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER
from bridge.ostree import bulk_reader
from bridge.ostree.repository import Repository

LEAST = 1000
"""Payloads from which on the process costs less than it saves."""
_PIPE = 1 << 20
"""Bytes that it may be ahead: as many as Linux gives a pipe of an unprivileged process."""
_NONE = "0" * 64


class Request(NamedTuple):
    """A payload, or a part of one, or none where the size is 0; and what comes before it."""

    before: int
    """Bytes of what is between payloads."""
    checksum: str = _NONE
    offset: int = 0
    size: int = 0


class BulkReader:
    """Reads what is wanted of a repository's payloads, and what is between them, in that order.

    `between` is that as one zstd frame, in pieces; what the last request leaves of it follows it.
    As with `Repository.read_payload` nothing is verified, and nothing but the payload is looked at.
    Not for the mode `archive`, which has payloads compressed. Use as a context manager. `OSError`
    where the process cannot be had.
    """

    def __init__(
        self, repo: Repository, wanted: Iterable[Request], between: Iterable[bytes]
    ) -> None:
        self._path = repo.path
        self._data, self._at = b"", 0
        pack = bulk_reader.REQUEST.pack
        with ExitStack() as stack:
            requests = _passed(
                stack, (pack(each[0], bytes.fromhex(each[1]), *each[2:]) for each in wanted)
            )
            packed = _passed(stack, between)
            # Isolated: no variable is heeded, and modules are looked for in these places alone.
            program = [sys.executable, "-I", "-S", bulk_reader.__file__]
            modules = str(Path(zstandard.__file__).parents[1])
            self._process = subprocess.Popen(
                [*program, str(repo.fd), str(requests), str(packed), modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=(repo.fd, requests, packed),
            )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        with suppress(OSError):  # the user has too many: then it stays a small one
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def __enter__(self) -> BulkReader:
        return self

    def __exit__(self, *_: object) -> None:
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


def _passed(stack: ExitStack, content: Iterable[bytes]) -> int:
    """Return the descriptor of a file in memory with this content, at its start."""
    descriptor = os.memfd_create("bootc-py")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.writelines(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
