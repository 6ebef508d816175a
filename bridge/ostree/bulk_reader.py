"""The process that `bulk` starts: it writes payloads, and what is between them, to its output.

A program by itself that imports next to nothing, so that it is there in some milliseconds. Its
arguments are descriptors: of the repository's directory, of a file with the requests, and of one
with the bytes between payloads, a zstd frame; and where zstandard is to be found. It ends with exit
code 1 at the first thing that it cannot have.
"""

import os
import sys
from struct import Struct
from typing import Any

REQUEST = Struct("=Q32sQQ")
"""How many bytes come before it; the checksum of a content object, offset and size of what is
wanted of its payload. Nothing is, where the size is 0."""
_REQUESTS = 512 * REQUEST.size
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BATCH = 128 * 1024
"""Bytes that are written together. What is larger goes from file to pipe without being copied."""
_OUTPUT = 1


def main(repo: int, requests: int, between: Any) -> int:
    """Write all that is asked for; return the exit code."""
    output = _Output()
    while wanted := os.read(requests, _REQUESTS):
        for before, checksum, offset, size in REQUEST.iter_unpack(wanted):
            while before:
                data = between.read(min(before, _BATCH))
                if not data:
                    return 1
                before -= len(data)
                output.add(data)
            if not size:
                continue
            name = checksum.hex()
            fd = os.open(f"objects/{name[:2]}/{name[2:]}.file", _FLAGS, dir_fd=repo)
            try:
                if size > _BATCH:
                    output.flush()
                    if not _send(fd, offset, size):
                        return 1
                    continue
                data = os.pread(fd, size, offset)
            finally:
                os.close(fd)
            if len(data) != size:
                return 1
            output.add(data)
    while data := between.read(_BATCH):
        output.add(data)
    output.flush()
    return 0


class _Output:
    """Writes small pieces together."""

    def __init__(self) -> None:
        self._batch: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        self._batch.append(data)
        self._size += len(data)
        if self._size >= _BATCH:
            self.flush()

    def flush(self) -> None:
        data = memoryview(b"".join(self._batch))
        self._batch.clear()
        self._size = 0
        while data:
            data = data[os.write(_OUTPUT, data) :]


def _send(fd: int, offset: int, size: int) -> bool:
    end = offset + size
    while offset < end:
        sent = os.sendfile(_OUTPUT, fd, offset, end - offset)
        if not sent:
            return False
        offset += sent
    return True


def _run(repo: str, requests: str, between: str, modules: str) -> int:
    sys.path.append(modules)
    import zstandard

    with open(int(between), "rb") as packed:
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(packed)
            return main(int(repo), int(requests), reader)
        except (OSError, zstandard.ZstdError):
            return 1


if __name__ == "__main__":
    try:
        sys.exit(_run(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(1)
