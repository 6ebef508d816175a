"""Unpacking one piece of a layer's blob, which is compressed by itself.

In zstd:chunked a piece is a zstd frame; in eStargz it is the beginning of a gzip member, with
other bytes of the tar stream behind it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from threading import local
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.compression import decompress

_here = local()


def unpack(packed: bytes, size: int, compression: str) -> bytes:
    """Return the `size` bytes that a piece unpacks to; `MalformedImage` if it does not.

    Nothing larger than that is ever allocated, whatever the piece claims.
    """
    try:
        if compression == "gzip":
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, size)
        else:
            zstandard = _zstandard()
            if zstandard.frame_content_size(packed) not in (size, -1):
                raise MalformedImage("a piece is not of the size that it should be")
            data = _decoder().decompress(packed, max_output_size=size)
    except (zlib.error, _zstandard().ZstdError) as error:
        raise MalformedImage(f"a piece cannot be unpacked: {error}") from None
    if len(data) != size:
        raise MalformedImage("a piece is not of the size that it should be")
    return data


def unpacked(packed: Iterable[bytes], size: int, compression: str) -> Iterator[bytes]:
    """Yield the `size` bytes that a piece unpacks to, as it comes; `MalformedImage` if it does
    not. For pieces that are too large to be held."""
    left = size
    for chunk in decompress(packed, compression):
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return
    if left:
        raise MalformedImage("a piece is not of the size that it should be")


@cache
def _zstandard() -> Any:
    import zstandard

    return zstandard


def _decoder() -> Any:
    """Return this thread's decoder: making one for each piece would cost more than using it."""
    try:
        return _here.decoder
    except AttributeError:
        _here.decoder = _zstandard().ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW_MAX)
        return _here.decoder
