"""Labels of what a deployment does not have from the store: its `/etc`, and the stateroot's `/var`.

Both get those of the policy in the deployment, by the paths that they have when it runs. `/etc` is
labelled with each deployment, what was brought over from the old one included; `/var` once, which
the stamp `.ostree-selabeled` in it says, as for libostree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.errors import BridgeError
from bridge.ostree import durable
from bridge.pull import labels
from bridge.pull.labels import Labels
from bridge.sysroot import files

_STAMP = ".ostree-selabeled"
_PLACES = ("etc/selinux", "usr/etc/selinux")


@contextmanager
def policy(tree: int) -> Iterator[Labels | None]:
    """Yield the labels of a deployed tree's policy, its `/etc` first; None where it has none."""
    place = next((each for each in _PLACES if files.lstat(tree, f"{each}/config")), None)
    if place is None:
        yield None
        return
    with files.directory(tree, place) as top:

        def read(path: str) -> bytes | None:
            parent, _, name = path.rpartition("/")
            try:
                with files.directory(top, parent) as fd:
                    return labels.read_all(name, fd)
            except (FileNotFoundError, NotADirectoryError):
                return None

        def names(path: str) -> list[str]:
            try:
                with files.directory(top, path) as fd:
                    return os.listdir(fd)
            except (FileNotFoundError, NotADirectoryError):
                return []

        with labels.opened(read, names) as found:
            yield found


def label(tree: int, var: int, found: Labels) -> None:
    """Label `/etc` of a deployed tree, and its stateroot's `var` if that was never done."""
    with files.doing("labelling /etc"), files.directory(tree, "etc") as etc:
        _label(etc, "/etc", found)
    if files.lstat(var, _STAMP) is None:
        with files.doing("labelling /var"):
            _label(var, "/var", found)
            durable.replace_file(_STAMP, b"", var)


def _label(fd: int, path: str, found: Labels) -> None:
    """Label a directory with all below it; other file systems are not gone into."""
    device = os.fstat(fd).st_dev
    _set(f"/proc/self/fd/{fd}/.", found.of(path, stat.S_IFDIR), path)
    for name in os.listdir(fd):
        status = os.lstat(name, dir_fd=fd)
        below = f"{path}/{name}"
        if stat.S_ISDIR(status.st_mode):
            if status.st_dev == device:
                with files.directory(fd, name) as child:
                    _label(child, below, found)
        else:
            _set(f"/proc/self/fd/{fd}/{name}", found.of(below, stat.S_IFMT(status.st_mode)), below)


def _set(place: str, label: bytes | None, path: str) -> None:
    name = labels.XATTR.decode()
    if label is None:
        return
    try:
        if os.getxattr(place, name, follow_symlinks=False) == label:
            return
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
    try:
        os.setxattr(place, name, label, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise BridgeError(
                f"{path} cannot be labelled: its file system has no SELinux labels; use another, "
                "or --disable-selinux"
            ) from None
        raise
