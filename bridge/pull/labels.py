"""SELinux labels, from the policy that an image carries.

A tree with `etc/selinux/config` (`usr/etc` in a commit) says which policy it has, and that one's
`contexts/files/file_contexts` which label each path gets. libselinux reads them and looks paths up:
its rules are the rules (selabel_file(5)). Nothing of this machine's policy is used.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge import limits
from bridge.errors import BridgeError, MalformedImage

XATTR = b"security.selinux"
CONFIG = "config"
_CONTEXTS = "contexts/files"
_LIBRARY = "libselinux.so.1"
_SELABEL_CTX_FILE = 0
_SELABEL_OPT_PATH = 3
_SELINUX_CB_LOG = 0


class _Option(ctypes.Structure):
    """`struct selinux_opt` (selinux/label.h)."""

    _fields_ = (("type", ctypes.c_int), ("value", ctypes.c_char_p))


def policy_type(config: bytes) -> str | None:
    """Return the name of the policy that a `config` file chooses; None where SELinux is off.

    The last line with a key counts, as for libostree.
    """
    kind, mode = None, "enforcing"
    for line in config.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals and key == "SELINUXTYPE":
            kind = value.strip()
        elif equals and key == "SELINUX":
            mode = value.strip()
    if mode == "disabled" or not kind:
        return None
    if "/" in kind or kind.startswith("."):
        raise MalformedImage(f"its SELinux policy is named {kind!r:.100}")
    return kind


class Labels:
    """Looks labels up in one policy's file contexts. Close it; safe for one thread."""

    def __init__(self, contexts: Path) -> None:
        """Open the file `contexts`, with those beside it that libselinux reads along."""
        self._library = _library()
        option = _Option(_SELABEL_OPT_PATH, os.fsencode(contexts))
        self._handle = self._library.selabel_open(_SELABEL_CTX_FILE, ctypes.byref(option), 1)
        if not self._handle:
            error = ctypes.get_errno()
            raise MalformedImage(f"its SELinux file contexts cannot be read: {os.strerror(error)}")

    def close(self) -> None:
        if self._handle:
            self._library.selabel_close(self._handle)
            self._handle = None

    def of(self, path: str, mode: int) -> bytes | None:
        """Return the label of the absolute `path`, with the NUL that it is stored with.

        `mode` has the file type's bits. None for what the policy leaves unlabelled.
        """
        found = ctypes.c_char_p()
        name = os.fsencode(path)
        if self._library.selabel_lookup_raw(self._handle, ctypes.byref(found), name, mode):
            error = ctypes.get_errno()
            if error == errno.ENOENT:
                return None
            raise BridgeError(f"the SELinux label of {path!r:.300}: {os.strerror(error)}")
        label = (found.value or b"") + b"\0"
        self._library.freecon(found)
        return label


Read = Callable[[str], bytes | None]
"""Returns the content of a file below `etc/selinux`; None where there is none."""
Names = Callable[[str], list[str]]
"""Returns the names of the files in a directory below `etc/selinux`; none where there is none."""


@contextmanager
def opened(read: Read, names: Names) -> Iterator[Labels | None]:
    """Yield the labels of the policy that can be read with `read` and `names`; None without one.

    Raises `BridgeError` where there is a policy and no libselinux to read it.
    """
    config = read(CONFIG)
    kind = None if config is None else policy_type(config)
    if kind is None:
        yield None
        return
    texts = sorted(
        each for each in names(f"{kind}/{_CONTEXTS}") if each.startswith("file_contexts")
    )
    if "file_contexts" not in texts:
        # The compiled form alone will not do: its version has to be this machine's.
        raise MalformedImage(f"its SELinux policy {kind} has no file_contexts")
    _library()
    with tempfile.TemporaryDirectory(prefix="bootc-py-selinux-") as work:
        for name in texts:
            if name.endswith(".bin"):
                continue
            data = read(f"{kind}/{_CONTEXTS}/{name}")
            if data is not None:
                (Path(work) / name).write_bytes(data)
        labels = Labels(Path(work) / "file_contexts")
        try:
            yield labels
        finally:
            labels.close()


def read_all(path: str, dir_fd: int) -> bytes | None:
    """Return a file of a policy below a directory; None where there is none, or a link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(fd, "rb") as file:
        data = file.read(limits.POLICY_MAX + 1)
    return checked(data, path)


def checked(data: bytes, path: str) -> bytes:
    """Return a file of a policy; `MalformedImage` where it is larger than one can be."""
    if len(data) > limits.POLICY_MAX:
        raise MalformedImage(f"its SELinux policy's {path} has more than {limits.POLICY_MAX} bytes")
    return data


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError:
        raise BridgeError(
            "the image carries an SELinux policy, and libselinux is not here to label files by "
            "it: install libselinux1 (Debian) or libselinux, or use --disable-selinux"
        ) from None
    library.selabel_open.restype = ctypes.c_void_p
    library.selabel_open.argtypes = (ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint)
    library.selabel_close.argtypes = (ctypes.c_void_p,)
    library.selabel_lookup_raw.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
    )
    library.freecon.argtypes = (ctypes.c_char_p,)
    library.selinux_set_callback(_SELINUX_CB_LOG, _QUIET)
    return library


_QUIET = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p)(lambda _kind, _text: 0)
"""Takes what libselinux would print: its errors come as exceptions."""
