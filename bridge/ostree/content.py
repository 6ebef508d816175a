"""How each repository mode keeps a file's content: reading a content object back.

bare: the file or link itself, with its owner, mode and xattrs. bare-user: a regular file owned
by the user, metadata in the xattr `user.ostreemeta`, a link's target as content that ends in NUL.
archive: `.filez`, a header and the payload as raw deflate.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
import zlib
from typing import BinaryIO

from bridge import limits
from bridge.errors import DamagedRepository
from bridge.ostree import objects
from bridge.ostree.objects import FileMeta

BARE_USER_XATTR = "user.ostreemeta"
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""To open an object: what is none, a FIFO say, keeps nobody waiting."""


def open_bare(path: str, dir_fd: int) -> tuple[FileMeta, BinaryIO | None]:
    """Open a content object of a bare repository; links have no payload."""
    try:
        fd = os.open(path, READ_FLAGS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return _bare_link(path, dir_fd), None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise DamagedRepository(f"{path} is neither a regular file nor a link")
    names = os.listxattr(fd)
    xattrs = tuple(sorted((os.fsencode(name), os.getxattr(fd, name)) for name in names))
    meta = FileMeta(status.st_uid, status.st_gid, status.st_mode, xattrs)
    return meta, open(fd, "rb", buffering=0)


def _bare_link(path: str, dir_fd: int) -> FileMeta:
    status = os.lstat(path, dir_fd=dir_fd)
    target = _target(os.fsencode(os.readlink(path, dir_fd=dir_fd)), path)
    # There is no *xattrat system call before Linux 6.13: go by the directory's magic link.
    full = f"/proc/self/fd/{dir_fd}/{path}"
    names = os.listxattr(full, follow_symlinks=False)
    pairs = [(os.fsencode(n), os.getxattr(full, n, follow_symlinks=False)) for n in names]
    return FileMeta(status.st_uid, status.st_gid, status.st_mode, tuple(sorted(pairs)), target)


def open_bare_user(path: str, dir_fd: int) -> tuple[FileMeta, BinaryIO | None]:
    """Open a content object of a bare-user repository."""
    fd = os.open(path, READ_FLAGS, dir_fd=dir_fd)
    file = open(fd, "rb", buffering=0)  # noqa: SIM115
    try:
        uid, gid, mode, xattrs = objects.decode_filemeta(os.getxattr(fd, BARE_USER_XATTR))
        if not stat.S_ISLNK(mode):
            return FileMeta(uid, gid, mode, xattrs), file
        raw = file.read(limits.PATH_MAX + 2)
    except OSError as error:
        file.close()
        raise DamagedRepository(f"{path} has no usable {BARE_USER_XATTR}: {error}") from None
    except BaseException:
        file.close()
        raise
    file.close()
    return FileMeta(uid, gid, mode, xattrs, _target(raw.removesuffix(b"\0"), path)), None


def _target(raw: bytes, path: str) -> str:
    try:
        target = raw.decode()
    except UnicodeDecodeError:
        target = ""
    if not target or "\0" in target:
        raise DamagedRepository(f"{path} is a link to {raw[:100]!r}, which cannot be stored")
    return target


def open_archive(path: str, dir_fd: int) -> tuple[FileMeta, BinaryIO | None]:
    """Open a content object of an archive repository; the payload is inflated as it is read."""
    fd = os.open(path, READ_FLAGS, dir_fd=dir_fd)
    file = open(fd, "rb")  # noqa: SIM115
    try:
        head = file.read(8)
        size = int.from_bytes(head[:4], "big")
        if len(head) < 8 or size > limits.METADATA_MAX:
            raise DamagedRepository(f"{path} has no archive header")
        meta, payload = objects.parse_archive_header(file.read(size))
    except BaseException:
        file.close()
        raise
    if meta.is_symlink:
        file.close()
        return meta, None
    return meta, io.BufferedReader(_Inflate(file, payload, path), limits.BLOB_BUFFER)


def payload_size(payload: BinaryIO) -> int:
    """Return how many bytes a payload has that one of these functions opened."""
    raw = getattr(payload, "raw", None)
    return raw.size if isinstance(raw, _Inflate) else os.fstat(payload.fileno()).st_size


class _Inflate(io.RawIOBase):
    """The payload of a `.filez`, held to the size that its header gives."""

    def __init__(self, file: BinaryIO, size: int, path: str) -> None:
        self._file = file
        self.size = self._left = size
        self._path = path
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._inflater.eof:
            data = self._inflater.unconsumed_tail or self._file.read(limits.BLOB_BUFFER)
            try:
                out = self._inflater.decompress(data, len(buffer))
            except zlib.error as error:
                raise DamagedRepository(f"{self._path} cannot be inflated: {error}") from None
            if out:
                self._left -= len(out)
                buffer[: len(out)] = out
                return len(out)
            if not data:
                raise DamagedRepository(f"{self._path} ends in the middle")
        if self._left:
            raise DamagedRepository(f"{self._path} is not of the size that its header gives")
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()


class HalfRead:
    """Payloads of an archive repository that were read in part, to be gone on with: else each of
    an object's pieces would cost all that comes before it. Safe for several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: list[tuple[str, int, BinaryIO]] = []  # the last used one is last

    def take(self, checksum: str, offset: int) -> tuple[int, BinaryIO] | None:
        """Return a payload of that object that was read up to `offset`, or less far, and how far;
        None if there is none. It is the caller's then."""
        with self._lock:
            found = [each for each in self._kept if each[0] == checksum and each[1] <= offset]
            if not found:
                return None
            best = max(found, key=lambda each: each[1])
            self._kept.remove(best)
            return best[1:]

    def keep(self, checksum: str, position: int, payload: BinaryIO) -> None:
        """Take a payload that was read up to `position`."""
        with self._lock:
            self._kept.append((checksum, position, payload))
            if len(self._kept) > self._most:
                self._kept.pop(0)[2].close()

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            while self._kept:
                self._kept.pop()[2].close()
