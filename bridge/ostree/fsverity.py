"""fs-verity: the digest of a file's content that the kernel checks at every read.

Format and ioctls: https://docs.kernel.org/filesystems/fsverity.html. Always with sha256, blocks of
4096 bytes and no salt, as libostree and composefs have it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import struct
from typing import BinaryIO

from bridge.limits import BLOB_BUFFER

BLOCK = 4096
_HASH_SIZE = 32
_SHA256 = 1
_DESCRIPTOR = struct.Struct("<BBBBIQ64s32s144x")

# Linux uapi, linux/fsverity.h.
_ENABLE = 0x40806685
_MEASURE = 0xC0046686
_ENABLE_ARGUMENT = struct.pack("<III", 1, _SHA256, BLOCK).ljust(128, b"\0")
_MEASURED = struct.Struct(f"<HH{_HASH_SIZE}s")
_UNSUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP)


class Measure:
    """The digest of bytes that come one after the other, in pieces of any size."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes so far."""
        self._rest = b""
        self._levels: list[bytearray] = []
        """Hashes that are no whole block yet: of blocks of data, of blocks of those, ..."""

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if self._rest:
            missing = BLOCK - len(self._rest)
            self._rest += data[:missing]
            data = data[missing:]
            if len(self._rest) < BLOCK:
                return
            self._add(0, hashlib.sha256(self._rest).digest())
            self._rest = b""
        view = memoryview(data)
        whole = len(view) - len(view) % BLOCK
        for start in range(0, whole, BLOCK):
            self._add(0, hashlib.sha256(view[start : start + BLOCK]).digest())
        self._rest = bytes(view[whole:])

    def _add(self, level: int, digest: bytes) -> None:
        if level == len(self._levels):
            self._levels.append(bytearray())
        waiting = self._levels[level]
        # A full block is hashed when one more comes: the last one may be the root's own.
        if len(waiting) == BLOCK:
            self._add(level + 1, hashlib.sha256(waiting).digest())
            waiting.clear()
        waiting += digest

    def digest(self) -> bytes:
        """Return the digest (32 bytes) of all that has come; nothing may come after that."""
        if self._rest:
            self._add(0, hashlib.sha256(self._rest.ljust(BLOCK, b"\0")).digest())
        root, level = b"", 0
        while level < len(self._levels):
            root = bytes(self._levels[level])
            level += 1
            if level < len(self._levels) or len(root) > _HASH_SIZE:
                self._add(level, hashlib.sha256(root.ljust(BLOCK, b"\0")).digest())
        descriptor = _DESCRIPTOR.pack(
            1, _SHA256, BLOCK.bit_length() - 1, 0, 0, self.size, root, b""
        )
        return hashlib.sha256(descriptor).digest()


def compute(payload: BinaryIO) -> tuple[int, bytes]:
    """Read `payload` to its end; return its size and its digest."""
    measure = Measure()
    while chunk := payload.read(BLOB_BUFFER):
        measure.update(chunk)
    return measure.size, measure.digest()


def enabled(fd: int) -> bytes | None:
    """Return the digest that the file system holds a file to; None where it does not, or where
    that is by another hash."""
    buffer = bytearray(_MEASURED.pack(0, _HASH_SIZE, b""))
    try:
        fcntl.ioctl(fd, _MEASURE, buffer)
    except OSError as error:
        if error.errno in (*_UNSUPPORTED, errno.ENODATA, errno.EOVERFLOW):
            return None
        raise
    algorithm, size, digest = _MEASURED.unpack(buffer)
    return digest if (algorithm, size) == (_SHA256, _HASH_SIZE) else None


def enable(fd: int) -> bool:
    """Have the kernel verify a file from now on; it cannot be written any more. True where it is
    so, also when it was before; False where the file system or the kernel has no fs-verity.

    `fd` is open for reading, and nobody has the file open for writing.
    """
    try:
        fcntl.ioctl(fd, _ENABLE, _ENABLE_ARGUMENT)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        if error.errno != errno.EEXIST:
            raise
    return True
