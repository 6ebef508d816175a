"""The compressions that Linux takes for an initramfs, read as streams of bounded pieces.

Formats: gzip RFC 1952, zstd RFC 8878, xz and lzma by Python's library, lz4 in its old framing
(`lz4`). What stands behind a compressed stream is left where it is: another archive may follow.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.initramfs import lz4

_CHUNK = 64 * limits.KIB
_ZSTD_SLICE = 256
"""What the zstd decoder is given at once: it has no bound for what it returns, and makes up to 128
KiB of four bytes."""
_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x5d\0\0", "lzma"),
)
_GZIP_HEADER = 10
_GZIP_HAS_NAME = 0x08


class Buffer:
    """Bytes that arrive in chunks, taken as they are needed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self._position = 0  # in what is held
        self.offset = 0
        """How many bytes were taken."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no more."""
        return not self.peek(1)

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them: fewer where there are no more."""
        while len(self._held) - self._position < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._held = self._held[self._position :] + chunk
            self._position = 0
        return self._held[self._position : self._position + size]

    def take(self, size: int) -> bytes:
        """Take exactly that many bytes; `MalformedImage` where there are fewer."""
        data = self.peek(size)
        if len(data) < size:
            raise MalformedImage("it is cut off")
        self._position += size
        self.offset += size
        return data

    def some(self, most: int) -> bytes:
        """Take one byte or more, at most `most`; `MalformedImage` where there is none."""
        self.peek(1)
        return self.take(max(1, min(most, len(self._held) - self._position, _CHUNK)))

    def give_back(self, data: bytes) -> None:
        """Put back what was taken last."""
        self._held = data + self._held[self._position :]
        self._position = 0
        self.offset -= len(data)

    def skip_zeros(self) -> None:
        """Take all zeros up to something else."""
        while not self.is_empty:
            rest = self._held[self._position :].lstrip(b"\0")
            self.offset += len(self._held) - self._position - len(rest)
            self._held, self._position = rest, 0
            if rest:
                return


def kind(head: bytes) -> str | None:
    """Return the compression that data with this beginning has; None where it is unknown."""
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


def opened(source: Buffer, compression: str, notes: list[str]) -> Iterator[bytes]:
    """Return what the compressed stream at the start of `source` holds.

    `notes` gets what is in the stream's header that differs from one build to the next.
    `MalformedImage` where it is damaged or cut off.
    """
    if compression == "lz4":
        return lz4.unpacked(source.peek, source.take)
    if compression == "gzip":
        header = source.peek(_GZIP_HEADER)
        if any(header[4:8]):
            notes.append("the gzip header has a time")
        if len(header) > 3 and header[3] & _GZIP_HAS_NAME:
            notes.append("the gzip header has a file's name")
    return _decoded(source, compression)


def _decoded(source: Buffer, compression: str) -> Iterator[bytes]:
    decode, decoder, errors = _decoder(compression)
    step = _ZSTD_SLICE if compression == "zstd" else _CHUNK
    try:
        while not decoder.eof:
            data = b""
            if getattr(decoder, "needs_input", True):
                if source.is_empty:
                    raise MalformedImage(f"its {compression} is cut off")
                data = source.some(step)
            if plain := decode(data):
                yield plain
    except errors as error:
        raise MalformedImage(f"its {compression} is damaged: {error}") from None
    source.give_back(decoder.unused_data)


def _decoder(compression: str) -> tuple[Callable[[bytes], bytes], Any, tuple[type[Exception], ...]]:
    """Return what decodes a piece, the object that knows when it is at the end, and its errors."""
    decoder: Any
    if compression == "gzip":
        decoder = _Inflate()
        return decoder.decompress, decoder, (zlib.error,)
    if compression == "zstd":
        import zstandard

        limited = zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW_MAX)
        decoder = limited.decompressobj()
        return decoder.decompress, decoder, (zstandard.ZstdError,)
    if compression == "bzip2":
        decoder = bz2.BZ2Decompressor()
        return lambda data: bytes(decoder.decompress(data, _CHUNK)), decoder, (OSError, ValueError)
    form = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
    decoder = lzma.LZMADecompressor(form, memlimit=limits.XZ_MEMORY_MAX)
    return lambda data: bytes(decoder.decompress(data, _CHUNK)), decoder, (lzma.LZMAError,)


class _Inflate:
    """zlib's decoder with the interface of the others."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    def decompress(self, data: bytes) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, _CHUNK)
