"""The process that `bulk` starts: it writes payloads, one after the other, to its standard output.

A program by itself that imports next to nothing, so that it is there in some milliseconds. Its
arguments are descriptors: of the repository's directory, and of a file with the requests. It ends
with exit code 1 at the first one that it cannot answer.
"""

import os
import sys
from struct import Struct

REQUEST = Struct("=32sQQ")
"""The checksum of a content object, offset and size of what is wanted of its payload."""
_REQUESTS = 512 * REQUEST.size
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BATCH = 128 * 1024
"""Bytes that are written together. What is larger goes from file to pipe without being copied."""
_OUTPUT = 1


def main(repo: int, requests: int) -> int:
    """Write all that is asked for; return the exit code."""
    batch: list[bytes] = []
    held = 0
    while wanted := os.read(requests, _REQUESTS):
        for checksum, offset, size in REQUEST.iter_unpack(wanted):
            name = checksum.hex()
            fd = os.open(f"objects/{name[:2]}/{name[2:]}.file", _FLAGS, dir_fd=repo)
            try:
                if size > _BATCH:
                    _write(batch)
                    held = 0
                    if not _send(fd, offset, size):
                        return 1
                    continue
                data = os.pread(fd, size, offset)
            finally:
                os.close(fd)
            if len(data) != size:
                return 1
            batch.append(data)
            held += size
            if held >= _BATCH:
                _write(batch)
                held = 0
    _write(batch)
    return 0


def _write(batch: list[bytes]) -> None:
    data = memoryview(b"".join(batch))
    batch.clear()
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


if __name__ == "__main__":
    try:
        sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
    except (OSError, KeyboardInterrupt):
        sys.exit(1)
