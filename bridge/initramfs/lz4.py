"""LZ4 in the old framing, which is what Linux takes for an initramfs (`lz4 -l`).

Format: github.com/lz4/lz4, doc/lz4_Frame_format.md ("Legacy frame") and lz4_Block_format.md: the
magic number, then blocks, each with its packed size before it, which unpack to 8 MiB but for the
last. Nothing marks the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bridge import limits
from bridge.errors import MalformedImage

_MAGIC = b"\x02\x21\x4c\x18"
_BLOCK = 8 * limits.MIB
_PACKED = _BLOCK + _BLOCK // 255 + 16
"""The most that a block of that size can be packed to."""
_LEAST_MATCH = 4


def unpacked(peek: Callable[[int], bytes], take: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield what the stream at hand holds, a block at a time; `MalformedImage`.

    `peek` and `take` are those of the buffer that it stands in. It ends where the file does, or
    where what follows can be no block.
    """
    take(len(_MAGIC))
    while True:
        head = peek(4)
        if head == _MAGIC:
            take(4)  # streams in a row
            continue
        size = int.from_bytes(head, "little")
        if len(head) < 4 or not 0 < size <= _PACKED:
            return
        take(4)
        block = unpack_block(take(size), _BLOCK)
        yield block
        if len(block) < _BLOCK:
            return


def unpack_block(packed: bytes, most: int) -> bytes:
    """Return what a block unpacks to; `MalformedImage` where it is damaged or is more than `most`
    bytes."""
    out = bytearray()
    position, end = 0, len(packed)
    try:
        while True:
            token = packed[position]
            position += 1
            length = token >> 4
            if length == 15:
                length, position = _more(packed, position, length)
            if position + length > end:
                raise IndexError
            out += packed[position : position + length]
            position += length
            if position == end:
                break  # the last sequence has no match
            back = packed[position] | packed[position + 1] << 8
            position += 2
            length = token & 15
            if length == 15:
                length, position = _more(packed, position, length)
            length += _LEAST_MATCH
            start = len(out) - back
            if not 0 < back <= len(out) or len(out) + length > most:
                raise IndexError
            if back >= length:
                out += out[start : start + length]
            else:  # it overlaps what it makes
                out += (bytes(out[start:]) * (length // back + 1))[:length]
    except IndexError:
        raise MalformedImage("its lz4 is damaged") from None
    if len(out) > most:
        raise MalformedImage("its lz4 is damaged")
    return bytes(out)


def _more(packed: bytes, position: int, length: int) -> tuple[int, int]:
    """Add the bytes that a length goes on with."""
    while True:
        value = packed[position]
        position += 1
        length += value
        if value != 255:
            return length, position
