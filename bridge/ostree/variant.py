"""GVariant serialisation: the part that OSTree objects, and files of its sysroot, are made of.

Format: https://docs.gtk.org/glib/gvariant-specification-1.0.html

A type string is turned once into a codec (`codec("a{sv}")`), which maps plain Python values to
bytes and back: `b` bool, `y n q i u x t` int, `s o g` str, `ay` bytes, `v` `Variant`, arrays
list, `a{..}` dict, tuples tuple. Little-endian; numbers that OSTree keeps in big-endian are
swapped by those who know them (`objects`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bridge.errors import DamagedRepository

_TYPE_MAX = 255


@dataclass(frozen=True, slots=True)
class Variant:
    """A value that carries its own type, as `v` does."""

    type: str
    value: Any


def encode(type_string: str, value: Any) -> bytes:
    """Return `value` in normal form, as `type_string` says."""
    return codec(type_string).encode(value)


def decode(type_string: str, data: bytes) -> Any:
    """Return the value in `data`; `DamagedRepository` where it is not in the type's normal form.

    GLib's own readers make something of other forms too; no writer makes them, and taking one
    form only is what makes equal values equal bytes.
    """
    try:
        return codec(type_string).decode(memoryview(data))
    except (ValueError, IndexError, struct.error, RecursionError) as error:
        raise DamagedRepository(f"not a serialised {type_string}: {error}") from None


def align(position: int, alignment: int) -> int:
    """Return `position` rounded up to a multiple of `alignment`."""
    return -position % alignment + position


def offset_size(body: int, count: int) -> int:
    """Return the bytes that each of `count` framing offsets takes behind `body` bytes."""
    for size in (1, 2, 4):
        if body + count * size < 1 << (8 * size):
            return size
    return 8


def frame(body: bytes, ends: Sequence[int]) -> bytes:
    """Return `body` followed by its framing offsets, in the order given."""
    if not ends:
        return body
    size = offset_size(len(body), len(ends))
    if size == 1:
        return body + bytes(ends)
    return body + b"".join([end.to_bytes(size, "little") for end in ends])


def _offset_width(total: int) -> int:
    for size in (1, 2, 4):
        if total < 1 << (8 * size):
            return size
    return 8


def _check_framing(body: int, count: int, width: int) -> None:
    if count and offset_size(body, count) != width:
        raise ValueError("framing offsets wider than they need to be")


def _check_padding(padding: memoryview) -> None:
    if any(padding):
        raise ValueError("padding that is not zero")


class _Codec:
    alignment = 1
    fixed: int | None = None
    """Size in bytes where all values have the same, else None."""

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError

    def decode(self, data: memoryview) -> Any:
        raise NotImplementedError


class _Number(_Codec):
    def __init__(self, code: str) -> None:
        self._struct = struct.Struct("<" + code)
        self.fixed = self.alignment = self._struct.size

    def encode(self, value: Any) -> bytes:
        return self._struct.pack(value)

    def decode(self, data: memoryview) -> Any:
        return self._struct.unpack(data)[0]


class _Boolean(_Number):
    def decode(self, data: memoryview) -> Any:
        number = super().decode(data)
        if number > 1:
            raise ValueError("a boolean that is neither 0 nor 1")
        return bool(number)


class _String(_Codec):
    def encode(self, value: Any) -> bytes:
        raw: bytes = value.encode("utf-8")
        if b"\0" in raw:
            raise ValueError("a GVariant string cannot hold a NUL")
        return raw + b"\0"

    def decode(self, data: memoryview) -> Any:
        raw = bytes(data)
        if not raw.endswith(b"\0") or b"\0" in raw[:-1]:
            raise ValueError("string without one NUL at its end")
        return raw[:-1].decode("utf-8")


class _Bytes(_Codec):
    def encode(self, value: Any) -> bytes:
        return bytes(value)

    def decode(self, data: memoryview) -> Any:
        return bytes(data)


class _Any(_Codec):
    alignment = 8

    def encode(self, value: Any) -> bytes:
        typed: Variant = value
        return codec(typed.type).encode(typed.value) + b"\0" + typed.type.encode("ascii")

    def decode(self, data: memoryview) -> Any:
        tail = bytes(data[-_TYPE_MAX - 1 :])
        type_string = tail[tail.rindex(b"\0") + 1 :].decode("ascii")
        return Variant(type_string, codec(type_string).decode(data[: -len(type_string) - 1]))


class _Array(_Codec):
    def __init__(self, item: _Codec) -> None:
        self._item = item
        self.alignment = item.alignment

    def encode(self, value: Any) -> bytes:
        body = bytearray()
        ends = []
        for each in value:
            body += bytes(-len(body) % self.alignment)
            body += self._item.encode(each)
            ends.append(len(body))
        return bytes(body) if self._item.fixed else frame(bytes(body), ends)

    def decode(self, data: memoryview) -> Any:
        if not len(data):
            return []
        fixed = self._item.fixed
        if fixed:
            if len(data) % fixed:
                raise ValueError("array is not a whole number of items")
            return [self._item.decode(data[i : i + fixed]) for i in range(0, len(data), fixed)]
        width = _offset_width(len(data))
        body = int.from_bytes(data[-width:], "little")
        table = len(data) - body
        if body > len(data) or table % width or not table:
            raise ValueError("array with broken framing")
        if width > 1:
            _check_framing(body, table // width, width)
        items = []
        end = 0
        for at in range(body, len(data), width):
            start = align(end, self.alignment)
            if start != end:
                _check_padding(data[end:start])
            end = int.from_bytes(data[at : at + width], "little")
            if not start <= end <= body:
                raise ValueError("array item out of bounds")
            items.append(self._item.decode(data[start:end]))
        if end != body:
            raise ValueError("array with something after its last item")
        return items


class _Dict(_Array):
    """An array of entries; order of keys is kept."""

    def encode(self, value: Any) -> bytes:
        return super().encode(value.items())

    def decode(self, data: memoryview) -> Any:
        found: dict[Any, Any] = {}
        for key, value in super().decode(data):
            found.setdefault(key, value)  # of several the first counts, as in g_variant_lookup
        return found


class _Tuple(_Codec):
    def __init__(self, items: list[_Codec]) -> None:
        self._items = items
        self.alignment = max((item.alignment for item in items), default=1)
        size = 0
        for item in items:
            if item.fixed is None:
                return
            size = align(size, item.alignment) + item.fixed
        # The unit type is one zero byte.
        self.fixed = align(size, self.alignment) or 1

    def encode(self, value: Any) -> bytes:
        body = bytearray()
        ends = []
        last = len(self._items) - 1
        for position, (item, each) in enumerate(zip(self._items, value, strict=True)):
            body += bytes(-len(body) % item.alignment)
            body += item.encode(each)
            if item.fixed is None and position != last:
                ends.append(len(body))
        if self.fixed is not None:
            return bytes(body).ljust(self.fixed, b"\0")
        return frame(bytes(body), ends[::-1])

    def decode(self, data: memoryview) -> Any:
        if self.fixed is not None and len(data) != self.fixed:
            raise ValueError("tuple of the wrong size")
        width = _offset_width(len(data))
        table = len(data)
        last = len(self._items) - 1
        values = []
        end = 0
        for position, item in enumerate(self._items):
            start = align(end, item.alignment)
            if start != end:
                _check_padding(data[end:start])
            if item.fixed is not None:
                end = start + item.fixed
            elif position == last:
                end = table
            else:
                table -= width
                if table < 0:
                    raise ValueError("tuple with broken framing")
                end = int.from_bytes(data[table : table + width], "little")
            if not start <= end <= table:
                raise ValueError("tuple member out of bounds")
            values.append(item.decode(data[start:end]))
        if self.fixed is not None:
            _check_padding(data[end:])
        elif end != table:
            raise ValueError("tuple with something after its last member")
        elif width > 1:
            _check_framing(end, (len(data) - end) // width, width)
        return tuple(values)


_BASIC: dict[str, _Codec] = {
    "b": _Boolean("B"),
    "y": _Number("B"),
    "n": _Number("h"),
    "q": _Number("H"),
    "i": _Number("i"),
    "u": _Number("I"),
    "x": _Number("q"),
    "t": _Number("Q"),
    "d": _Number("d"),
    "s": _String(),
    "o": _String(),
    "g": _String(),
    "v": _Any(),
}


@lru_cache(maxsize=256)
def codec(type_string: str) -> _Codec:
    """Return the codec of one complete type; `ValueError` for anything else."""
    if len(type_string) > _TYPE_MAX:
        raise ValueError("type string over 255 characters")
    result, rest = _parse(type_string)
    if rest:
        raise ValueError(f"type string {type_string!r} goes on after its end")
    return result


def _parse(text: str) -> tuple[_Codec, str]:
    head = text[:1]
    if head in _BASIC:
        return _BASIC[head], text[1:]
    if text.startswith("ay"):
        return _Bytes(), text[2:]
    if text.startswith("a{"):
        if text[2:3] not in _BASIC or text[2] == "v":
            raise ValueError("dict entry whose key is not of a basic type")
        entry, rest = _members(text[2:], "}")
        if len(entry) != 2:
            raise ValueError("dict entry without exactly a key and a value")
        return _Dict(_Tuple(entry)), rest
    if head == "a":
        item, rest = _parse(text[1:])
        return _Array(item), rest
    if head == "(":
        items, rest = _members(text[1:], ")")
        return _Tuple(items), rest
    raise ValueError(f"type string with {text[:20]!r}")


def _members(text: str, close: str) -> tuple[list[_Codec], str]:
    items: list[_Codec] = []
    while not text.startswith(close):
        item, text = _parse(text)
        items.append(item)
    return items, text[1:]
