"""An initramfs, read: archives in a row, any compression, and whatever is none."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import random
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.lint import cpio, cpio_entry, files

from bridge import limits
from bridge.errors import MalformedImage
from bridge.initramfs import lz4
from bridge.initramfs.cpio import CpioEntry, InitramfsReader

TREE = {"bin/sh": b"a shell" * 99, "etc/x": b"", "init": b"\x7fELF" + bytes(range(256)) * 3}
LZ4 = shutil.which("lz4")


def lz4_packed(data: bytes) -> bytes:
    assert LZ4
    return subprocess.run([LZ4, "-l", "-c"], input=data, capture_output=True, check=True).stdout


def zstd_packed(data: bytes) -> bytes:
    # Without its size in the header, as the program packs what comes through a pipe.
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd_packed,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "lz4": lz4_packed,
}


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes, size: int = 1 << 18) -> dict[str, bytes]:
    """Return the files of an initramfs that comes in pieces of that size."""
    reader = InitramfsReader(pieces(data, size))
    return {entry.name: b"".join(reader.payload()) for _, entry in reader if entry.is_file}


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("kind", PACKERS)
def test_every_compression_is_read(kind: str, size: int) -> None:
    packed = PACKERS[kind](files(TREE))
    for data in (packed, packed + bytes(515), bytes(8) + packed):
        assert read(data, size) == TREE
        (compression,) = {segment.compression for segment, _ in InitramfsReader(iter([data]))}
        assert compression == kind


@pytest.mark.parametrize("kind", PACKERS)
def test_microcode_stands_in_front_uncompressed(kind: str) -> None:
    early = files({"early_cpio": b"1\n", "kernel/x86/microcode/GenuineIntel.bin": b"\1" * 5000})
    data = early + PACKERS[kind](files(TREE))
    reader = InitramfsReader([data])
    found = [(segment.compression, segment.offset, entry.name) for segment, entry in reader]
    names = ["early_cpio", "kernel", "kernel/x86", "kernel/x86/microcode",
             "kernel/x86/microcode/GenuineIntel.bin"]  # fmt: skip
    assert found == [
        *(("none", 0, name) for name in names),
        *((kind, len(early), name) for name in ("bin", "bin/sh", "etc", "etc/x", "init")),
    ]


def test_archives_stand_in_a_row_compressed_and_not() -> None:
    one, two, three = (files({name: name.encode()}) for name in ("a", "b", "c"))
    data = one + gzip.compress(two) + bytes(3) + zstd_packed(three + two) + lzma.compress(one)
    reader = InitramfsReader([data])
    found = [(segment.compression, entry.name, reader.read(9)) for segment, entry in reader]
    assert found == [
        ("none", "a", b"a"), ("gzip", "b", b"b"), ("zstd", "c", b"c"), ("zstd", "b", b"b"),
        ("xz", "a", b"a"),
    ]  # fmt: skip


def test_an_entry_is_as_it_was_written() -> None:
    data = cpio(
        cpio_entry("é", b"abc", inode=7, mode=0o104755, links=2, mtime=9, device=(8, 1)),
        cpio_entry(b"\xff", mode=0o120777, magic=b"070702"),
        cpio_entry("dev/console", mode=0o020600),
    )
    reader = InitramfsReader([data])
    entries = [entry for _, entry in reader]
    assert entries[0] == CpioEntry("é", 7, 0o104755, 2, 9, 3, (8, 1))
    assert entries[0].is_file and not entries[0].is_directory
    assert [each.name for each in entries] == ["é", "\udcff", "dev/console"]


def test_content_is_taken_or_left() -> None:
    reader = InitramfsReader(pieces(files({"a": b"x" * 300_000, "b": b"y"}), 1000))
    sizes = []
    for _, entry in reader:
        if entry.name == "a":
            sizes = [len(each) for each in reader.payload()]
        else:
            with pytest.raises(MalformedImage, match="an entry of 1 bytes; the limit is 0"):
                reader.read(0)
    assert sum(sizes) == 300_000 and max(sizes) <= limits.BLOB_BUFFER


def test_what_differs_from_build_to_build_is_noted() -> None:
    def notes(data: bytes) -> list[str]:
        return next(segment.notes for segment, _ in InitramfsReader([data]))

    plain = files(TREE)
    named = bytearray(gzip.compress(plain, mtime=0))
    named[3] |= 8
    named[10:10] = b"initrd\0"
    assert notes(plain) == notes(gzip.compress(plain, mtime=0)) == notes(zstd_packed(plain)) == []
    assert notes(gzip.compress(plain, mtime=1)) == ["the gzip header has a time"]
    assert notes(bytes(named)) == ["the gzip header has a file's name"]


WHOLE = cpio(cpio_entry("a", b"content"))
PACKED = gzip.compress(WHOLE * 50, mtime=0)
HEAD = 110


def number(at: int, text: bytes) -> bytes:
    """The archive with other digits in the header's field number `at`."""
    start = 6 + 8 * at
    return WHOLE[:start] + text + WHOLE[start + 8 :]


MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "zeros": (bytes(4096), "it is empty"),
    "text": (b"not an initramfs", "no archive at offset 0: it begins with b'not an'"),
    "old cpio": (b"\xc7\x71" + bytes(100), "no archive at offset 0"),
    "portable cpio": (b"070707" + bytes(100), "no archive at offset 0"),
    "lzo": (b"\x89LZO\0\r\n\x1a\n", "no archive at offset 0"),
    "modern lz4": (b"\x04\x22\x4d\x18" + bytes(20), "no archive at offset 0"),
    "garbage after": (WHOLE + b"garbage", f"no archive at offset {len(WHOLE)}"),
    "garbage after gzip": (PACKED + b"garbage", f"no archive at offset {len(PACKED)}"),
    "only a magic": (b"070701", "it is cut off"),
    "header cut off": (WHOLE[:100], "it is cut off"),
    "name cut off": (WHOLE[: HEAD + 1], "it is cut off"),
    "content cut off": (WHOLE[: HEAD + 2 + 4], "it is cut off"),
    "padding cut off": (WHOLE[: HEAD + 2 + 7], "it is cut off"),
    "no trailer": (cpio_entry("a", b"content"), "it is cut off"),
    "not at a multiple of four": (
        cpio_entry("a", b"x" * 4) + b"\0" + cpio(),
        r"an entry begins with b'\\x0007070'",
    ),
    "second entry is none": (cpio_entry("a") + bytes(200), r"an entry begins with b'\\x00"),
    "no number": (number(6, b"0000000g"), "a number that is none"),
    "a sign": (number(6, b"+0000007"), "a number that is none"),
    "a space": (number(6, b" 0000007"), "a number that is none"),
    "an underscore": (number(6, b"0000_007"), "a number that is none"),
    "0x": (number(6, b"0x000007"), "a number that is none"),
    "size beyond the end": (number(6, b"ffffffff"), "it is cut off"),
    "no name": (number(11, b"00000000"), "whose name has 0 bytes"),
    "empty name": (number(11, b"00000001"), "whose name has 1 bytes"),
    "name too long": (number(11, b"00001002"), "whose name has 4098 bytes"),
    "name of 4 GiB": (number(11, b"ffffffff"), "whose name has 4294967295 bytes"),
    "name without an end": (number(11, b"00000006"), "does not end where it should"),
    "NUL in a name": (cpio(cpio_entry("a\0b")), "does not end where it should"),
    "gzip cut off": (PACKED[:-9], "its gzip is cut off"),
    "gzip header alone": (PACKED[:10], "its gzip is cut off"),
    "gzip damaged": (PACKED[:30] + b"\xff" * 20 + PACKED[50:], "its gzip is damaged"),
    "gzip checksum": (PACKED[:-5] + b"\0" + PACKED[-4:], "its gzip is damaged"),
    "gzip of no archive": (gzip.compress(b"hello"), "the gzip at offset 0 holds no archive"),
    "gzip of gzip": (gzip.compress(PACKED), "the gzip at offset 0 holds no archive"),
    "gzip of a cut archive": (gzip.compress(WHOLE[:120]), "it is cut off"),
    "zstd cut off": (zstd_packed(WHOLE)[:-3], "its zstd is cut off"),
    "zstd damaged": (zstd_packed(WHOLE)[:6] + b"\xff" * 30, "its zstd is damaged"),
    "zstd of text": (zstd_packed(b"hello"), "the zstd at offset 0 holds no archive"),
    "xz cut off": (lzma.compress(WHOLE)[:-3], "its xz is cut off"),
    "xz damaged": (lzma.compress(WHOLE)[:-8] + bytes(8), "its xz is damaged"),
    "lzma damaged": (b"\x5d\0\0\x80\0" + b"\xff" * 60, "its lzma is"),
    "gzip of nothing": (gzip.compress(b""), "the gzip at offset 0 holds no archive"),
    "gzip of zeros": (gzip.compress(bytes(512)), "the gzip at offset 0 holds no archive"),
    "bzip2 cut off": (bz2.compress(WHOLE)[:-3], "its bzip2 is cut off"),
    "bzip2 damaged": (bz2.compress(WHOLE)[:-8] + bytes(8), "its bzip2 is damaged"),
    "lz4 magic alone": (b"\x02\x21\x4c\x18", "the lz4 at offset 0 holds no archive"),
    "lz4 block cut off": (b"\x02\x21\x4c\x18\x09\0\0\0ab", "it is cut off"),
    "lz4 damaged": (b"\x02\x21\x4c\x18\x03\0\0\0\x10ab", "its lz4 is damaged"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("size", [1, 1 << 18])
def test_what_is_no_initramfs_is_told_apart(name: str, size: int) -> None:
    data, message = MALFORMED[name]
    with pytest.raises(MalformedImage, match=message):
        read(data, size)


def test_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INITRAMFS_ENTRIES_MAX", 3)
    assert len(read(files({"a": b"", "b": b""}))) == 2
    with pytest.raises(MalformedImage, match="more than 3 entries"):
        read(files({"a": b"", "b": b"", "c": b"", "d": b""}))
    monkeypatch.setattr(limits, "INITRAMFS_MAX", 1 << 20)
    bomb = files({"a": bytes(3 << 20)})
    for kind in ("gzip", "zstd", "xz", "bzip2"):
        with pytest.raises(MalformedImage, match="unpacks to more than 1048576 bytes"):
            read(PACKERS[kind](bomb))


def test_a_bomb_is_unpacked_in_pieces() -> None:
    packed = zstandard.ZstdCompressor(level=19).compress(cpio(cpio_entry("a", bytes(64 << 20))))
    assert len(packed) < 8192
    reader = InitramfsReader([packed])
    largest = 0
    for _ in reader:
        largest = max(len(chunk) for chunk in reader.payload())
    assert largest <= limits.BLOB_BUFFER


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
trees = st.dictionaries(names.filter(lambda name: name != "TRAILER!!!"), st.binary(max_size=99))


@given(trees, st.sampled_from([kind for kind in PACKERS if kind != "lz4"]), st.integers(1, 99))
def test_what_is_packed_is_read(tree: dict[str, bytes], kind: str, size: int) -> None:
    data = PACKERS[kind](cpio(*(cpio_entry(name, content) for name, content in tree.items())))
    assert read(data, size) == tree


@given(st.data())
def test_no_damage_ends_in_anything_but_our_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([each for each in PACKERS if each != "lz4"]))
    whole = bytearray(PACKERS[kind](files(TREE)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(MalformedImage):
        read(bytes(whole[:end]))


@given(st.binary(max_size=300), st.sampled_from([b"070701", b"\x1f\x8b\x08", b"\x02\x21\x4c\x18"]))
def test_noise_ends_in_our_error(noise: bytes, magic: bytes) -> None:
    with contextlib.suppress(MalformedImage):
        read(magic + noise)


# -- lz4 -------------------------------------------------------------------------------------


def varied(size: int) -> bytes:
    """Bytes that repeat in many ways: near, far, over themselves, and not at all."""
    source = random.Random(5)
    words = [source.randbytes(source.randrange(1, 400)) for _ in range(60)]
    out = bytearray()
    while len(out) < size:
        out += source.choice(words) * source.choice((1, 1, 1, 2, 30))
    return bytes(out[:size])


@pytest.mark.parametrize(
    "data", [b"", b"a", b"a" * 100_000, varied(3_000_000), bytes(9 << 20), varied(8 << 20)],
    ids=["empty", "one", "run", "varied", "blocks", "one whole block"],
)  # fmt: skip
def test_lz4_is_what_the_program_writes(data: bytes) -> None:
    from bridge.initramfs.unpack import Buffer

    source = Buffer(pieces(lz4_packed(data), 65_536))
    assert b"".join(lz4.unpacked(source.peek, source.take)) == data


@pytest.mark.parametrize(
    "packed",
    [b"", b"\x10", b"\x20a", b"\xf0", b"\xf0\xff", b"\x10a\x01", b"\x10a\x00\x00", b"\x10a\x02\x00",
     b"\x1fa\x01\x00", b"\x1fa\x01\x00\xff", b"\x10a\x01\x00"],
)  # fmt: skip
def test_a_damaged_lz4_block_is_refused(packed: bytes) -> None:
    with pytest.raises(MalformedImage, match="its lz4 is damaged"):
        lz4.unpack_block(packed, 1000)


def test_an_lz4_block_stays_within_its_size() -> None:
    bomb = b"\x1fa\x01\x00" + b"\xff" * 1000 + b"\x00\x00"
    assert len(lz4.unpack_block(bomb, 300_000)) == 1 + 4 + 15 + 255_000
    with pytest.raises(MalformedImage):
        lz4.unpack_block(bomb, 255_000)


@given(st.binary(max_size=200))
def test_noise_as_an_lz4_block(noise: bytes) -> None:
    with contextlib.suppress(MalformedImage):
        assert len(lz4.unpack_block(noise, 5000)) <= 5000


def test_zlib_is_what_gzip_is_read_with() -> None:
    """A deflate stream without gzip's header is no initramfs: Linux does not take it."""
    with pytest.raises(MalformedImage, match="no archive at offset 0"):
        read(zlib.compress(WHOLE))
