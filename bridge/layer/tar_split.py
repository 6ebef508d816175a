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
_PLAIN = re.compile(
    rb'\{"type":(?:2|1,"name":"([^"\\\\]*)"(?:,"size":([1-9][0-9]*))?)'
    rb',"payload":(?:null|"([A-Za-z0-9+/=]*)"),"position":([0-9]+)\}'
)
"""A line as its one writer makes nearly all of them. What it does not match, JSON does."""


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
    pending: list[bytes] = []
    size = 0
    for position, line in enumerate(_lines(chunks)):
        part = _parse(line, position)
        if part is None:
            continue
        if isinstance(part, bytes):
            pending.append(part)
            size += len(part)
            if size < limits.TAR_SPLIT_LINE_MAX:
                continue
            part = None
        if pending:
            yield pending[0] if len(pending) == 1 else b"".join(pending)
            pending.clear()
            size = 0
        if part is not None:
            yield part
    if pending:
        yield b"".join(pending)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        if max(map(len, lines)) > limits.TAR_SPLIT_LINE_MAX:
            raise MalformedImage("its tar-split has a line that is too long")
        rest = lines.pop()
        yield from lines
    if rest:
        yield rest


def _parse(line: bytes, position: int) -> bytes | Content | None:
    try:
        plain = _PLAIN.fullmatch(line)
        if plain is not None and int(plain[4]) == position:
            if plain[1] is None:
                return binascii.a2b_base64(plain[3] or b"", strict_mode=True)
            if plain[2] is None:
                return None
            return _content(plain[1].decode(), int(plain[2]))
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
        raise MalformedImage(f"line {position + 1} of its tar-split is none: {error}") from None


def _content(name: str, size: int) -> Content:
    if size > limits.CONTENT_MAX:
        raise ValueError("a file that is too large")
    return Content(name, size)


class TarSplitWriter:
    """Makes the unpacked lines of a tar-split, as vbatts/tar-split does."""

    def __init__(self) -> None:
        self._position = 0

    def segment(self, data: bytes) -> bytes:
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


def _go_string(text: str) -> str:
    """Return a JSON string as Go's encoding/json writes it, characters of HTML escaped."""
    written = json.dumps(text, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written
