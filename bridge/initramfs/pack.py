"""An initramfs in the one form that can be made again bit by bit.

What is unpacked of it stands in the image's `/usr` nearly whole, so who has that has most of it;
but only if packing it again gives the same bytes. So it is packed by the library that those who
update have too, from archives in which nothing is of the build: names in order, times and device
numbers zero, inode numbers counted. Whatever comes first uncompressed (microcode, which is to lie
where it was put) stays as it is. Packing what was packed so changes nothing: that is the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from bridge import limits
from bridge.initramfs.cpio import CpioEntry, InitramfsReader, Segment

_LEVEL = 15
"""Of zstd, as dracut has it."""
_TRAILER = "TRAILER!!!"
_ALIGNED = 4


@dataclass(frozen=True, slots=True)
class _Held:
    """An entry whose content lies in the spool."""

    entry: CpioEntry
    offset: int


def packed(source: Callable[[], Iterator[bytes]], spool: BinaryIO) -> Iterator[bytes]:
    """Yield the initramfs that `source` yields, packed in that form.

    `source` is called twice. `spool` is an empty file, for what is unpacked. Raises
    `MalformedImage` where it is no initramfs.
    """
    segments = _unpacked(source(), spool)
    early = next((s.offset for s, _ in segments if s.compression != "none"), None)
    size = 0
    for chunk in _first(source(), early):
        size += len(chunk)
        yield chunk
    for segment, held in segments:
        if early is None or segment.offset < early:
            continue
        yield bytes(-size % _ALIGNED)
        size += -size % _ALIGNED
        for chunk in _compressed(_archive(held, spool)):
            size += len(chunk)
            yield chunk


def is_packed_so(source: Callable[[], Iterator[bytes]], spool: BinaryIO) -> bool:
    """Tell whether an initramfs has that form. Same arguments and errors as of `packed`."""
    return same_bytes(source(), packed(source, spool))


def same_bytes(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Tell whether two streams have the same bytes, wherever they are cut."""
    held = b""
    for chunk in other:
        while len(held) < len(chunk):
            more = next(one, b"")
            if not more:
                return False
            held += more
        if held[: len(chunk)] != chunk:
            return False
        held = held[len(chunk) :]
    return not held and not next(one, b"")


def _unpacked(chunks: Iterator[bytes], spool: BinaryIO) -> list[tuple[Segment, list[_Held]]]:
    found: list[tuple[Segment, list[_Held]]] = []
    reader = InitramfsReader(chunks)
    for segment, entry in reader:
        if not found or found[-1][0] is not segment:
            found.append((segment, []))
        found[-1][1].append(_Held(entry, spool.tell()))
        for chunk in reader.payload():
            spool.write(chunk)
    return found


def _first(chunks: Iterator[bytes], count: int | None) -> Iterator[bytes]:
    """Yield the first `count` bytes, all for None."""
    for chunk in chunks:
        if count is not None:
            chunk = chunk[:count]
            count -= len(chunk)
        if not chunk:
            return
        yield chunk


def _archive(held: list[_Held], spool: BinaryIO) -> Iterator[bytes]:
    numbers: dict[tuple[int, tuple[int, int]], int] = {}
    for count, each in enumerate(sorted(held, key=_by_name), 1):
        entry = each.entry
        is_linked = entry.links > 1 and not entry.is_directory
        number = count
        if is_linked:
            number = numbers.setdefault((entry.inode, entry.device), count)
        links = entry.links if is_linked else 1 + entry.is_directory
        yield _header(entry, number, links)
        left, offset = entry.size, each.offset
        while left:
            spool.seek(offset)
            chunk = spool.read(min(left, limits.BLOB_BUFFER))
            yield chunk
            left -= len(chunk)
            offset += len(chunk)
        yield bytes(-entry.size % _ALIGNED)
    yield _header(CpioEntry(_TRAILER, 0, 0, 1, 0, 0, (0, 0)), 0, 1)


def _by_name(held: _Held) -> list[bytes]:
    name = held.entry.name.encode(errors="surrogateescape")
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def _header(entry: CpioEntry, number: int, links: int) -> bytes:
    name = entry.name.encode(errors="surrogateescape") + b"\0"
    fields = (
        number, entry.mode, entry.uid, entry.gid, links, 0, entry.size,
        0, 0, *entry.special, len(name), 0,
    )  # fmt: skip
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + name
    return head + bytes(-len(head) % _ALIGNED)


def _compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    # In one thread: with several, the bytes depend on how many they are.
    packer = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compressobj()
    for chunk in chunks:
        if data := packer.compress(chunk):
            yield data
    yield packer.flush()
