"""One entry of a table of contents as its writers make it, out of a tar header.

The names, the order and what is left out are those of containers/storage
(pkg/chunked/internal/minimal/compression.go), whose readers hold each field to what Go's
archive/tar sees in the header.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.errors import MalformedImage
from bridge.layer.header import device_number, is_gnu, link_target, parse_number
from bridge.layer.pax import Records, decode_text
from bridge.layer.tar import Entry, EntryType

_TYPES = {
    EntryType.FILE: "reg",
    EntryType.HARDLINK: "hardlink",
    EntryType.SYMLINK: "symlink",
    EntryType.DIRECTORY: "dir",
    EntryType.CHAR: "char",
    EntryType.BLOCK: "block",
    EntryType.FIFO: "fifo",
}
_CONTIGUOUS = ord("7")
_XATTR = b"SCHILY.xattr."
_TIME = re.compile(rb"(-?[0-9]+)(?:\.([0-9]*))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HTML = str.maketrans({each: f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"})


class NotHeld(MalformedImage):
    """The format has no way to say what the layer says; plain zstd has."""


def fields(entry: Entry, block: bytes, records: Records) -> dict[str, Any]:
    """Return what is said of an entry beside its content, in order; `block` is its header, and
    `records` what its pax header says. `NotHeld` for what has no such entry."""
    if block[156] == _CONTIGUOUS:
        raise NotHeld(f"{entry.path!r:.300} is of a type that zstd:chunked cannot say")
    said = dict(records)
    if any(_XATTR + key not in said for key, _ in entry.xattrs):
        raise NotHeld(f"{entry.path!r:.300} has extended attributes that only libarchive reads")
    major, minor = device_number(block)
    raw_size = said.get(b"size")
    found: dict[str, Any] = {
        "type": _TYPES[entry.type],
        "name": entry.path,
        "linkName": entry.target or _stale_link(block, said),
        "mode": parse_number("mode", block[100:108]),
        "size": int(raw_size) if raw_size else parse_number("size", block[124:136]),
        "uid": entry.uid,
        "gid": entry.gid,
        "modtime": _time(said.get(b"mtime")) or _text(parse_number("mtime", block[136:148], True)),
        "accesstime": _time(said.get(b"atime")) or _gnu_time(block, 345),
        "changetime": _time(said.get(b"ctime")) or _gnu_time(block, 357),
        "devMajor": major,
        "devMinor": minor,
        "xattrs": {
            key[len(_XATTR) :].decode("utf-8", "replace"): base64.b64encode(value).decode()
            for key, value in sorted(said.items())
            if key.startswith(_XATTR)
        },
    }
    return {key: value for key, value in found.items() if value}


def with_content(
    entry: dict[str, Any],
    name: str,
    digest: bytes,
    pieces: list[tuple[bytes, int, bool, int]],
    end: int,
) -> Iterator[dict[str, Any]]:
    """Yield an entry and those of its further pieces, given the digest of all of it, each piece's
    digest, size, whether it is zeros, and offset in the blob, and the offset of their end."""
    if not pieces:
        yield entry
        return
    whole = {"digest": f"sha256:{digest.hex()}", "offset": pieces[0][3], "endOffset": end}
    if len(pieces) == 1:
        yield entry | whole
        return
    position = 0
    for own, size, zeros, offset in pieces:
        piece: dict[str, Any] = {"offset": offset, "chunkSize": size, "chunkOffset": position}
        piece["chunkDigest"] = f"sha256:{own.hex()}"
        piece["chunkType"] = "zeros" if zeros else ""
        piece = {key: value for key, value in piece.items() if value}
        yield (entry | whole | piece) if not position else {"type": "chunk", "name": name} | piece
        position += size


def render(entry: dict[str, Any]) -> bytes:
    """Return an entry as Go's encoding/json writes it."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).translate(_HTML).encode()


def _stale_link(block: bytes, said: dict[bytes, bytes]) -> str:
    """Return the link target in the header of what is no link: Go's readers see one there, and
    buildah's whiteouts have that of an entry before them."""
    linkpath = said.get(b"linkpath")
    return link_target(block) if linkpath is None else decode_text("link target", linkpath)


def _time(value: bytes | None) -> str:
    """Return what a pax header says of a time, empty where it says nothing."""
    if not value:
        return ""
    found = _TIME.fullmatch(value)
    if found is None:
        raise NotHeld(f"pax time {value!r:.100}")
    fraction = int((found[2] or b"").ljust(9, b"0")[:9])
    seconds = int(found[1])
    if value.startswith(b"-") and fraction:
        seconds, fraction = seconds - 1, 1_000_000_000 - fraction
    return _text(seconds, fraction)


def _gnu_time(block: bytes, at: int) -> str:
    if not is_gnu(block) or not block[at]:
        return ""
    return _text(parse_number("time", block[at : at + 12], True))


def _text(seconds: int, nanoseconds: int = 0) -> str:
    """Return a time as RFC 3339 has it, fractions without zeros at their end."""
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise NotHeld(f"the time {seconds} is beyond the year 9999") from None
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"
