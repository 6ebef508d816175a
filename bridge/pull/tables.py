"""Reading the tables of contents of several blobs at once.

To read one of ten thousand entries takes the interpreter a quarter of a second, in which its other
threads stand still, and nothing can move before all are read. So processes of their own read them,
each on another processor.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

import zstandard

from bridge.layer import flat_index
from bridge.layer.blob_index import BlobIndex
from bridge.limits import PARALLEL_BLOBS
from bridge.oci.model import Descriptor, layer_compression
from bridge.pull import table_reader

LEAST = 256 * 1024
"""Bytes of a blob's end from which on it is worth to have them read elsewhere."""


class TableReaders:
    """Processes that read tables, once `start` was called. Use as a context manager; safe for
    several threads."""

    def __init__(self) -> None:
        self._free: SimpleQueue[_Process] = SimpleQueue()
        self._all: list[_Process] = []

    def start(self, large: int) -> None:
        """Start them, all before any is used. `large` is of how many blobs the ends are known to
        have `LEAST` bytes or more: for one there is no process, nor where there is one processor
        only, or the system has no more processes to give."""
        count = min(large, len(os.sched_getaffinity(0)), PARALLEL_BLOBS)
        with suppress(OSError):
            while count > 1 and len(self._all) < count:
                self._all.append(_Process())
        for each in self._all:
            self._free.put(each)

    def __enter__(self) -> TableReaders:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._all:
            each.close()

    def takes(self, size: int) -> bool:
        """Tell whether there are processes, and it is worth to have them read the `size` bytes of a
        blob's end."""
        return bool(self._all) and size >= LEAST

    def read(self, layer: Descriptor, tail: bytes, most: int) -> BlobIndex | None:
        """Return what `indexed.read` would; None where the process has it not, for whatever
        reason. Only where `takes` says so."""
        process = self._free.get()
        try:
            return process.read(layer, tail, most)
        except (OSError, EOFError):
            return None  # it has ended, for want of memory perhaps
        finally:
            self._free.put(process)


class _Process:
    def __init__(self) -> None:
        # Isolated: no variable is heeded, and modules are looked for in these places alone.
        modules = [str(Path(__file__).parents[2]), str(Path(zstandard.__file__).parents[1])]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", table_reader.__file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):  # what it did not take
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def read(self, layer: Descriptor, tail: bytes, most: int) -> BlobIndex | None:
        """Raises `OSError` or `EOFError` where the process has ended."""
        compression = layer_compression(layer.media_type)
        request = marshal.dumps((dict(layer.annotations), layer.size, compression, tail, most))
        assert self._process.stdin is not None
        self._process.stdin.write(table_reader.LENGTH.pack(len(request)))
        self._process.stdin.write(request)
        self._process.stdin.flush()
        pieces = self._pieces()
        first = next(pieces)
        return flat_index.read(chain([first], pieces)) if first else None

    def _pieces(self) -> Iterator[bytes]:
        while True:
            (length,) = table_reader.LENGTH.unpack(self._exactly(table_reader.LENGTH.size))
            yield self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise EOFError
        return data
