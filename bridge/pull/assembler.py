"""The process that `assembly` starts: it writes a layer's tar stream to its output.

A program by itself. Its arguments are descriptors (of the repository's directory, of a file with
the requests, and of one with the compressed tar-split), the size of the tar-split unpacked, and
where modules are to be found. It ends with exit code 1 at the first thing that it cannot have.
"""

import os
import sys
from array import array
from collections.abc import Iterator
from struct import Struct

REQUEST = Struct("=Q32sQ")
"""One for each file, in the order of the tar stream: its size, the checksum of the content object
that has it, and from where on in the object's payload. `NONE` is the checksum where the reader is
going to put the file in."""
NONE = bytes(32)
HEAD = Struct("=QLL")
"""Before each piece of the stream: its size, the number of files that begin in it, each of which
is told then by its offset in the stream, and what follows."""
MORE, FILE, END = range(3)
"""What follows a piece: another; the last one of its files, for the reader to put in, and then
another piece; nothing."""
_REQUESTS = 512 * REQUEST.size
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BATCH = 256 * 1024
"""Bytes that are written together. What is larger goes from file to pipe without being copied."""
_OUTPUT = 1


def main(repo: int, requests: int, tar_split: int, unpacked: int) -> int:
    """Write the stream; return the exit code."""
    from bridge.layer.compression import document
    from bridge.layer.tar_split import read_tar_split

    output = _Output()
    wanted = _requests(requests)
    packed = iter(lambda: os.read(tar_split, _BATCH), b"")
    for part in read_tar_split(document(packed, unpacked)):
        if isinstance(part, bytes):
            output.add(part)
            continue
        size, checksum, offset = next(wanted, (0, NONE, 0))
        if size != part.size:
            return 1
        output.file()
        if checksum == NONE:
            output.leave(size)
            continue
        name = checksum.hex()
        fd = os.open(f"objects/{name[:2]}/{name[2:]}.file", _FLAGS, dir_fd=repo)
        try:
            if size <= _BATCH:
                data = os.pread(fd, size, offset)
                if len(data) != size:
                    return 1
                output.add(data)
            elif not output.send(fd, offset, size):
                return 1
        finally:
            os.close(fd)
    if next(wanted, None) is not None:
        return 1
    output.flush(END)
    return 0


def _requests(file: int) -> Iterator[tuple[int, bytes, int]]:
    while data := os.read(file, _REQUESTS):
        yield from REQUEST.iter_unpack(data)


class _Output:
    """Writes small pieces together."""

    def __init__(self) -> None:
        self._batch: list[bytes] = []
        self._size = 0
        self._files = array("Q")
        self._position = 0
        """Bytes of the stream before the batch."""

    def file(self) -> None:
        """Take that a file begins here."""
        self._files.append(self._position + self._size)

    def add(self, data: bytes) -> None:
        """Take bytes of the stream."""
        # Not sooner: a file is told with the header before it, not after that.
        if self._size >= _BATCH:
            self.flush()
        self._batch.append(data)
        self._size += len(data)

    def leave(self, size: int) -> None:
        """Take that the reader has the file that began last."""
        self.flush(FILE)
        self._position += size

    def flush(self, then: int = MORE) -> None:
        """Write what there is."""
        head = HEAD.pack(self._size, len(self._files), then)
        _write(b"".join((head, self._files.tobytes(), *self._batch)))
        self._position += self._size
        self._batch.clear()
        self._size = 0
        del self._files[:]

    def send(self, fd: int, start: int, size: int) -> bool:
        """Write bytes of a file; return whether it has them."""
        self.flush()
        _write(HEAD.pack(size, 0, MORE))
        self._position += size
        end = start + size
        while start < end:
            sent = os.sendfile(_OUTPUT, fd, start, end - start)
            if not sent:
                return False
            start += sent
        return True


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(_OUTPUT, left) :]


def _run(repo: str, requests: str, tar_split: str, size: str, *modules: str) -> int:
    sys.path.extend(modules)
    from bridge.errors import MalformedImage

    try:
        return main(int(repo), int(requests), int(tar_split), int(size))
    except (OSError, MalformedImage):
        return 1


if __name__ == "__main__":
    try:
        sys.exit(_run(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(1)
