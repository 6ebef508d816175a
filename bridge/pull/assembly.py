"""A layer's tar stream as a process of its own puts it together, out of tens of thousands of files
that are in the store.

To open, read and close a file takes the interpreter about as long as all else that is done with a
small one, and at each of the three its threads wait for one another; to read a header out of the
tar-split takes half of that. The process does both on another processor, a pipe ahead.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import zstandard

from bridge.errors import DamagedRepository
from bridge.layer.blob_index import BlobIndex, File, Placed
from bridge.ostree.repository import Repository
from bridge.pull import assembler
from bridge.pull.content_index import Place

LEAST = 1000
"""Files in the store from which on the process costs less than it saves."""
_PIPE = 1 << 20
"""Bytes that it may be ahead, and that are read at once: as many as Linux gives a pipe of an
unprivileged process."""


class Assembly:
    """A layer's skeleton with those files put in that are in `repo`: `places` has for each of the
    index's files where that is, None for one that is not there.

    Nothing is verified, and nothing but payloads is looked at. Not for the mode `archive`, which
    has payloads compressed. Use as a context manager. `OSError` where the process cannot be had.
    """

    def __init__(
        self, repo: Repository, index: BlobIndex, places: Sequence[Place | None], placed: Placed
    ) -> None:
        """`placed` gets each file before the bytes that come before it."""
        self._path = repo.path
        self._files = index.files
        self._placed = placed
        self._data, self._at = b"", 0
        with ExitStack() as stack:
            requests = _passed(stack, map(_request, index.files, places))
            tar_split = _passed(stack, index.tar_split)
            # Isolated: no variable is heeded, and modules are looked for in these places alone.
            modules = [str(Path(__file__).parents[2]), str(Path(zstandard.__file__).parents[1])]
            numbers = map(str, (repo.fd, requests, tar_split, index.tar_split_size))
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", assembler.__file__, *numbers, *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                pass_fds=(repo.fd, requests, tar_split),
            )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        with suppress(OSError):  # the user has too many: then it stays a small one
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE)

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes the pipe and waits
            self._process.kill()

    def parts(self) -> Iterator[bytes | File]:
        """Yield the stream in order, and each file that is not in the store where it belongs.

        `DamagedRepository` where it cannot be made of what there is: an object cannot be read, or
        ends before it should, or the tar-split is none, or has other files or another order; which
        of it is not known here.
        """
        files = iter(self._files)
        while True:
            size, count, then = assembler.HEAD.unpack(self._exactly(assembler.HEAD.size))
            offsets = array("Q", self._exactly(count * 8))
            self._placed.update(zip(offsets, files, strict=False))
            while size:
                piece = self._some(size)
                size -= len(piece)
                yield piece
            if then == assembler.FILE:
                yield self._placed[offsets[-1]]
            elif then == assembler.END:
                return

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._some(size - len(data))
        return data

    def _some(self, most: int) -> bytes:
        if self._at == len(self._data):
            self._data, self._at = os.read(self._pipe, _PIPE), 0
            if not self._data:
                raise DamagedRepository(f"it cannot be put together of what {self._path} has")
        piece = self._data[self._at : self._at + most]
        self._at += len(piece)
        return piece


def _request(file: File, place: Place | None) -> bytes:
    if place is None:
        return assembler.REQUEST.pack(file.size, assembler.NONE, 0)
    return assembler.REQUEST.pack(file.size, bytes.fromhex(place.checksum), place.offset)


def _passed(stack: ExitStack, content: Iterable[bytes]) -> int:
    """Return the descriptor of a file in memory with this content, at its start."""
    descriptor = os.memfd_create("bootc-py")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.writelines(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
