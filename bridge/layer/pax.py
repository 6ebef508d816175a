"""Pax extended headers: POSIX.1-2017 `pax`, section "pax Extended Header", and the vendors' keys.

Read are `path`, `linkpath`, `size`, `uid`, `gid`, `mtime`, extended attributes as star, GNU tar
and Go write them (`SCHILY.xattr.NAME`, raw value) and as libarchive does (`LIBARCHIVE.xattr.NAME`,
escaped name, base64 value), and GNU tar's `GNU.sparse.*`. Other keys are passed over.

GNU tar writes `%3D` and `%25` for `=` and `%` in an attribute's name and nobody else does: names
are taken as they stand, as container tools take them.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from bridge import limits
from bridge.errors import MalformedImage

Records = list[tuple[bytes, bytes]]

_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_SPARSE = b"GNU.sparse."
_TIME = re.compile(rb"(-?[0-9]{1,19})(\.[0-9]*)?")
_LENGTH_DIGITS_MAX = 8
ID_MAX = 2**32 - 2
"""The largest user or group: chown takes the next one for "leave as it is"."""
_SIZE_MAX = 2**63 - 1


@dataclass(slots=True)
class Pax:
    """What extended headers say of an entry; None where they say nothing."""

    path: str | None = None
    linkpath: str | None = None
    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime: int | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    sparse: Records = field(default_factory=list)
    """`GNU.sparse.*` records in their order, keys without that prefix."""


def parse_records(data: bytes) -> Records:
    """Split an extended header's body into its `LENGTH KEY=VALUE` records, in their order."""
    records: Records = []
    position, end = 0, len(data)
    while position < end:
        space = data.find(b" ", position, position + _LENGTH_DIGITS_MAX + 1)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise MalformedImage("pax record without a length")
        stop = position + int(digits)
        if stop > end or stop <= space + 1 or data[stop - 1] != 0x0A:
            raise MalformedImage("pax record of a wrong length")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise MalformedImage(f"pax record {key[:100]!r} is not KEY=VALUE")
        records.append((key, value))
        position = stop
    return records


def interpret(records: Records, base: Pax | None = None) -> Pax:
    """Return what the `records` of one entry say, over what global headers said (`base`).

    Of two records with one key the later one counts; an empty value takes the value of the
    global header away. Raises `MalformedImage` for values outside of their grammar or limits.
    """
    pax = Pax() if base is None else Pax(uid=base.uid, gid=base.gid, mtime=base.mtime)
    xattrs: dict[bytes, bytes] = {}
    foreign: dict[bytes, bytes] = {}
    for key, value in records:
        if key == b"path":
            pax.path = _text("path", value)
        elif key == b"linkpath":
            pax.linkpath = _text("linkpath", value)
        elif key == b"size":
            pax.size = _number("size", value, _SIZE_MAX)
        elif key == b"uid":
            pax.uid = _number("uid", value, ID_MAX)
        elif key == b"gid":
            pax.gid = _number("gid", value, ID_MAX)
        elif key == b"mtime":
            pax.mtime = _time(value)
        elif key.startswith(_SCHILY):
            _store(xattrs, key[len(_SCHILY) :], value)
        elif key.startswith(_LIBARCHIVE):
            _store(foreign, unquote_to_bytes(key[len(_LIBARCHIVE) :]), _base64(value))
        elif key.startswith(_SPARSE):
            pax.sparse.append((key[len(_SPARSE) :], value))
    for name, value in foreign.items():
        if xattrs.setdefault(name, value) != value:
            raise MalformedImage(f"pax header gives extended attribute {name!r:.300} two values")
    if xattrs:
        pax.xattrs = tuple(sorted(xattrs.items()))
    return pax


def interpret_global(records: Records, base: Pax) -> Pax:
    """Return what a global header says, over the one before it.

    Values that belong to a single file are refused: readers disagree on them, so that two of
    them would see different trees.
    """
    pax = interpret(records, base)
    single = (pax.path, pax.linkpath, pax.size)
    if single != (None, None, None) or pax.xattrs or pax.sparse:
        raise MalformedImage("global pax header with a value for a single file")
    return pax


def decode_text(what: str, value: bytes) -> str:
    """Return a path or link target; `MalformedImage` unless it is UTF-8 of a bearable length."""
    if len(value) > limits.PATH_MAX:
        raise MalformedImage(f"{what} of {len(value)} bytes; the limit is {limits.PATH_MAX}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedImage(f"{what} {value!r:.300} is not UTF-8") from None


def _text(what: str, value: bytes) -> str | None:
    if b"\0" in value:
        raise MalformedImage(f"pax {what} {value!r:.300} has a NUL in it")
    return decode_text(f"pax {what}", value) or None


def _number(what: str, value: bytes, most: int) -> int | None:
    if not value:
        return None
    if not value.isdigit() or len(value) > 20 or int(value) > most:
        raise MalformedImage(f"pax {what} {value!r:.100} is not a number up to {most}")
    return int(value)


def _time(value: bytes) -> int | None:
    if not value:
        return None
    match = _TIME.fullmatch(value)
    if match is None:
        raise MalformedImage(f"pax mtime {value!r:.100} is not a time")
    seconds = int(match[1])
    fraction = (match[2] or b"").strip(b".0")
    return seconds - 1 if fraction and value.startswith(b"-") else seconds


def _store(xattrs: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    if not name or b"\0" in name or len(name) > limits.XATTR_NAME_MAX:
        raise MalformedImage(f"pax header with an extended attribute named {name!r:.300}")
    if len(value) > limits.XATTR_VALUE_MAX:
        raise MalformedImage(
            f"extended attribute {name!r} of {len(value)} bytes; the limit is"
            f" {limits.XATTR_VALUE_MAX}"
        )
    xattrs[name] = value


def _base64(value: bytes) -> bytes:
    # libarchive leaves the padding out.
    try:
        bare = value.rstrip(b"=")
        return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except binascii.Error:
        raise MalformedImage("pax header with an extended attribute that is not base64") from None
