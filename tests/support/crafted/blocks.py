"""Tar archives, block by block: whatever a header can say, true or not.

Formats: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and
"Sparse Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from support.images import Member

END = bytes(1024)
USTAR = b"ustar\x0000"
GNU = b"ustar  \0"
_OCTAL_ID_MAX = 0o7777777
_OCTAL_SIZE_MAX = 8**11 - 1


def header(
    name: bytes = b"f",
    kind: bytes = b"0",
    size: int | bytes = 0,
    *,
    mode: bytes = b"0000644\0",
    uid: bytes = b"0000000\0",
    gid: bytes = b"0000000\0",
    mtime: bytes = b"00000000000\0",
    target: bytes = b"",
    magic: bytes = USTAR,
    major: bytes = b"0000000\0",
    minor: bytes = b"0000000\0",
    rest: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Return a header block. `rest` is what follows the device numbers: the prefix, as a rule."""
    if isinstance(size, int):
        size = b"%011o\0" % size if size <= _OCTAL_SIZE_MAX else base256(size, 12)
    before = struct.pack("100s8s8s8s12s12s", name, mode, uid, gid, size, mtime)
    after = struct.pack("1s100s8s32s32s8s8s", kind, target, magic, b"", b"", major, minor)
    after = (after + rest).ljust(356, b"\0")
    if checksum is None:
        checksum = b"%06o\0 " % (sum(before) + 8 * 32 + sum(after))
    return before + checksum + after


def base256(number: int, width: int) -> bytes:
    """Return a number as GNU tar writes those that are too large, or negative, for octal digits."""
    return bytes([0x80 if number >= 0 else 0xFF]) + (number % 256 ** (width - 1)).to_bytes(
        width - 1, "big"
    )


def body(data: bytes) -> bytes:
    """Return a payload, padded to whole blocks."""
    return data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, whose length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def pax(*records: tuple[bytes, bytes] | bytes, kind: bytes = b"x") -> bytes:
    """Return an extended header of records, each a pair or raw."""
    data = b"".join(item if isinstance(item, bytes) else record(*item) for item in records)
    return header(b"PaxHeaders/f", kind, len(data)) + body(data)


def long(kind: bytes, text: bytes) -> bytes:
    """Return GNU's header for a long name (`L`) or link target (`K`)."""
    return header(b"././@LongLink", kind, len(text), magic=GNU) + body(text)


def sparse_old(
    pieces: list[tuple[int, int]],
    real: int,
    stored: int,
    more: int = 0,
    magic: bytes = GNU,
    name: bytes = b"s",
) -> bytes:
    """Return the header of an old GNU sparse file, with up to four pieces."""
    table = b"".join(b"%011o\0%011o\0" % piece for piece in pieces).ljust(96, b"\0")
    rest = bytes(41) + table + bytes([more]) + (b"%011o\0" % real)[-12:]
    return header(name, b"S", stored, magic=magic, rest=rest)


def sparse_pax(payload: bytes, *records: tuple[bytes, bytes], name: bytes = b"s") -> bytes:
    """Return a sparse file as pax has it: `GNU.sparse.*` records, keys without that prefix."""
    full = [(b"GNU.sparse." + key, value) for key, value in records]
    return pax(*full) + header(name, size=len(payload)) + body(payload)


def file(name: bytes, data: bytes = b"", **fields: bytes) -> bytes:
    """Return a header and its payload."""
    return header(name, size=len(data), **fields) + body(data)  # type: ignore[arg-type]


def archive(items: Iterable[Member | bytes], form: str = "pax", end: bytes = END) -> bytes:
    """Return an archive of entries, in the dialect `ustar`, `gnu` or `pax`, and of raw blocks."""
    return b"".join(i if isinstance(i, bytes) else entry(i, form) for i in items) + end


def entry(member: Member, form: str = "pax") -> bytes:
    """Return an entry in a dialect; ustar's has no room for what does not fit into its header."""
    name, target = _text(member.path), _text(member.target)
    before, rest = b"", b""
    records: list[tuple[bytes, bytes]] = []
    numbers = {"uid": member.uid, "gid": member.gid}
    if form == "ustar":
        if len(name) > 100:
            rest, _, name = _split(name)
    elif form == "gnu":
        before += long(b"L", name + b"\0") if len(name) > 100 else b""
        before += long(b"K", target + b"\0") if len(target) > 100 else b""
    else:
        records += [(b"path", name)] if len(name) > 100 else []
        records += [(b"linkpath", target)] if len(target) > 100 else []
        records += [
            (key.encode(), str(number).encode())
            for key, number in numbers.items()
            if number > _OCTAL_ID_MAX
        ]
    records += [(b"SCHILY.xattr." + _text(k), _text(v)) for k, v in member.xattrs.items()]
    before += pax(*records) if records else b""
    ids = {
        key: b"%07o\0" % number if number <= _OCTAL_ID_MAX else
        base256(number, 8) if form == "gnu" else b"0000000\0"
        for key, number in numbers.items()
    }  # fmt: skip
    major, minor = (b"%07o\0" % number for number in member.device)
    return (
        before
        + header(
            name[:100],
            member.kind,
            len(member.data),
            mode=b"%07o\0" % member.mode,
            target=target[:100],
            magic=GNU if form == "gnu" else USTAR,
            major=major,
            minor=minor,
            rest=rest,
            **ids,
        )
        + body(member.data)
    )


def _split(name: bytes) -> tuple[bytes, bytes, bytes]:
    """Split a long name at the last slash that leaves both parts short enough."""
    cut = name.index(b"/", len(name) - 101)
    return name[:cut], b"/", name[cut + 1 :]


def _text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
