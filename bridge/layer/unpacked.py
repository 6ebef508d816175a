"""How large a layer is when it is unpacked, by what its compression itself says of that.

Both formats say it in a few bytes, which can be had without the rest of the blob: gzip at the end
(RFC 1952, 2.3.1: ISIZE, of the last member, modulo 2^32), zstd at the start (RFC 8878, 3.1.1.1: of
the first frame, where its writer knew it). Nothing of it is verified, and a blob of several
members or frames says nothing of the whole; then there is no answer.
"""

from __future__ import annotations

GZIP_TAIL = 4
"""Bytes at a gzip blob's end that `gzip_size` takes."""
ZSTD_HEAD = 18
"""Bytes at a zstd blob's start that `zstd_size` takes: magic number and the longest header."""

LARGEST_RATIO = {"gzip": 1032, "zstd": 32_768}
"""No blob unpacks to more than this many times its size: deflate makes 258 bytes of two bits,
zstd a block of 128 KiB of four bytes."""

_MODULUS = 1 << 32
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def gzip_size(tail: bytes, compressed: int) -> int | None:
    """Return the least size that a gzip blob of `compressed` bytes can unpack to; None: unknown.

    Data does not get smaller by being unpacked: where the last member's size is less, there are
    other members before it, or it is 4 GiB more. The latter only where the blob is that large.
    """
    if len(tail) != GZIP_TAIL:
        return None
    size, least = int.from_bytes(tail, "little"), _least(compressed)
    if size < least <= _MODULUS:
        return None
    return size + -(-max(0, least - size) // _MODULUS) * _MODULUS


def zstd_size(head: bytes, compressed: int) -> int | None:
    """Return what a zstd blob of `compressed` bytes says that it unpacks to; None: unknown."""
    if len(head) < 6 or not head.startswith(_ZSTD_MAGIC):
        return None
    descriptor = head[4]
    single_segment = bool(descriptor & 0x20)
    length = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = head[start : start + length]
    if not length or len(field) != length:
        return None
    size = int.from_bytes(field, "little") + (256 if length == 2 else 0)
    return size if size >= _least(compressed) else None


def _least(compressed: int) -> int:
    """Return what `compressed` bytes unpack to at least: headers, and some bytes each block."""
    return max(0, compressed - compressed // 1000 - 64)
