"""SELinux labels: what a policy's file contexts say of a path, by the system's libselinux.

`selabel_open(3)`, `selabel_lookup(3)`, `selabel_file(5)`. Which policy a tree has, and when it
counts, is as libostree has it (`ostree-sepolicy.c`). Only the text of file contexts is used: their
compiled form (`.bin`) depends on the machine that it was made on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.errors import BridgeError, MalformedImage
from bridge.ostree.objects import FileMeta, Xattrs, check_name

XATTR = b"security.selinux"
COMMIT_KEY = "bootc-py.selinux"
"""In a commit's metadata: the policy by which its files are labelled; empty where they were left
without labels though the tree has a policy. Not there where it has none."""
CONFIG = "config"
"""In a tree's `selinux` directory: whether there is a policy to use, and its name."""
FILE_CONTEXTS = "file_contexts"
"""The policy's main file; beside it `.homedirs`, `.local`, `.subs` and `.subs_dist`."""

_ENFORCE = Path("/sys/fs/selinux/enforce")
"""There where the kernel uses SELinux."""
_LIBRARY = "libselinux.so.1"
_CTX_FILE = 0
_OPT_PATH = 3
_CB_LOG = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of a policy that says how files are labelled."""

    name: str
    files: Mapping[str, bytes]
    """Text files of the policy's `contexts/files` by name."""


def policy_name(config: bytes) -> str | None:
    """Return which policy `/etc/selinux/config` asks for; None where it asks for none.

    Raises `MalformedImage` for one that cannot be a directory's name.
    """
    name, enabled = None, False
    for line in config.decode(errors="replace").splitlines():
        if line.startswith("SELINUXTYPE="):
            name = line.removeprefix("SELINUXTYPE=").strip()
        elif line.startswith("SELINUX="):
            mode = line.removeprefix("SELINUX=").lower()
            enabled = enabled or mode.startswith(("enforcing", "permissive"))
    if not enabled or name is None:
        return None
    try:
        return check_name(name)
    except MalformedImage as error:
        raise MalformedImage(f"the SELinux policy in /etc/selinux/config: {error}") from None


def is_file_contexts(name: str) -> bool:
    """Tell whether a file of a policy's `contexts/files` says how files are labelled."""
    return name.startswith(FILE_CONTEXTS) and not name.endswith(".bin")


def contexts_directory(name: str) -> str:
    """Return where the file contexts of the policy of that name are, below `selinux`."""
    return f"{name}/contexts/files"


def with_label(xattrs: Xattrs, label: bytes | None) -> Xattrs:
    """Return the attributes with that label in place of any other; without one for None."""
    kept = without_label(xattrs)
    return kept if label is None else tuple(sorted((*kept, (XATTR, label))))


def without_label(xattrs: Xattrs) -> Xattrs:
    """Return the attributes but for the label."""
    return tuple(each for each in xattrs if each[0] != XATTR)


def as_stored(meta: FileMeta) -> tuple[FileMeta, ...]:
    """Return what a file of a bare repository may have been stored as, by what is read now.

    That is the same thing, but where SELinux is on: the kernel gives a label of its own to what
    is stored without one.
    """
    bare = replace(meta, xattrs=without_label(meta.xattrs))
    return (meta, bare) if bare != meta and _ENFORCE.exists() else (meta,)


class Labels:
    """A policy that is open for look-ups. A context manager."""

    def __init__(self, policy: Policy) -> None:
        """Raise `BridgeError` where there is no libselinux, `MalformedImage` where it refuses."""
        self._library = _library()
        self._policy = policy.name
        # The library reads files by name, and looks for the others beside the first.
        with tempfile.TemporaryDirectory(prefix="bootc-py-selinux-") as directory:
            for name, data in policy.files.items():
                if is_file_contexts(check_name(name)):
                    Path(directory, name).write_bytes(data)
            path = os.fsencode(os.path.join(directory, FILE_CONTEXTS))
            option = _Option(_OPT_PATH, path)
            self._handle = self._library.selabel_open(_CTX_FILE, ctypes.byref(option), 1)
            if not self._handle:
                raise self._refused("its file contexts")
        try:
            if self.lookup("/", 0o040755) is None:
                raise self._refused("/")  # as libostree: it is no policy for a system
        except BaseException:
            self.close()
            raise

    def lookup(self, path: str, mode: int) -> bytes | None:
        """Return the label of a file at the absolute `path`, as an xattr has it (with a NUL at its
        end); None where the policy says that it gets none. `mode` has the file type's bits."""
        context = ctypes.c_void_p()
        # Most policies leave /proc without a label, but the mount point has to have one.
        key = "/mnt" if path == "/proc" else path
        # Where a rule cannot be compiled none is set: an older one must not say that there is none.
        ctypes.set_errno(0)
        if self._library.selabel_lookup_raw(
            self._handle, ctypes.byref(context), key.encode("utf-8", "surrogateescape"), mode
        ):
            if ctypes.get_errno() == errno.ENOENT:
                return None
            raise self._refused(path)
        try:
            return ctypes.string_at(context.value or 0) + b"\0"
        finally:
            self._library.freecon(context)

    def close(self) -> None:
        """Let go of the policy; a second call does nothing."""
        if self._handle:
            self._library.selabel_close(self._handle)
            self._handle = None

    def __enter__(self) -> Labels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refused(self, what: str) -> MalformedImage:
        number = ctypes.get_errno()
        reason = os.strerror(number) if number else "a rule is none"
        return MalformedImage(
            f"libselinux cannot use the SELinux policy {self._policy} of the image ({what!r:.300}:"
            f" {reason}); `setfiles -c` in the image tells what is wrong with its file_contexts"
        )


class _Option(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("value", ctypes.c_char_p))


_NO_LOG = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p)(lambda _kind, _text: 0)
"""It would print lines of its own; what matters comes back as an error."""


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError:
        raise BridgeError(
            f"the image has an SELinux policy, and its files cannot be labelled without {_LIBRARY}:"
            " install libselinux1 (Debian) or libselinux (Fedora), or leave the files without"
            " labels with --disable-selinux"
        ) from None
    library.selabel_open.restype = ctypes.c_void_p
    library.selabel_open.argtypes = (ctypes.c_uint, ctypes.POINTER(_Option), ctypes.c_uint)
    library.selabel_lookup_raw.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_int,
    )
    library.selabel_close.argtypes = (ctypes.c_void_p,)
    library.freecon.argtypes = (ctypes.c_void_p,)
    library.selinux_set_callback(_CB_LOG, _NO_LOG)
    return library
