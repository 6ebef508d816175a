"""Header blocks of tar: V7, ustar (POSIX.1-1988), GNU and star layouts, numbers and checksums."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import NamedTuple

from bridge.errors import MalformedImage
from bridge.layer.pax import ID_MAX, decode_text

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

_NUMBER_MAX = 2**63 - 1
_SPACES = 8 * 0x20


class Header(NamedTuple):
    """A header block's fields; sizes in bytes, `kind` the type flag's byte."""

    kind: int
    name: bytes
    """Not decoded: where an extended header has the whole name, this one is cut anywhere."""
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    block: bytes


def parse_header(block: bytes) -> Header:
    """Parse a block of 512 bytes that is not all zeros; `MalformedImage` when it is no header."""
    check_sum(block)
    magic = block[257:263]
    name = block[: block.find(0, 0, 100)] if 0 in block[:100] else block[:100]
    if magic == b"ustar\0" and block[345]:
        # star keeps times in the last 24 bytes of the prefix and says so at the very end.
        star = block[508:512] == b"tar\0"
        prefix = block[345:476] if star else block[345:500]
        name = prefix.partition(b"\0")[0] + b"/" + name
    mode, uid, gid = _owner(block[100:124])
    return Header(
        block[156],
        name,
        mode,
        uid,
        gid,
        parse_number("size", block[124:136]),
        parse_number("mtime", block[136:148], negative=True),
        block,
    )


def link_target(block: bytes) -> str:
    """Return the header's own link target."""
    return decode_text("link target", block[157:257].partition(b"\0")[0])


def device_number(block: bytes) -> tuple[int, int]:
    """Return major and minor number; V7 headers have none."""
    if block[257:262] != b"ustar":
        return (0, 0)
    return (
        parse_number("device major", block[329:337]),
        parse_number("device minor", block[337:345]),
    )


def is_gnu(block: bytes) -> bool:
    """Tell whether the header is laid out as GNU tar's own format."""
    return block[257:265] == b"ustar  \0"


def check_sum(block: bytes) -> None:
    """Hold a block to its checksum: the sum of its bytes, the field itself counted as spaces.

    Old writers summed signed characters; both sums are good, as POSIX asks of readers.
    """
    field = block[148:156]
    stored = parse_number("checksum", field)
    if block.isascii():
        # Adler-32's low half is one more than the sum modulo 65521, which 512 ASCII bytes
        # cannot reach: a tenth of the time of sum().
        if (zlib.adler32(block) & 0xFFFF) - 1 - sum(field) + _SPACES != stored:
            raise MalformedImage("tar header with a wrong checksum")
        return
    rest = block[:148] + block[156:]
    unsigned = sum(rest) + _SPACES
    signed = unsigned - 256 * sum(byte >> 7 for byte in rest)
    if stored not in (unsigned, signed):
        raise MalformedImage("tar header with a wrong checksum")


def parse_number(what: str, field: bytes, negative: bool = False) -> int:
    """Parse a number field: octal digits among spaces and NULs, or GNU's base-256.

    A field without digits is 0, as everywhere. `negative` allows base-256 numbers below zero.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        number = int.from_bytes(field, "big") & ((1 << bits) - 1)
        if number >> (bits - 1):
            number -= 1 << bits
        if (-_NUMBER_MAX if negative else 0) <= number <= _NUMBER_MAX:
            return number
        raise MalformedImage(f"tar header with {what} {number}")
    digits = field.strip(b"\0 ").partition(b"\0")[0]
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    elif not digits:
        return 0
    raise MalformedImage(f"tar header with {what} {field!r}")


@lru_cache(maxsize=1024)
def _owner(fields: bytes) -> tuple[int, int, int]:
    """Parse mode, uid and gid together: an image has few different ones."""
    mode = parse_number("mode", fields[:8])
    uid, gid = parse_number("uid", fields[8:16]), parse_number("gid", fields[16:])
    if max(uid, gid) > ID_MAX:
        raise MalformedImage(f"tar header with owner {uid}:{gid}; the limit is {ID_MAX}")
    return mode & 0o7777, uid, gid
