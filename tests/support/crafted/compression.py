"""Layers as they are compressed: in parts, cut, damaged, mislabelled, with something behind."""

from __future__ import annotations

import gzip
import struct
import zlib

import zstandard

from bridge.oci.digest import Digest
from support.crafted.blocks import archive
from support.crafted.case import Case, complete, legal
from support.images import MEDIA_TYPES, Image, compress, descriptor, file, image

_MEMBERS = [file("a", "1" * 3000), file("b/c", bytes(range(256)) * 40)]
STREAM = archive(_MEMBERS)
TREE = {"a": "1" * 3000, "b/c": bytes(range(256)) * 40}
GZIP, ZSTD = compress(STREAM, "gzip"), compress(STREAM, "zstd")
_HALF = len(STREAM) // 2


def layer(blob: bytes, kind: str, stream: bytes = STREAM) -> Image:
    """Return an image with one layer of just this blob, digest, size and DiffID in order."""
    made = image(b"", diff_ids=[Digest.of(stream)])
    made.blobs[str(Digest.of(blob))] = blob
    return made.changed(layers=[descriptor(blob, MEDIA_TYPES.get(kind, kind))])


def _good(blob: bytes, kind: str) -> Case:
    return Case(lambda: layer(blob, kind), tree=complete(TREE))


def _bad(blob: bytes, kind: str, phrase: str, code: int = 7, stream: bytes = STREAM) -> Case:
    return Case(lambda: layer(blob, kind, stream), code, phrase=phrase)


def _gzip_member(data: bytes, flags: int = 0, extra: bytes = b"") -> bytes:
    """Return a member with a header of one's own (RFC 1952)."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflater.compress(data) + deflater.flush()
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\0\xff" + extra
    return head + packed + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _skippable(data: bytes, number: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


def _frames(*parts: bytes, **how: bool) -> bytes:
    return b"".join(zstandard.ZstdCompressor(**how).compress(part) for part in parts)


def _raw_frame(window: bytes, blocks: bytes, descriptor_: int = 0) -> bytes:
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor_]) + window + blocks


_PARTS = [STREAM[n : n + 1000] for n in range(0, len(STREAM), 1000)]
WHOLE: dict[str, Case] = {
    "gzip": _good(GZIP, "gzip"),
    "gzip, a member for each 64 bytes": _good(
        b"".join(gzip.compress(STREAM[n : n + 64]) for n in range(0, len(STREAM), 64)), "gzip"),
    "gzip of two members": _good(gzip.compress(STREAM[:_HALF]) + gzip.compress(
        STREAM[_HALF:]), "gzip"),
    "gzip with empty members": _good(gzip.compress(b"") + GZIP + gzip.compress(b""), "gzip"),
    "gzip with zeros behind": _good(GZIP + bytes(1000), "gzip"),
    "gzip with a name": _good(_gzip_member(STREAM, 8, b"layer.tar\0"), "gzip"),
    "gzip with an extra field": _good(_gzip_member(STREAM, 4, b"\x04\0abcd"), "gzip"),
    "gzip that is stored": _good(gzip.compress(STREAM, 0), "gzip"),
    "zstd": _good(ZSTD, "zstd"),
    "zstd of many frames": _good(_frames(*_PARTS), "zstd"),
    "zstd with empty frames": _good(_frames(b"", STREAM, b""), "zstd"),
    "zstd with skippable frames": _good(
        _skippable(b"x" * 9) + _frames(STREAM[:_HALF]) + _skippable(b"", 15) + _frames(
            STREAM[_HALF:]) + _skippable(b"y" * 64, 4), "zstd"),
    "zstd that tells no size": _good(_frames(STREAM, write_content_size=False), "zstd"),
    "zstd with checksums": _good(_frames(*_PARTS, write_checksum=True), "zstd"),
    "none": _good(STREAM, "none"),
    "an empty gzip layer": Case(
        lambda: layer(gzip.compress(b""), "gzip", b""), tree=complete({})),
    "an empty zstd layer": Case(lambda: layer(_frames(b""), "zstd", b""), tree=complete({})),
    "an empty plain layer": Case(lambda: layer(b"", "none", b""), tree=complete({})),
    "all three": legal([_MEMBERS, [file("b/d")], [file("e")]], {**TREE, "b/d": "", "e": ""},
                       compression=("gzip", "zstd", "none")),
}  # fmt: skip

_MAGIC_SKIP = _skippable(b"abc")
DAMAGED: dict[str, Case] = {
    **{
        f"gzip cut by {cut}": _bad(GZIP[:-cut], "gzip", "gzip layer is cut off")
        for cut in (1, 4, 8, 9, 100, len(GZIP) - 1, len(GZIP) - 10)
    },
    "nothing as gzip": _bad(b"", "gzip", "gzip layer is empty"),
    "gzip with a wrong checksum": _bad(
        GZIP[:-8] + bytes([GZIP[-8] ^ 1]) + GZIP[-7:], "gzip", "damaged"),
    "gzip with a wrong size": _bad(GZIP[:-1] + b"\x01", "gzip", "damaged"),
    "gzip with garbage behind": _bad(GZIP + b"garbage", "gzip", "garbage after"),
    "gzip with zeros and garbage behind": _bad(GZIP + bytes(99) + b"x", "gzip", "garbage after"),
    "gzip with a member behind zeros": _bad(GZIP + bytes(9) + GZIP, "gzip", "garbage after"),
    "gzip with half a member behind": _bad(GZIP + GZIP[:20], "gzip", "cut off"),
    "gzip of another method": _bad(b"\x1f\x8b\x09" + GZIP[3:], "gzip", "damaged"),
    "gzip with a block of no kind": _bad(GZIP[:10] + b"\x07" + GZIP[11:], "gzip", "damaged"),
    "gzip within gzip": _bad(gzip.compress(GZIP), "gzip", "tar entry 1|DiffID", code=6),
    "a second member that the DiffID does not cover": _bad(
        GZIP + gzip.compress(bytes(512)), "gzip", "DiffID", code=6),
    **{
        f"zstd cut by {cut}": _bad(ZSTD[:-cut], "zstd", "zstd layer is (cut off|damaged)")
        for cut in (1, 4, 9, 50, len(ZSTD) - 5, len(ZSTD) - 8)
    },
    "nothing as zstd": _bad(b"", "zstd", "zstd layer is empty"),
    "zstd with garbage behind": _bad(ZSTD + b"garbage", "zstd", "garbage where a frame"),
    "zstd with zeros behind": _bad(ZSTD + bytes(64), "zstd", "garbage where a frame"),
    "zstd with half a frame behind": _bad(ZSTD + ZSTD[:20], "zstd", "cut off|damaged"),
    "zstd with half a skippable frame": _bad(ZSTD + _MAGIC_SKIP[:-1], "zstd", "cut off"),
    "zstd of skippable frames only": _bad(_MAGIC_SKIP * 3, "zstd", "DiffID", code=6),
    "zstd with a wrong checksum": _bad(
        (whole := _frames(STREAM, write_checksum=True))[:-1] + bytes([whole[-1] ^ 1]),
        "zstd", "damaged"),
    "zstd that asks for 256 MiB": _bad(
        _raw_frame(bytes([(28 - 10) << 3]), b"\x01\0\0"), "zstd", "window of 268435456"),
    "zstd that asks for 3.75 TiB": _bad(
        _raw_frame(bytes([0xFF]), b"\x01\0\0"), "zstd", "needs a window of"),
    "zstd of one segment of 1 GiB": _bad(
        _raw_frame(struct.pack("<I", 1 << 30), b"\x01\0\0", 0xA0), "zstd", "window of 1073741824"),
    "zstd with a dictionary": _bad(
        _raw_frame(b"\x50\x07", b"\x01\0\0", 0x01), "zstd", "dictionary"),
    "zstd with a reserved bit": _bad(_raw_frame(b"\x50", b"\x01\0\0", 0x08), "zstd", "reserved"),
    "zstd with a block of no kind": _bad(_raw_frame(b"\x50", b"\x07\0\0"), "zstd", "not allowed"),
    "zstd with a block too large": _bad(
        _raw_frame(b"\x50", (((128 << 10) + 1) << 3 | 1).to_bytes(3, "little")), "zstd",
        "not allowed"),
    "zstd without a last block": _bad(_raw_frame(b"\x50", b"\0\0\0"), "zstd", "cut off"),
    "zstd that announces more": _bad(
        b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", len(STREAM) - 256 + 1) + ZSTD[7:],
        "zstd", "damaged|announce"),
}  # fmt: skip

_ACTUAL = {"gzip": GZIP, "zstd": ZSTD, "none": STREAM, "xz": b"\xfd7zXZ\0" + bytes(99), "bzip2":
           b"BZh91AY&SY" + bytes(99), "text": b"<html>not found</html>"}  # fmt: skip
MISLABELLED: dict[str, Case] = {
    f"{actual} labelled as {label}": _bad(
        blob,
        label,
        "checksum|cut off" if label == "none" and actual in _NO_LAYER else "is declared",
        stream=blob,
    )
    for _NO_LAYER in (("xz", "bzip2", "text"),)
    for label in ("gzip", "zstd", "none")
    for actual, blob in _ACTUAL.items()
    if label != actual
}

CASES: dict[str, Case] = WHOLE | DAMAGED | MISLABELLED
