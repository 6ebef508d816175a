"""Maps of sparse files in GNU tar's four formats (GNU tar manual, appendix "Sparse Formats").

A map is a list of pieces `(offset, length)`: where in the file the stored bytes belong, one after
another. The rest of the file reads as zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.header import BLOCK, parse_number
from bridge.layer.pax import Records, decode_text

_ZEROS = memoryview(bytes(256 * limits.KIB))

Piece = tuple[int, int]
Take = Callable[[int], bytes]
"""Gives the next n bytes of the stream."""


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Where the stored bytes of a sparse file belong."""

    size: int
    """Bytes of the file as it will be."""
    stored: int
    """Bytes of it that are in the archive."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class PaxSparse:
    """What the `GNU.sparse.*` records of an extended header say."""

    name: str | None
    size: int
    pieces: tuple[Piece, ...] | None
    """None in version 1.0, where the map is at the head of the payload."""


def read_old_map(header: bytes, take: Take) -> tuple[int, tuple[Piece, ...]]:
    """Read the map of an old GNU sparse entry: its header block and the extension blocks after it.

    Returns the file's size and its pieces. `take` gives the blocks that follow the header.
    """
    pieces = _old_pieces(header[386:482])
    more = header[482]
    while more:
        block = take(BLOCK)
        pieces += _old_pieces(block[:504])
        more = block[504]
        _check_count(len(pieces))
    return parse_number("sparse size", header[483:495]), tuple(pieces)


def _old_pieces(table: bytes) -> list[Piece]:
    pieces = []
    for start in range(0, len(table), 24):
        if table[start] == 0:
            break
        pieces.append(
            (
                parse_number("sparse offset", table[start : start + 12]),
                parse_number("sparse length", table[start + 12 : start + 24]),
            )
        )
    return pieces


def parse_pax_sparse(records: Records) -> PaxSparse:
    """Interpret the `GNU.sparse.*` records, keys without the prefix, of versions 0.0, 0.1, 1.0."""
    values = dict(records)
    version = (values.get(b"major", b"0"), values.get(b"minor", b""))
    name = values.get(b"name", b"")
    if b"\0" in name:
        raise MalformedImage("sparse file's name has a NUL in it")
    text = decode_text("sparse file's name", name) or None
    if version == (b"1", b"0"):
        return PaxSparse(text, _decimal(values.get(b"realsize", b"")), None)
    if version[0] != b"0" or version[1] not in (b"", b"0", b"1"):
        shown = b".".join(version)
        raise MalformedImage(f"sparse file of unknown version {shown!r:.50}")
    size = _decimal(values.get(b"size", values.get(b"realsize", b"")))
    if b"map" in values:
        numbers = [_decimal(text) for text in values[b"map"].split(b",") if values[b"map"]]
    else:
        numbers = _repeated_numbers(records)
    pieces = _pairs(numbers)
    if b"numblocks" in values and _decimal(values[b"numblocks"]) != len(pieces):
        raise MalformedImage("sparse file whose map does not have the announced length")
    return PaxSparse(text, size, pieces)


def _repeated_numbers(records: Records) -> list[int]:
    numbers: list[int] = []
    for key, value in records:
        if key in (b"offset", b"numbytes"):
            if (key == b"offset") != (len(numbers) % 2 == 0):
                raise MalformedImage("sparse map whose offsets and lengths do not alternate")
            numbers.append(_decimal(value))
    return numbers


def read_new_map(take: Take, stored: int) -> tuple[int, tuple[Piece, ...]]:
    """Read the map of version 1.0: decimal lines at the head of the payload, padded to a block.

    Returns how many of the `stored` bytes it took, and the pieces.
    """
    text = b""
    used = 0
    wanted: int | None = None
    numbers: list[int] = []
    while wanted is None or len(numbers) < wanted:
        used += BLOCK
        if used > stored:
            raise MalformedImage("sparse map is longer than its entry")
        *lines, text = (text + take(BLOCK)).split(b"\n")
        if len(text) > BLOCK:
            raise MalformedImage("sparse map with a line that does not end")
        if wanted is None and lines:
            count = _decimal(lines.pop(0))
            _check_count(count)
            wanted = 2 * count
        numbers += [_decimal(line) for line in lines[: (wanted or 0) - len(numbers)]]
    return used, _pairs(numbers)


def check_map(size: int, stored: int, pieces: tuple[Piece, ...]) -> SparseMap:
    """Return the map of a file of `size` bytes of which `stored` are in the archive, checked.

    Pieces must be in order, apart from one another, within the file, and add up to `stored`.
    """
    _check_count(len(pieces))
    position = total = 0
    for offset, length in pieces:
        if offset < position or offset + length > size:
            raise MalformedImage("sparse map with pieces out of order or outside of the file")
        position = offset + length
        total += length
    if total != stored:
        raise MalformedImage(f"sparse map of {total} bytes for an entry with {stored}")
    if size > limits.SPARSE_FREE and size > limits.SPARSE_RATIO_MAX * stored:
        raise MalformedImage(f"sparse file of {size} bytes with only {stored} stored")
    return SparseMap(size, stored, tuple(piece for piece in pieces if piece[1]))


def _pairs(numbers: list[int]) -> tuple[Piece, ...]:
    if len(numbers) % 2:
        raise MalformedImage("sparse map with an offset but no length")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise MalformedImage(f"sparse map with {text!r:.50} where a number should be")
    return int(text)


def _check_count(count: int) -> None:
    if count > limits.SPARSE_PIECES_MAX:
        raise MalformedImage(f"sparse file with more than {limits.SPARSE_PIECES_MAX} pieces")


def hole(size: int) -> Iterator[memoryview]:
    """Yield `size` zeros, in pieces of at most 256 KiB."""
    while size > 0:
        step = min(size, len(_ZEROS))
        yield _ZEROS[:step]
        size -= step
