"""Tar headers as Go's archive/tar writes them: ustar where an entry fits that, else pax.

Sources: POSIX.1-2017 `pax`, and archive/tar of Go 1.26 for what the format leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import normpath

from bridge.errors import MalformedImage
from bridge.layer.header import BLOCK

_NAME, _PREFIX, _OWNER = 100, 155, 32
_XHEADER = b"x"


@dataclass(frozen=True, slots=True)
class GoHeader:
    """What a header says; `type_flag` is its one byte, `xattrs` are sorted by name."""

    name: str
    type_flag: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: str = ""
    user: str = ""
    group: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def render(header: GoHeader) -> bytes:
    """Return the header's blocks, those of an extended header before it included.

    Raises `MalformedImage` for what neither ustar nor pax can say.
    """
    name = _bytes(header.name)
    split = None if _fits_text(name, _NAME) else _split(name)
    records: dict[bytes, bytes] = {b"SCHILY.xattr." + key: value for key, value in header.xattrs}
    for key, text, room in (
        (b"path", name, _NAME),
        (b"linkpath", _bytes(header.target), _NAME),
        (b"uname", _bytes(header.user), _OWNER),
        (b"gname", _bytes(header.group), _OWNER),
    ):
        if not _fits_text(text, room) and not (key == b"path" and split):
            records[key] = text
    for key, number, width in (
        (b"uid", header.uid, 8),
        (b"gid", header.gid, 8),
        (b"size", header.size, 12),
        (b"mtime", header.mtime, 12),
    ):
        if not _fits(number, width):
            records[key] = str(number).encode()
    if not all(_fits(number, 8) for number in (header.mode, *header.device)):
        raise MalformedImage(f"the mode or device of {header.name!r:.300} fits in no tar header")
    if not records:
        prefix, short = split or (b"", name)
        return _block(header, short, prefix)
    if split:
        records[b"path"] = name  # only ustar has a prefix
    return _extended(name, records) + _block(header, name, b"")


def _extended(name: bytes, records: dict[bytes, bytes]) -> bytes:
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    directory, slash, base = name.rpartition(b"/")
    path = normpath(directory + slash + b"PaxHeaders.0" + (b"/" + base if base else b""))
    path = b"/" + path.lstrip(b"/") if path.startswith(b"/") else path
    block = bytearray(BLOCK)
    _put(block, 0, _NAME, _ascii(path)[:_NAME].rstrip(b"/"))
    for at, width, number in (
        (100, 8, 0),
        (108, 8, 0),
        (116, 8, 0),
        (124, 12, len(data)),
        (136, 12, 0),
    ):
        _put(block, at, width, _octal(number, width))
    return _finished(block, _XHEADER) + data + bytes(-len(data) % BLOCK)


def _block(header: GoHeader, name: bytes, prefix: bytes) -> bytes:
    block = bytearray(BLOCK)
    _put(block, 0, _NAME, _ascii(name))
    for at, width, number in (
        (100, 8, header.mode),
        (108, 8, header.uid),
        (116, 8, header.gid),
        (124, 12, header.size),
        (136, 12, header.mtime),
        (329, 8, header.device[0]),
        (337, 8, header.device[1]),
    ):
        _put(block, at, width, _octal(number, width))
    _put(block, 157, _NAME, _ascii(_bytes(header.target)))
    _put(block, 265, _OWNER, _ascii(_bytes(header.user)))
    _put(block, 297, _OWNER, _ascii(_bytes(header.group)))
    _put(block, 345, _PREFIX, prefix)
    return _finished(block, header.type_flag)


def _finished(block: bytearray, type_flag: bytes) -> bytes:
    block[156:157] = type_flag
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _put(block: bytearray, at: int, width: int, text: bytes) -> None:
    cut = text[:width]
    if len(text) > width and cut.endswith(b"/"):
        # So that no reader takes a cut-off name for a directory's; more slashes stay behind it.
        end = len(cut[:-1].rstrip(b"/"))
        cut = cut[:end] + b"\0" + cut[end + 1 :]
    block[at : at + len(cut)] = cut


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest)
    while size != len(rest) + len(str(size)):
        size = len(rest) + len(str(size))
    return str(size).encode() + rest


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Return prefix and name of a long name, where ustar has room for it."""
    if not _is_ascii(name) or len(name) <= _NAME:
        return None
    length = min(len(name), _PREFIX + 1)
    if length == len(name) and name.endswith(b"/"):
        length -= 1
    at = name.rfind(b"/", 0, length)
    rest = len(name) - at - 1
    if at <= 0 or not 0 < rest <= _NAME:
        return None
    return name[:at], name[at + 1 :]


def _octal(number: int, width: int) -> bytes:
    return b"%0*o" % (width - 1, number if _fits(number, width) else 0)


def _fits(number: int, width: int) -> bool:
    return 0 <= number < 1 << 3 * (width - 1)


def _fits_text(text: bytes, room: int) -> bool:
    return len(text) <= room and _is_ascii(text)


def _is_ascii(text: bytes) -> bool:
    return text.isascii() and b"\0" not in text


def _ascii(text: bytes) -> bytes:
    return bytes(each for each in text if 0 < each < 0x80) if not _is_ascii(text) else text


def _bytes(text: str) -> bytes:
    try:
        found = text.encode()
    except UnicodeEncodeError:
        raise MalformedImage(f"its table of contents has {text!r:.300}, which is no text") from None
    if b"\0" in found:
        raise MalformedImage(f"its table of contents has {text!r:.300} with a NUL in it")
    return found
