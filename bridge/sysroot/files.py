"""Small file operations, all relative to directory descriptors and never through symbolic links.

Those that are about durability are `bridge.ostree.durable`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import BridgeError, NoSpace, is_full

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
COPY_BUFFER = 1024 * 1024

# Linux uapi, linux/fs.h: the ioctls are declared with `long`, so their numbers depend on its size.
_FS_IOC_GETFLAGS = 0x80006601 | struct.calcsize("l") << 16
_FS_IOC_SETFLAGS = 0x40006602 | struct.calcsize("l") << 16
_FS_IMMUTABLE_FL = 0x10


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Turn an `OSError` in the block into one line that names what was being done.

    Raises `NoSpace` for a full file system or quota, `BridgeError` for everything else.
    """
    try:
        yield
    except OSError as error:
        name = f" ({error.filename!s})" if error.filename is not None else ""
        if is_full(error):
            raise NoSpace(f"{what}: the file system is full{name}") from error
        hint = ""
        if error.errno == errno.EROFS:
            hint = "; mount it writable first"
        elif error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
            hint = "; run as root"
        raise BridgeError(f"{what}: {error.strerror}{name}{hint}") from error


@contextlib.contextmanager
def after(done: str) -> Iterator[None]:
    """Have the errors of the block say what is done already, and stays so."""
    try:
        yield
    except BridgeError as error:
        raise type(error)(f"{done}, but {error}") from error


@contextlib.contextmanager
def directory(parent: int, path: str, *, create: int | None = None) -> Iterator[int]:
    """Open the directory `path` below `parent` component by component, no link followed.

    With `create`, missing directories are made with that mode. Yields a descriptor; raises
    `OSError` (`ENOTDIR` or `ELOOP` where something else is in the way).
    """
    current = os.dup(parent)
    try:
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if create is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, create, dir_fd=current)
            following = os.open(part, DIR_FLAGS, dir_fd=current)
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


def open_directory(path: Path) -> int:
    """Open a directory of this machine's by its path; the descriptor is the caller's to close."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def make_directories(parent: int, path: str, mode: int = 0o755) -> None:
    """Make the directory `path` below `parent`, and those above it, where they are missing."""
    with directory(parent, path, create=mode):
        pass


def lstat(parent: int, path: str) -> os.stat_result | None:
    """Return what is at `path` below `parent`, `None` when there is nothing."""
    try:
        return os.stat(path, dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names(parent: int, path: str) -> list[str]:
    """Return the names in the directory `path` below `parent`, sorted; none where there is none."""
    try:
        with directory(parent, path) as fd:
            return sorted(os.listdir(fd))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_link(parent: int, path: str) -> str | None:
    """Return where the symbolic link `path` points; `None` when there is nothing at `path`."""
    try:
        return os.readlink(path, dir_fd=parent)
    except FileNotFoundError:
        return None


def read_bytes(parent: int, path: str, limit: int) -> bytes:
    """Return the content of a regular file; `OSError` `EFBIG` when it is above `limit` bytes."""
    fd = os.open(path, READ_FLAGS, dir_fd=parent)
    with open(fd, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data


def replace_link(parent: int, name: str, target: str) -> None:
    """Make `name` a symbolic link to `target`; what was there is replaced in one step."""
    temporary = f"{name}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)
    os.symlink(target, temporary, dir_fd=parent)
    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def copy_bytes(source: int, target: int) -> None:
    """Copy the rest of one regular file into another, in the kernel."""
    while os.sendfile(target, source, None, COPY_BUFFER):
        pass


def set_immutable(fd: int, immutable: bool) -> bool:
    """Set or clear the immutable flag (`chattr +i`); return whether that was possible.

    File systems without the flag, and processes that may not change it, are no error: libostree
    goes on without it too.
    """
    raw = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, raw)
        # The kernel reads and writes an int, whatever the declared type says.
        flags = int(struct.unpack_from("i", raw)[0])
        wanted = flags | _FS_IMMUTABLE_FL if immutable else flags & ~_FS_IMMUTABLE_FL
        if wanted != flags:
            struct.pack_into("i", raw, 0, wanted)
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, bytes(raw))
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            return False
        raise
    return True
