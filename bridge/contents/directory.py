"""The view of a directory: the root of the system that runs, or of one that is being built."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from bridge import limits
from bridge.contents.contents import Contents, Node
from bridge.errors import BridgeError, MalformedImage
from bridge.layer.tar import EntryType

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def of_directory(fd: int) -> Contents:
    """Return what is below a directory, as it is now; what is mounted there is left out, but for
    the mount points.

    `fd` must stay open. Raises `BridgeError` for what cannot be read, `MalformedImage` for more
    names than an image may have.
    """
    return _DirectoryContents(fd)


class _DirectoryContents(Contents):
    def __init__(self, fd: int) -> None:
        self._fd = fd
        found: dict[str, Node] = {}
        status = os.fstat(fd)
        self._device = status.st_dev
        found[""] = self._node("", "", fd, status)
        top = os.dup(fd)
        try:
            self._walk(top, "", found)
        except OSError as error:
            raise BridgeError(f"reading {error.filename}: {error.strerror}") from error
        finally:
            os.close(top)
        self.nodes = found

    def _walk(self, fd: int, path: str, found: dict[str, Node]) -> None:
        if path.count("/") > limits.DEPTH_MAX:
            raise MalformedImage(f"{path!r:.300} is too deep")
        for name in sorted(os.listdir(fd)):
            status = os.lstat(name, dir_fd=fd)
            below = f"{path}/{name}" if path else name
            if stat.S_IFMT(status.st_mode) not in _TYPES:
                continue  # a socket, which is somebody's who runs
            found[below] = self._node(below, name, fd, status)
            if len(found) > limits.ENTRIES_MAX:
                raise MalformedImage(f"a tree with more than {limits.ENTRIES_MAX} names")
            if stat.S_ISDIR(status.st_mode) and status.st_dev == self._device:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
                try:
                    self._walk(inner, below, found)
                finally:
                    os.close(inner)

    def _node(self, path: str, name: str, fd: int, status: os.stat_result) -> Node:
        kind = _TYPES[stat.S_IFMT(status.st_mode)]
        is_file = kind is EntryType.FILE
        return Node(
            path=path,
            type=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if is_file else 0,
            mtime=int(status.st_mtime // 1),
            target=os.readlink(name, dir_fd=fd) if kind is EntryType.SYMLINK else "",
            xattrs=_xattrs(name, fd),
            key=f"{status.st_dev}:{status.st_ino}" if is_file else "",
        )

    def chunks(self, node: Node) -> Iterator[bytes]:
        with open(self._open(node.path), "rb", buffering=0) as file:
            while chunk := file.read(limits.BLOB_BUFFER):
                yield chunk

    def _open(self, path: str) -> int:
        *parents, name = path.split("/")
        here = os.dup(self._fd)
        try:
            for part in parents:
                below = os.open(part, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            return os.open(name, _READ, dir_fd=here)
        except OSError as error:
            raise BridgeError(f"reading {path!r:.300}: {error.strerror}") from error
        finally:
            os.close(here)


def _xattrs(name: str, fd: int) -> tuple[tuple[bytes, bytes], ...]:
    # There is no *xattrat system call before Linux 6.13: go by the directory's magic link.
    place = f"/proc/self/fd/{fd}/{name}" if name else f"/proc/self/fd/{fd}/."
    try:
        names = os.listxattr(place, follow_symlinks=False)
        pairs = [(os.fsencode(n), os.getxattr(place, n, follow_symlinks=False)) for n in names]
    except OSError:
        return ()  # none are kept there, or they are nobody's business
    return tuple(sorted(pairs))
