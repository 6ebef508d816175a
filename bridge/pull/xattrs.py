"""Extended attributes of an entry: the image's own, those it cannot bring, those no file can have.

An attribute that the kernel would keep otherwise than it was written makes an object that is
damaged from the start, so what Linux says of them is checked before: `xattr(7)`, `acl(5)`, and
the kernel's `fs/posix_acl.c` and `security/commoncap.c`.
"""

from __future__ import annotations

import struct

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.tar import Entry, EntryType
from bridge.ostree.objects import Xattrs

LABEL = b"security.selinux"
_FOREIGN = (b"trusted.overlay.", b"user.overlay.", b"user.ostreemeta", LABEL)
"""Attributes that mean something to a store or to the host's policy, not to the image."""
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACCESS, _DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_CAPABILITY = b"security.capability"

_VERSION = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_NOBODY = 0xFFFFFFFF


def own(entry: Entry) -> tuple[Xattrs, list[str]]:
    """Return the attributes that come along with an entry, and the names of those left out.

    Left out is what no file of that kind can have, what is the host's or the store's, and what
    has no value. Raises `MalformedImage` for a capability or an access control list that the
    kernel would not keep as it is, and for more of them than one file can carry.
    """
    if not entry.xattrs:
        return (), []
    kept: list[tuple[bytes, bytes]] = []
    dropped = []
    for name, value in entry.xattrs:
        # libostree does not see an empty one on a file of a bare repository, so that an object
        # with one is damaged to it.
        if value and _may_have(entry.type, name) and not name.startswith(_FOREIGN):
            kept.append((name, value))
        else:
            dropped.append(name.decode(errors="replace"))
    for name, value in kept:
        if name == _CAPABILITY:
            _check_capability(entry, value)
        elif name in (_ACCESS, _DEFAULT):
            _check_acl(entry, name, value)
    total = sum(len(name) + len(value) for name, value in kept)
    if total > limits.XATTRS_MAX:
        raise MalformedImage(
            f"{entry.path!r:.300} has extended attributes of {total} bytes; the limit is"
            f" {limits.XATTRS_MAX}"
        )
    return tuple(kept), dropped


def _may_have(kind: EntryType, name: bytes) -> bool:
    """Tell whether Linux lets a file of that kind have an attribute of that name."""
    if name.endswith(b"."):
        return False
    if kind is EntryType.SYMLINK:
        return name.startswith(_NAMESPACES[1:]) and name != _CAPABILITY
    if name in (_ACCESS, _DEFAULT):
        return True
    if name == _CAPABILITY:
        return kind is EntryType.FILE
    return name.startswith(_NAMESPACES)


def _check_capability(entry: Entry, value: bytes) -> None:
    version = _VERSION.unpack_from(value)[0] & ~1 if len(value) >= 4 else 0
    # One of version 3 for root is kept as one of version 2.
    good = (len(value), version) == (20, 2 << 24) or (
        (len(value), version) == (24, 3 << 24) and value[20:] != bytes(4)
    )
    if not good:
        raise MalformedImage(f"{entry.path!r:.300} has a file capability that Linux does not take")


def _check_acl(entry: Entry, name: bytes, value: bytes) -> None:
    try:
        modes = _parse_acl(value)
        if name == _DEFAULT:
            good = entry.type is EntryType.DIRECTORY
        else:
            # Without a mask it says no more than a mode, and is kept as one.
            good = _MASK in modes and entry.mode & 0o777 == (
                modes[_OWNER] << 6 | modes[_MASK] << 3 | modes[_OTHER]
            )
    except (ValueError, KeyError, struct.error):
        good = False
    if not good:
        raise MalformedImage(
            f"{entry.path!r:.300} has an access control list that Linux would not keep"
        )


def _parse_acl(value: bytes) -> dict[int, int]:
    """Return the permissions of each tag that may be there once; `ValueError` for no good list."""
    if _VERSION.unpack_from(value)[0] != 2:
        raise ValueError("version")
    modes: dict[int, int] = {}
    last = 0
    named = False
    for tag, permissions, owner in _ACL_ENTRY.iter_unpack(value[4:]):
        repeatable = tag in (_USER, _GROUP)
        if tag < last or (tag == last and not repeatable) or permissions > 7:
            raise ValueError("order")
        if (owner == _NOBODY) is repeatable or tag not in (1, 2, 4, 8, 16, 32):
            raise ValueError("tag")
        last, named = tag, named or repeatable
        modes[tag] = permissions
    if not {_OWNER, _OWNING_GROUP, _OTHER} <= modes.keys() or (named and _MASK not in modes):
        raise ValueError("entries")
    return modes
