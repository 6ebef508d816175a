"""The three-way merge of `/etc`: what the administrator changed goes into the new defaults.

As libostree's merge_configuration_from: the changes from the old deployment's `/usr/etc` to its
`/etc` are applied to the new deployment's `/etc`, whole files at a time, and win over what the
image changed. Where this differs: a directory of which only owner or mode was changed keeps that,
and a file made a directory keeps what is in it, even if the image now has such a directory
(libostree has the new image's in both cases); no symbolic link is ever followed; conflicts are
found before anything is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridge.errors import BridgeError
from bridge.ostree import durable
from bridge.sysroot import files
from bridge.sysroot.etc_diff import Changes, below, diff


@dataclass(frozen=True, slots=True)
class EtcMerge:
    """How many paths were modified, removed and added, as libostree counts them."""

    modified: int = 0
    removed: int = 0
    added: int = 0


def merge(old_default: int, old_etc: int, new_etc: int) -> EtcMerge:
    """Apply the changes between the first two directories to the third.

    `old_default` is the old deployment's `usr/etc`, `old_etc` its `etc`, `new_etc` the new
    deployment's `etc`, which holds a fresh copy of its defaults. Raises `BridgeError` that names
    the paths where file and directory stand against one another; nothing has been written then.
    """
    changes, paths = _checked(old_default, old_etc, new_etc)
    for path in changes.removed:
        _remove(new_etc, path)
    done: set[str] = set()
    for path in paths:
        # A copied directory has brought everything below it; parents sort before children.
        if not any(parent in done for parent in _parents(path)) and _apply(old_etc, new_etc, path):
            done.add(path)
    return EtcMerge(len(changes.modified), len(changes.removed), len(changes.added))


def prepare(old_default: int, old_etc: int, new_etc: int) -> EtcMerge:
    """Make sure of what libostree is going to do as `merge` would: there is no good time to tell
    while a machine goes down. Returns how much that is by now; raises as `merge`.

    It would fail on some things that `merge` can do, and forget files in others: these are
    conflicts, too. Little is written: owner, mode and xattrs of directories, which it leaves as it
    finds them; and directories with sockets, FIFOs or device nodes, for what libostree before
    2024.2 copies as a whole must not have such.
    """
    changes, _paths = _checked(old_default, old_etc, new_etc, later=True)
    for path in changes.modified:
        if _is_directory(old_etc, path) and _is_directory(new_etc, path):
            with files.directory(old_etc, path) as here, files.directory(new_etc, path) as new:
                _copy_attributes(here, new)
    for path in (*changes.modified, *changes.added):
        if _is_special(old_etc, path):
            with _parent(old_etc, new_etc, path.rpartition("/")[0]):
                pass
    return EtcMerge(len(changes.modified), len(changes.removed), len(changes.added))


def _checked(
    old_default: int, old_etc: int, new_etc: int, *, later: bool = False
) -> tuple[Changes, list[str]]:
    """Return the changes and the paths to bring over; `BridgeError` where some cannot be."""
    changes = diff(old_default, old_etc)
    paths = _to_apply(changes, old_default, old_etc)
    conflicts = _conflicts(paths, changes.removed, old_etc, new_etc)
    if later:
        conflicts += _conflicts_for_libostree(changes, paths, old_default, old_etc, new_etc)
    if conflicts:
        more = f" and {len(conflicts) - 3} more" if len(conflicts) > 3 else ""
        raise BridgeError(
            f"merging /etc: {'; '.join(conflicts[:3])}{more}; move these aside and try again"
        )
    return changes, paths


def _conflicts_for_libostree(
    changes: Changes, paths: Sequence[str], old_default: int, old_etc: int, new_etc: int
) -> list[str]:
    """Name what libostree's merge fails on, or forgets, and ours does not."""
    made = {
        path
        for path in changes.modified
        if _is_directory(old_etc, path) and not _is_directory(old_default, path)
    }
    found = [
        f"/etc/{_show(path)} was made a directory here and in the image"
        for path in sorted(made)
        if _is_directory(new_etc, path)
    ]
    for path in changes.removed:
        above = _file_above(new_etc, path)
        if above is not None:
            where = f"/etc/{_show(above)} is a file in the image"
            found.append(f"/etc/{_show(path)} is deleted here and {where}")
    for path in paths:
        if not _is_special(old_etc, path):
            continue
        above = _file_above(new_etc, path) or next((p for p in _parents(path) if p in made), None)
        if _is_directory(new_etc, path):
            found.append(f"/etc/{_show(path)} is a special file here and a directory in the image")
        elif above is not None:
            what = f"a special file, and /etc/{_show(above)} no directory in an image"
            found.append(f"/etc/{_show(path)} is {what}")
    return found


def _file_above(top: int, path: str) -> str | None:
    """Return what stands in place of a directory above `path`, as seen from the top."""
    return next(
        (
            each
            for each in _parents(path)
            if files.lstat(top, each) is not None and not _is_directory(top, each)
        ),
        None,
    )


def _is_special(top: int, path: str) -> bool:
    """Tell whether a socket, FIFO or device node is there."""
    there = files.lstat(top, path)
    kinds = (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK)
    return there is not None and stat.S_IFMT(there.st_mode) not in kinds


def _is_directory(top: int, path: str) -> bool:
    """Tell whether there is a directory at `path`, and no symbolic link on the way."""
    there = (files.lstat(top, each) for each in (*_parents(path), path))
    return all(each is not None and stat.S_ISDIR(each.st_mode) for each in there)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _to_apply(changes: Changes, old_default: int, old_etc: int) -> list[str]:
    """Return what is to be brought over, parents before children.

    Where the administrator made a directory out of a file, that is all which is below it too: the
    image may have such a directory by now (there libostree forgets the administrator's files).
    """
    paths = {*changes.modified, *changes.added}
    for path in changes.modified:
        was, now = files.lstat(old_default, path), files.lstat(old_etc, path)
        if was and now and stat.S_ISDIR(now.st_mode) and not stat.S_ISDIR(was.st_mode):
            parent, slash, name = path.rpartition("/")
            with files.directory(old_etc, parent) as fd:
                paths |= set(below(fd, name, parent + slash))
    return sorted(paths)


def _conflicts(
    paths: Sequence[str], removed: Sequence[str], old_etc: int, new_etc: int
) -> list[str]:
    """Name the paths that cannot be brought over, once what was removed is gone."""
    gone, changed = set(removed), set(paths)
    found: dict[str, None] = {}
    for path in paths:
        for parent in _parents(path):
            there = files.lstat(new_etc, parent)
            if there is None or parent in gone:
                break
            if not stat.S_ISDIR(there.st_mode):
                # Unless it was itself changed here: then it replaces what the image has.
                if parent not in changed:
                    found[f"/etc/{_show(parent)} is a directory here and a file in the image"] = (
                        None
                    )
                break
        else:
            wanted = os.stat(path, dir_fd=old_etc, follow_symlinks=False)
            there = files.lstat(new_etc, path)
            if (
                there is not None
                and stat.S_ISDIR(there.st_mode)
                and (stat.S_ISREG(wanted.st_mode) or stat.S_ISLNK(wanted.st_mode))
            ):
                found[f"/etc/{_show(path)} is a file here and a directory in the image"] = None
    return list(found)


def _show(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()


def _remove(new_etc: int, path: str) -> None:
    parent, _, name = path.rpartition("/")
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        files.directory(new_etc, parent) as fd,
    ):
        durable.remove_tree(name, fd)


def _apply(old_etc: int, new_etc: int, path: str) -> bool:
    """Bring one path over; return whether it was a directory that was copied as a whole."""
    parent, _, name = path.rpartition("/")
    with (
        files.directory(old_etc, parent) as source,
        _parent(old_etc, new_etc, parent) as target,
    ):
        there = files.lstat(target, name)
        wanted = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(wanted.st_mode):
            if there is not None and stat.S_ISDIR(there.st_mode):
                with files.directory(source, name) as here, files.directory(target, name) as new:
                    _copy_attributes(here, new)
                return False
            if there is not None:
                os.unlink(name, dir_fd=target)
            copy_directory(source, name, target)
            return True
        if there is not None and not stat.S_ISDIR(there.st_mode):
            os.unlink(name, dir_fd=target)
        copy_file(source, name, target)
        return False


@contextlib.contextmanager
def _parent(old_etc: int, new_etc: int, path: str) -> Iterator[int]:
    """Open the directory `path` of the new `/etc`; it takes the old one's owner and mode.

    So do those above it that have to be made; the others keep theirs. As libostree does.
    """
    parts = path.split("/") if path else []
    source, target = os.dup(old_etc), os.dup(new_etc)
    try:
        for place, part in enumerate(parts, 1):
            made = files.lstat(target, part) is None
            if made:
                os.mkdir(part, 0o700, dir_fd=target)
            source = _enter(source, part)
            target = _enter(target, part)
            if made or place == len(parts):
                _copy_attributes(source, target)
        yield target
    finally:
        os.close(source)
        os.close(target)


def _enter(fd: int, name: str) -> int:
    following = os.open(name, files.DIR_FLAGS, dir_fd=fd)
    os.close(fd)
    return following


def copy_directory(source: int, name: str, target: int) -> None:
    """Copy the directory `name` with all below it and its owners, modes and xattrs."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=target)
    with files.directory(source, name) as here, files.directory(target, name) as new:
        _copy_attributes(here, new)
        for child in os.listdir(here):
            if stat.S_ISDIR(os.stat(child, dir_fd=here, follow_symlinks=False).st_mode):
                copy_directory(here, child, new)
            else:
                copy_file(here, child, new)


def copy_file(source: int, name: str, target: int) -> None:
    """Copy a regular file or symbolic link with owner, mode, xattrs and a file's times.

    Sockets, FIFOs and device nodes are passed over, as by libostree.
    """
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        _copy_link_xattrs(source, target, name)
    elif stat.S_ISREG(found.st_mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with (
            open(os.open(name, files.READ_FLAGS, dir_fd=source), "rb", buffering=0) as reader,
            open(os.open(name, flags, 0o600, dir_fd=target), "wb", buffering=0) as writer,
        ):
            files.copy_bytes(reader.fileno(), writer.fileno())
            _copy_attributes(reader.fileno(), writer.fileno())
            os.utime(writer.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


def _copy_attributes(source: int, target: int) -> None:
    found = os.fstat(source)
    # Owner before mode and xattrs: a change of owner clears set-id bits and capabilities.
    os.fchown(target, found.st_uid, found.st_gid)
    for name in _xattrs(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(found.st_mode))


def _copy_link_xattrs(source: int, target: int, name: str) -> None:
    # There is no lgetxattrat; a link cannot be opened for these calls either.
    here, there = (f"/proc/self/fd/{fd}/{name}" for fd in (source, target))
    for attribute in _xattrs(here):
        value = os.getxattr(here, attribute, follow_symlinks=False)
        os.setxattr(there, attribute, value, follow_symlinks=False)


def _xattrs(where: int | str) -> list[str]:
    try:
        return os.listxattr(where, follow_symlinks=isinstance(where, int))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
