"""Layer compression: `none`, `gzip` (RFC 1952) and `zstd` (RFC 8878), as streams of bounded chunks.

Blobs of real registries are often not one stream but several in a row: a gzip member for each
file (eStargz), a zstd frame for each file with skippable frames around them (zstd:chunked). All of
them are read; what is cut, damaged or followed by something else is refused. Nothing is guessed:
the layer's media type decides, since it is the one thing that the manifest's digest covers.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage

OUTPUT_CHUNK = 256 * limits.KIB
"""No chunk that comes out of a decoder is larger, whatever the input claims; fits an L2 cache."""
_INPUT_SLICE = 64 * limits.KIB
"""What a gzip decoder is given at once: it copies what it left unused, so less is cheaper."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_IN_WORDS = {"none": "an uncompressed tar", "gzip": "gzip", "zstd": "zstd"}
_ZSTD_BLOCK_MAX = 128 * limits.KIB


def decompress(chunks: Iterable[bytes], compression: str) -> Iterator[bytes]:
    """Return the uncompressed bytes of a layer blob that arrives as `chunks`.

    `compression` is `none`, `gzip` or `zstd`, as `oci.model.layer_compression` gives it. Chunks
    that a decoder makes have at most `OUTPUT_CHUNK` bytes; uncompressed ones pass as they are.
    Raises `MalformedImage` for bytes of another kind, damaged, cut off, or with a tail.
    """
    if compression not in ("none", "gzip", "zstd"):
        raise MalformedImage(f"layer compression {compression!r:.50} is not supported")
    return _decompress(iter(chunks), compression)


def document(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield what a zstd-compressed document unpacks to, which must be `size` bytes: no more of it
    is unpacked than shows that it is not. Raises `MalformedImage` as `decompress` does."""
    left = size
    for chunk in decompress(chunks, "zstd"):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise MalformedImage("its index is not of the size that the manifest gives")


def _decompress(chunks: Iterator[bytes], compression: str) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(_ZSTD_MAGIC):
            break
    if not head and compression != "none":
        raise MalformedImage(f"{compression} layer is empty")
    found = _kind(head)
    if found != compression:
        # Old Docker daemons pushed gzip under the uncompressed media type and the reverse.
        raise MalformedImage(
            f"layer is declared {_IN_WORDS[compression]} but its bytes are {_IN_WORDS[found]};"
            " push the image again with a tool that labels its layers"
        )
    chunks = chain((head,), chunks) if head else chunks
    if compression == "gzip":
        yield from _gunzip(chunks)
    elif compression == "zstd":
        yield from _unzstd(chunks)
    else:
        yield from chunks


def _kind(head: bytes) -> str:
    """Tell the compression by a blob's first bytes, also where it ends within the magic number."""
    if head and (head.startswith(_GZIP_MAGIC) or _GZIP_MAGIC.startswith(head)):
        return "gzip"
    if head and (head.startswith(_ZSTD_MAGIC) or _ZSTD_MAGIC.startswith(head)):
        return "zstd"
    return "zstd" if _is_skippable(head[:4]) else "none"


# -- gzip ------------------------------------------------------------------------------------


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    library = _inflate_library()
    member: Any = None
    members = 0
    padded = False
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), _INPUT_SLICE):
            data: bytes | memoryview = view[start : start + _INPUT_SLICE]
            while len(data):
                if member is None:
                    if members:
                        # Tapes, and some tools that copy in blocks, leave zeros at the end.
                        rest = bytes(data).lstrip(b"\0")
                        padded = padded or len(rest) < len(data)
                        if rest and (padded or rest[0] != _GZIP_MAGIC[0]):
                            raise MalformedImage("gzip layer has garbage after its last member")
                        if not rest:
                            break
                    member = library.decompressobj(31)
                try:
                    plain = member.decompress(data, OUTPUT_CHUNK)
                    if plain:
                        yield plain
                    # A full buffer may hide more that has already left the input.
                    while len(plain) == OUTPUT_CHUNK and not (member.eof or member.unconsumed_tail):
                        plain = member.decompress(b"", OUTPUT_CHUNK)
                        if plain:
                            yield plain
                except (library.error, zlib.error) as error:
                    raise MalformedImage(f"gzip layer is damaged: {error}") from None
                if member.eof:
                    data, member = member.unused_data, None
                    members += 1
                else:
                    data = member.unconsumed_tail
    if member is not None or not members:
        raise MalformedImage("gzip layer is cut off")


def _inflate_library() -> Any:
    """Return isal's zlib where there is a wheel of it: twice as fast, with the same interface."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


# -- zstd ------------------------------------------------------------------------------------


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    source: Any = _FrameChecker(chunks)
    decoder = zstandard.ZstdDecompressor(max_window_size=limits.ZSTD_WINDOW_MAX)
    reader = decoder.stream_reader(source, read_across_frames=True)
    written = 0
    try:
        while plain := reader.read(OUTPUT_CHUNK):
            written += len(plain)
            yield plain
    except zstandard.ZstdError as error:
        raise MalformedImage(f"zstd layer is damaged: {error}") from None
    source.finish(written)


class _FrameChecker:
    """A file-like source for the decoder that follows the frames as they pass.

    The library reports neither a stream that ends within a frame nor frames that it left out, so
    the structure (RFC 8878, section 3.1) is walked here: a few bytes for each block of up to
    128 KiB.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._frame: Generator[int, bytes, int | None] | None = None
        self._want = 0
        self._part = b""
        self._frames = 0
        self._content: int | None = 0

    def read(self, _size: int = -1) -> bytes:
        """Return the next chunk, of any size, or nothing at the end."""
        for chunk in self._chunks:
            if chunk:
                self._follow(chunk)
                return chunk
        return b""

    def finish(self, written: int) -> None:
        """Raise `MalformedImage` unless all frames were whole and decoded to what they announce."""
        if self._frame is not None or not self._frames or self.read():
            raise MalformedImage("zstd layer is cut off")
        if self._content is not None and written != self._content:
            raise MalformedImage(
                f"zstd layer decodes to {written} bytes where its frames announce {self._content}"
            )

    def _follow(self, chunk: bytes) -> None:
        position, end = 0, len(chunk)
        while position < end:
            if self._frame is None:
                self._frame = _walk_frame()
                self._want = next(self._frame)
            if self._want < 0:
                step = min(-self._want, end - position)
                position += step
                self._want += step
                if self._want:
                    return
                self._advance(b"")
                continue
            piece = chunk[position : position + self._want - len(self._part)]
            position += len(piece)
            self._part += piece
            if len(self._part) == self._want:
                part, self._part = self._part, b""
                self._advance(part)

    def _advance(self, part: bytes) -> None:
        assert self._frame is not None
        try:
            self._want = self._frame.send(part)
            while not self._want:
                self._want = self._frame.send(b"")
        except StopIteration as stop:
            self._frame = None
            self._frames += 1
            if stop.value is None or self._content is None:
                self._content = None
            else:
                self._content += stop.value


def _walk_frame() -> Generator[int, bytes, int | None]:
    """Walk one frame: yield how many bytes to be given, or the negative of how many to pass over.

    Returns how many bytes the frame says it decodes to, None when it does not say.
    """
    magic = yield 4
    if _is_skippable(magic):
        length = yield 4
        yield -int.from_bytes(length, "little")
        return 0
    if magic != _ZSTD_MAGIC:
        raise MalformedImage("zstd layer has garbage where a frame should start")
    descriptor = (yield 1)[0]
    single_segment = bool(descriptor & 0x20)
    checksum_length = 4 if descriptor & 0x04 else 0
    dictionary_length = (0, 1, 2, 4)[descriptor & 3]
    content_length = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    if descriptor & 0x08:
        raise MalformedImage("zstd layer has a frame with a reserved bit set")
    rest = yield (0 if single_segment else 1) + dictionary_length + content_length
    content: int | None = None
    if content_length:
        content = int.from_bytes(rest[-content_length:], "little")
        content += 256 if content_length == 2 else 0
    if single_segment:
        window = content or 0
    else:
        base = 1 << (10 + (rest[0] >> 3))
        window = base + (base >> 3) * (rest[0] & 7)
    if window > limits.ZSTD_WINDOW_MAX:
        raise MalformedImage(
            f"zstd layer needs a window of {window} bytes; the limit is {limits.ZSTD_WINDOW_MAX}"
        )
    dictionary = rest[: len(rest) - content_length][-dictionary_length:]
    if dictionary_length and any(dictionary):
        raise MalformedImage("zstd layer needs a dictionary, which layers cannot have")
    last = False
    while not last:
        header = int.from_bytes((yield 3), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == 3 or size > _ZSTD_BLOCK_MAX:
            raise MalformedImage("zstd layer has a block of a kind or size that is not allowed")
        yield -(1 if kind == 1 else size)
    yield -checksum_length
    return content


def _is_skippable(magic: bytes) -> bool:
    return len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50
