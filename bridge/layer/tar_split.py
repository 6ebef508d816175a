"""tar-split: a tar stream without its files' content, so that the two make the stream again.

JSON objects, one a line, compressed with zstd as a whole: those of type 2 have bytes of the stream
in base64, those of type 1 stand for the content of the file whose header came before. Every
header has one of the latter, also where there is no content. Source: vbatts/tar-split, tar/storage.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from bridge import limits
from bridge.errors import MalformedImage

_FILE, _SEGMENT = 1, 2
_SEGMENT_MOST = 64 * limits.KIB
"""Bytes of the stream that are put into one line here."""
_START = b'{"type":2,"payload":"'
_REST = re.compile(
    rb'","position":([0-9]{1,9})\}\n'
    rb'\{"type":1,"name":"([^"\\\n]*)"(?:,"size":([1-9][0-9]{0,18}))?'
    rb',"payload":(?:null|"[A-Za-z0-9+/=]*"),"position":([0-9]{1,9})\}\n'
)
"""What comes before and behind the bytes of a header in the two lines that their one writer makes
of nearly all: the header, and what stands for the content. Other lines are read as JSON."""


class Content(NamedTuple):
    """Where a file's content belongs."""

    name: str
    size: int
    """Bytes, 1 or more."""


def read_tar_split(chunks: Iterable[bytes]) -> Iterator[bytes | Content]:
    """Yield the parts of a tar stream in order, given an unpacked tar-split in chunks.

    Bytes that follow one another come in one part, up to about `TAR_SPLIT_LINE_MAX`. Raises
    `MalformedImage` for what is no tar-split.
    """
    joined = _Joined()
    position = 0  # of the next line
    for text in _whole_lines(chunks):
        at = 0
        while at < len(text):
            pair = None
            if text.startswith(_START, at):
                start = at + len(_START)
                end = text.find(b'"', start, start + limits.TAR_SPLIT_LINE_MAX)
                pair = _REST.match(text, end) if end >= 0 else None
            if pair is not None and pair.end() - at <= limits.TAR_SPLIT_LINE_MAX:
                first, name, size, second = pair.groups()
                if int(first) == position and int(second) == position + 1:
                    joined.add(_bytes(text[start:end], position))
                    if size is not None:
                        yield from joined.take()
                        yield _named(name, int(size), position + 1)
                    elif joined.size >= limits.TAR_SPLIT_LINE_MAX:
                        yield from joined.take()
                    position += 2
                    at = pair.end()
                    continue
            end = text.find(b"\n", at)
            end = len(text) if end < 0 else end
            if end - at > limits.TAR_SPLIT_LINE_MAX:
                raise _too_long()
            part = _parse(text[at:end], position)
            position += 1
            at = end + 1
            if isinstance(part, bytes):
                joined.add(part)
                if joined.size >= limits.TAR_SPLIT_LINE_MAX:
                    yield from joined.take()
            elif part is not None:
                yield from joined.take()
                yield part
    yield from joined.take()


class _Joined:
    """Bytes that follow one another."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.size += len(part)

    def take(self) -> tuple[bytes, ...]:
        """Return what there is in one part, if there is anything, and begin anew."""
        parts = self._parts
        if not parts:
            return ()
        taken = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.size = 0
        return (taken,)


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines, as many together as there are; the last one may lack its end."""
    rest = b""
    for chunk in chunks:
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if len(rest) > limits.TAR_SPLIT_LINE_MAX:
            raise _too_long()
        if end:
            yield text[:end]
    if rest:
        yield rest


def _too_long() -> MalformedImage:
    return MalformedImage("its tar-split has a line that is too long")


def _parse(line: bytes, position: int) -> bytes | Content | None:
    try:
        entry: Any = json.loads(line)
        if entry.get("position", 0) != position:
            raise ValueError("its lines are not in order")
        kind = entry["type"]
        if kind == _SEGMENT:
            return base64.b64decode(entry["payload"] or "", validate=True)
        size = entry.get("size", 0)
        if kind != _FILE or type(size) is not int or size < 0:
            raise ValueError("a line of an unknown kind")
        if not size:
            return None
        name = entry.get("name")
        if name is None:
            name = base64.b64decode(entry["name_raw"], validate=True).decode(
                "utf-8", "surrogateescape"
            )
        if not isinstance(name, str):
            raise ValueError("a name that is no text")
        return _content(name, size)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _no_line(position, error) from None


def _bytes(segment: bytes, position: int) -> bytes:
    try:
        return binascii.a2b_base64(segment, strict_mode=True)
    except ValueError as error:
        raise _no_line(position, error) from None


def _named(name: bytes, size: int, position: int) -> Content:
    try:
        return _content(name.decode(), size)
    except ValueError as error:
        raise _no_line(position, error) from None


def _no_line(position: int, error: Exception) -> MalformedImage:
    return MalformedImage(f"line {position + 1} of its tar-split is none: {error}")


def _content(name: str, size: int) -> Content:
    if size > limits.CONTENT_MAX:
        raise ValueError("a file that is too large")
    return Content(name, size)


class TarSplitWriter:
    """Makes the unpacked lines of a tar-split, as vbatts/tar-split does."""

    def __init__(self) -> None:
        self._position = 0

    def segment(self, data: bytes | bytearray) -> bytes:
        """Return the line for bytes of the stream."""
        text = base64.b64encode(data).decode()
        return self._line(f'{{"type":2,"payload":"{text}"')

    def file(self, name: bytes, size: int, crc64: int | None) -> bytes:
        """Return the line that stands for a file's content: its size, and its CRC-64 (ISO).

        Of an entry without content there is none.
        """
        try:
            named = f'"name":{_go_string(name.decode())}' if name else ""
        except UnicodeDecodeError:
            named = f'"name_raw":"{base64.b64encode(name).decode()}"'
        parts = ['{"type":1', *([named] if named else [])]
        if size:
            parts.append(f'"size":{size}')
        if crc64 is None:
            parts.append('"payload":null')
        else:
            parts.append(f'"payload":"{base64.b64encode(crc64.to_bytes(8, "big")).decode()}"')
        return self._line(",".join(parts))

    def _line(self, start: str) -> bytes:
        line = f'{start},"position":{self._position}}}\n'
        self._position += 1
        return line.encode()


class PackedTarSplit:
    """Makes a tar-split, compressed, of the parts of a tar stream as they come."""

    def __init__(self) -> None:
        import zstandard

        self._lines = TarSplitWriter()
        self._compressor: Any = zstandard.ZstdCompressor(1).compressobj()
        self._packed: list[bytes] = []
        self._size = 0
        self._waiting = bytearray()

    def add(self, data: bytes) -> None:
        """Take bytes that are no file's content."""
        self._waiting += data
        while len(self._waiting) >= _SEGMENT_MOST:
            self._segment()

    def content(self, name: str, size: int) -> None:
        """Take that a file's content belongs here, 1 byte of it or more."""
        while self._waiting:
            self._segment()
        self._line(self._lines.file(name.encode(), size, None))

    def finish(self) -> tuple[list[bytes], int]:
        """Take that there is no more; return all of it in pieces, and its size unpacked."""
        while self._waiting:
            self._segment()
        self._packed.append(self._compressor.flush())
        return self._packed, self._size

    def _segment(self) -> None:
        self._line(self._lines.segment(self._waiting[:_SEGMENT_MOST]))
        del self._waiting[:_SEGMENT_MOST]

    def _line(self, line: bytes) -> None:
        self._size += len(line)
        if packed := self._compressor.compress(line):
            self._packed.append(packed)


def _go_string(text: str) -> str:
    """Return a JSON string as Go's encoding/json writes it, characters of HTML escaped."""
    written = json.dumps(text, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written
