"""Writes that survive a power cut: file system sync, directory sync, atomic replacement."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

_NEW = ".new"
_libc = ctypes.CDLL(None, use_errno=True)


def syncfs(fd: int) -> None:
    """Write everything of the file system that `fd` is on to the disk; `OSError` if that fails."""
    if _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"syncfs: {os.strerror(code)}")


def file_system(fd: int) -> int:
    """Return the magic number (statfs(2), `f_type`) of the file system that `fd` is on."""
    found = (ctypes.c_long * 64)()  # larger than struct statfs; a long comes first
    if _libc.fstatfs(fd, found) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"fstatfs: {os.strerror(code)}")
    return int(found[0]) & 0xFFFFFFFF


def sync_directory(name: str, dir_fd: int | None = None) -> None:
    """fsync the directory `name`, which makes the entries last that were made or renamed in it."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`; the kernel may take it in parts."""
    written = os.write(fd, data)
    if written != len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def write_all_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        offset += written
        rest = rest[written:]


def replace_file(name: str, data: bytes | Iterable[bytes], dir_fd: int, mode: int = 0o644) -> None:
    """Make `name` in `dir_fd` hold `data`: it holds all of the old or all of the new, always."""
    with new_file(name, dir_fd, mode) as file:
        for chunk in (data,) if isinstance(data, bytes) else data:
            write_all(file.fd, chunk)


@dataclass(slots=True)
class NewFile:
    """A file that is being written."""

    fd: int
    name: str
    """What it is going to be called; it may be decided at the end."""


@contextlib.contextmanager
def new_file(name: str, dir_fd: int, mode: int = 0o644) -> Iterator[NewFile]:
    """Give an empty file to write to. When the context ends it is on the disk, in the place of what
    had its name; when that raises, it is gone.

    It is written as `.NAME.new` first. A process that is cut off may leave that; the next to
    write `name` goes on with it.
    """
    temporary = _temporary(name)
    fd = _open_locked(temporary, dir_fd)
    try:
        os.ftruncate(fd, 0)
        file = NewFile(fd, name)
        yield file
        os.fchmod(fd, mode)
        os.fsync(fd)
        os.rename(temporary, file.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        os.unlink(temporary, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)
    os.fsync(dir_fd)


def _open_locked(name: str, dir_fd: int) -> int:
    """Open the file `name`, made if need be, for this descriptor alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        fd = os.open(name, flags, 0o600, dir_fd=dir_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Whoever held it before has renamed it: then it is no longer that file.
            there = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if os.path.samestat(there, os.fstat(fd)):
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def remove_unfinished(name: str, dir_fd: int) -> None:
    """Remove what a `replace_file` of `name` that was cut off left; not what is being written."""
    temporary = _temporary(name)
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        # Who waits for this lock finds the file gone, and makes another.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(temporary, dir_fd=dir_fd)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(fd)


def unfinished(name: str) -> str | None:
    """Return what a file of that name is to replace when it is finished; None: it is no such."""
    if name.startswith(".") and name.endswith(_NEW) and len(name) > len(_NEW) + 1:
        return name[1 : -len(_NEW)]
    return None


def _temporary(name: str) -> str:
    return f".{name}{_NEW}"


def append_line(name: str, line: str, dir_fd: int) -> None:
    """Add a line to the file `name`: it stands there whole or not at all.

    Where a process that was killed has cut the last line short, that one is ended first.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(name, flags, 0o644, dir_fd=dir_fd)
    try:
        size = os.fstat(fd).st_size
        is_whole = size == 0 or os.pread(fd, 1, size - 1) == b"\n"
        data = f"{line}\n".encode() if is_whole else f"\n{line}\n".encode()
        written = os.write(fd, data)
        if written != len(data):  # the disk is full, or will say what else it is
            try:
                write_all(fd, data[written:])
            except OSError:
                os.ftruncate(fd, os.fstat(fd).st_size - written)
                raise
    finally:
        os.close(fd)


def open_directory(name: str, dir_fd: int | None = None) -> int:
    """Return a descriptor of the directory `name` itself, never of one behind a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(name, flags, dir_fd=dir_fd)


def make_directories(path: str, dir_fd: int, mode: int = 0o755) -> int:
    """Make each directory of the relative `path` below `dir_fd`; return the last one's fd."""
    fd = os.dup(dir_fd)
    for part in path.split("/"):
        try:
            try:
                os.mkdir(part, mode, dir_fd=fd)
            except FileExistsError:
                below = open_directory(part, fd)
            else:
                below = open_directory(part, fd)
                os.fsync(fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def remove_tree(name: str, dir_fd: int) -> None:
    """Remove `name` in `dir_fd` with all below it, following no link. Gone already is done."""
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # unlink of a directory is EISDIR on Linux; EPERM elsewhere, and for immutable files.
        fd = open_directory(name, dir_fd)
    try:
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for each in names:
            remove_tree(each, fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def remove_others(directory: str, spared: Collection[str], dir_fd: int) -> None:
    """Remove all that is in `directory` but the names that are spared; no directory is none too
    many."""
    try:
        fd = open_directory(directory, dir_fd)
    except FileNotFoundError:
        return
    try:
        for name in set(os.listdir(fd)) - set(spared):
            remove_tree(name, fd)
    finally:
        os.close(fd)
