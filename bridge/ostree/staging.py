"""The staging directory of one transaction: objects that nobody can see yet.

It lies in the repository's `tmp`, holds flat names (`CHECKSUM.file`, ...), and is locked while
its process lives: whoever finds one without a holder removes it. libostree leaves it alone.
Content is written here in the form that the repository's mode gives it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any, BinaryIO

from bridge import limits
from bridge.errors import BridgeError, NoSpace, is_full
from bridge.ostree import durable, objects
from bridge.ostree.content import BARE_USER_XATTR, READ_FLAGS
from bridge.ostree.objects import FileMeta
from bridge.ostree.space import Space

_PREFIX = "bootc-py-staging-"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_DEFLATE_LEVEL = 6
"""libostree's default for archive repositories."""
_HOLE = 16 * limits.KIB
"""Zeros from this size on are not written: a few blocks are hardly worth a system call."""
_TOLD_FILES, _TOLD_BYTES = 64, 256 * limits.KIB
"""So many files, or bytes of them, are told at once to be written."""
Clone = Callable[[int], bool]
"""Makes an empty file, by its descriptor, what is to be written to it; tells whether it could."""
_ZEROS = memoryview(bytes(limits.SMALL_FILE))


class Staging:
    """A private directory of new objects; what is written to it is counted by `space`."""

    def __init__(self, repo_fd: int, mode: str, space: Space) -> None:
        self._tmp = durable.open_directory("tmp", repo_fd)
        self._name, self.fd = _make_locked(self._tmp)
        self._mode = mode
        self._space = space
        self._umask = _umask()
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._now = time.time_ns()
        self._count = 0
        self._begun = self._begun_files = 0

    def remove(self) -> None:
        """Remove the directory with everything that is still in it."""
        self._end_all()
        durable.remove_tree(self._name, self._tmp)
        os.close(self.fd)  # and with it the lock: not before, for others may remove what has none
        os.close(self._tmp)

    def write_payload(
        self, name: str, meta: FileMeta, payload: bytes | memoryview, clone: Clone | None = None
    ) -> None:
        """Write a regular file whose checksum, so its final `name`, is known."""
        # Nobody else may enter this directory, but what could be run with another's rights
        # still gets its mode only when all of it is there.
        wanted = self._wanted_mode(meta)
        created = wanted & 0o777
        if self._mode == "bare-user":
            created |= stat.S_IWUSR  # without it only root could set the xattr
        try:
            self._begin(len(payload))
            fd = os.open(name, _CREATE, created, dir_fd=self.fd)
            try:
                if clone is None and len(payload) < _HOLE and self._mode != "archive":
                    durable.write_all(fd, payload)
                else:
                    self._fill(fd, meta, (payload,), len(payload), clone)
                self._finish(fd, meta, wanted, created)
            finally:
                os.close(fd)
        except OSError as error:
            raise _explain(error) from error

    def write_stream(
        self, meta: FileMeta, size: int, chunks: Iterable[Any], clone: Clone | None = None
    ) -> tuple[str, str]:
        """Write a regular file while it is hashed; return its checksum and its name for now."""
        self._count += 1
        name = f"stream-{self._count}"
        digest = hashlib.sha256(objects.content_header(meta))
        wanted = self._wanted_mode(meta)
        try:
            with self._space.writing(0, files=1):
                fd = os.open(name, _CREATE, 0o600, dir_fd=self.fd)
            try:
                with closing(self._counted(_hashed(chunks, digest))) as counted:
                    self._fill(fd, meta, counted, size, clone)
                self._finish(fd, meta, wanted, 0o600)
            finally:
                os.close(fd)
        except OSError as error:
            raise _explain(error) from error
        return digest.hexdigest(), name

    def discard(self, name: str, size: int) -> None:
        """Remove a file of `size` bytes that is not needed, and have its space back."""
        os.unlink(name, dir_fd=self.fd)
        self._space.give_back(size, files=1)

    def write_link(self, name: str, meta: FileMeta) -> None:
        """Write a symbolic link in the form that the mode gives it."""
        try:
            if self._mode == "bare":
                with self._space.writing(len(meta.target), files=1):
                    os.symlink(meta.target, name, dir_fd=self.fd)
                if (meta.uid, meta.gid) != (self._uid, self._gid):
                    os.chown(name, meta.uid, meta.gid, dir_fd=self.fd, follow_symlinks=False)
                for key, value in meta.xattrs:
                    path = f"/proc/self/fd/{self.fd}/{name}"
                    os.setxattr(path, os.fsdecode(key), value, follow_symlinks=False)
                return
            if self._mode == "archive":
                data = objects.archive_header(meta, 0)
            else:
                data = meta.target.encode("utf-8", "surrogateescape") + b"\0"
            with self._space.writing(len(data), files=1):
                fd = os.open(name, _CREATE, 0o644, dir_fd=self.fd)
                try:
                    durable.write_all(fd, data)
                    self._finish(fd, meta, 0o644, 0o644)
                finally:
                    os.close(fd)
        except OSError as error:
            raise _explain(error) from error

    def write_metadata(self, name: str, data: bytes) -> None:
        """Write a dirtree, dirmeta or commit object."""
        try:
            with self._space.writing(len(data), files=1):
                fd = os.open(name, _CREATE, 0o644, dir_fd=self.fd)
                try:
                    durable.write_all(fd, data)
                    if 0o644 & self._umask:
                        os.fchmod(fd, 0o644)
                finally:
                    os.close(fd)
        except OSError as error:
            raise _explain(error) from error

    def write_beside(self) -> Beside:
        """Return a new file that is no object."""
        self._count += 1
        return Beside(f"beside-{self._count}", self.fd, self._space)

    def _begin(self, size: int) -> None:
        """Have room for a new file of `size` bytes; `NoSpace` if there is none.

        The files before it are written by now, and that is told for many at once: this is done
        for each file. Until then they are taken for what may still come.
        """
        if self._begun_files >= _TOLD_FILES or self._begun >= _TOLD_BYTES:
            self._end_all()
        try:
            cost = self._space.begin(size, 1)
        except NoSpace:
            self._end_all()
            cost = self._space.begin(size, 1)
        self._begun += cost
        self._begun_files += 1

    def _end_all(self) -> None:
        self._space.end(self._begun, self._begun_files)
        self._begun = self._begun_files = 0

    def _counted(self, chunks: Iterable[Any]) -> Generator[Any, None, None]:
        """Yield the chunks; each one's room is held while whoever took it writes it."""
        for chunk in chunks:
            with self._space.writing(len(chunk)):
                yield chunk

    def _wanted_mode(self, meta: FileMeta) -> int:
        if self._mode == "bare":
            return stat.S_IMODE(meta.mode)
        if self._mode == "bare-user":
            return stat.S_IMODE(meta.mode) & 0o775 | stat.S_IRUSR
        return 0o644

    def _fill(
        self, fd: int, meta: FileMeta, chunks: Iterable[Any], size: int, clone: Clone | None
    ) -> None:
        if clone is not None and clone(fd):
            for _ in chunks:  # whoever gives them looks at them
                pass
            return
        if self._mode != "archive":
            ends_in_hole = False
            for chunk in chunks:
                if _is_hole(chunk):
                    os.lseek(fd, len(chunk), os.SEEK_CUR)  # zeros take no room on the disk
                    ends_in_hole = True
                elif chunk:
                    durable.write_all(fd, chunk)
                    ends_in_hole = False
            if ends_in_hole:
                os.ftruncate(fd, size)
            return
        durable.write_all(fd, objects.archive_header(meta, size))
        deflater = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        for chunk in chunks:
            durable.write_all(fd, deflater.compress(chunk))
        durable.write_all(fd, deflater.flush())

    def _finish(self, fd: int, meta: FileMeta, wanted: int, created: int) -> None:
        mode = created & ~self._umask
        if self._mode == "bare":
            if (meta.uid, meta.gid) != (self._uid, self._gid):
                os.fchown(fd, meta.uid, meta.gid)
            if mode != wanted:
                os.fchmod(fd, wanted)
            for key, value in meta.xattrs:
                os.setxattr(fd, os.fsdecode(key), value)
        else:
            if self._mode == "bare-user":
                os.setxattr(fd, BARE_USER_XATTR, objects.encode_filemeta(meta))
            if mode != wanted:
                os.fchmod(fd, wanted)
        if self._mode != "archive":
            # As libostree: objects are from 1970, whose change time tools cannot take for news.
            os.utime(fd, ns=(self._now, 0))


class Beside:
    """A staged file of our own corner, while it is written: no object, but counted like one."""

    def __init__(self, name: str, dir_fd: int, space: Space) -> None:
        self.name = name
        self._dir_fd = dir_fd
        self._space = space
        try:
            with space.writing(0, files=1):
                self._fd = os.open(name, _CREATE, 0o644, dir_fd=dir_fd)
        except OSError as error:
            raise _explain(error) from error

    def write(self, data: bytes | memoryview) -> None:
        """Add `data`."""
        try:
            with self._space.writing(len(data)):
                durable.write_all(self._fd, data)
        except OSError as error:
            raise _explain(error) from error

    def reader(self) -> BinaryIO:
        """Return what was written so far as a file."""
        return open(os.open(self.name, READ_FLAGS, dir_fd=self._dir_fd), "rb", buffering=0)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _make_locked(tmp: int) -> tuple[str, int]:
    while True:
        name = _PREFIX + secrets.token_hex(8)
        os.mkdir(name, 0o700, dir_fd=tmp)
        try:
            fd = durable.open_directory(name, tmp)
        except FileNotFoundError:
            continue  # taken for abandoned, before it could be locked
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)


def remove_abandoned(repo_fd: int) -> None:
    """Remove the staging directories whose processes are gone."""
    tmp = durable.open_directory("tmp", repo_fd)
    try:
        for name in os.listdir(tmp):
            if not name.startswith(_PREFIX):
                continue
            try:
                fd = durable.open_directory(name, tmp)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                durable.remove_tree(name, tmp)
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
    finally:
        os.close(tmp)


def _is_hole(chunk: bytes | memoryview) -> bool:
    size = len(chunk)
    return _HOLE <= size <= len(_ZEROS) and not chunk[0] and chunk == _ZEROS[:size]


def _hashed(chunks: Iterable[Any], digest: Any) -> Iterable[Any]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _umask() -> int:
    # os.umask() can only tell by changing it, under the feet of other threads.
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def _explain(error: OSError) -> BridgeError:
    if is_full(error):
        return NoSpace("no space left on the repository's file system; free some and try again")
    if error.errno in (errno.EPERM, errno.ENOTSUP):
        return BridgeError(
            f"cannot store a file's owner, mode or xattrs: {error.strerror}; a repository of mode "
            "bare-user needs no such rights"
        )
    return BridgeError(f"cannot write an object: {error.strerror or error}")
