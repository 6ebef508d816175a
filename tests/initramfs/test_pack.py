"""An initramfs packed in the form that can be made again bit by bit."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.lint import cpio, cpio_entry, files

from bridge.errors import MalformedImage
from bridge.initramfs.cpio import CpioEntry, InitramfsReader
from bridge.initramfs.pack import is_packed_so, packed

EARLY = files({"kernel/x86/microcode/GenuineIntel.bin": b"\1" * 5001})
TREE = {"init": b"init", "usr/bin/sh": b"sh" * 9000, "usr/lib/a": b"", "etc/x": b"x"}


def again(data: bytes) -> bytes:
    return b"".join(packed(lambda: iter([data]), io.BytesIO()))


def lasts(data: bytes) -> bool:
    return is_packed_so(lambda: (data[at : at + 7] for at in range(0, len(data), 7)), io.BytesIO())


def entries(data: bytes) -> list[tuple[CpioEntry, bytes]]:
    reader = InitramfsReader([data])
    return [(entry, b"".join(reader.payload())) for _, entry in reader]


def content(data: bytes) -> dict[str, tuple[int, int, int, bytes]]:
    return {e.name: (e.mode, e.uid, e.links, payload) for e, payload in entries(data)}


def test_what_is_of_the_build_is_gone(tmp_path: Path) -> None:
    data = gzip.compress(
        cpio(
            cpio_entry("z", b"z", inode=99, mtime=5, device=(8, 1)),
            cpio_entry("a/b", b"b" * 70_000, inode=98, mtime=6, mode=0o104755),
            cpio_entry("a", inode=97, mtime=7, mode=0o040700, links=3),
            cpio_entry("one", inode=96, links=2),
            cpio_entry("two", b"same", inode=96, links=2),
        )
    )
    made = again(data)
    found = entries(made)
    assert [(e.name, e.inode, e.links, e.mtime, e.device) for e, _ in found] == [
        ("a", 1, 2, 0, (0, 0)),
        ("a/b", 2, 1, 0, (0, 0)),
        ("one", 3, 2, 0, (0, 0)),
        ("two", 3, 2, 0, (0, 0)),
        ("z", 5, 1, 0, (0, 0)),
    ]
    assert [(e.mode, payload) for e, payload in found] == [
        (0o040700, b""),
        (0o104755, b"b" * 70_000),
        (0o100644, b""),
        (0o100644, b"same"),
        (0o100644, b"z"),
    ]
    assert lasts(made)
    assert not lasts(data)
    # The program that Debian has reads it alike.
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(made)
    subprocess.run(["cpio", "--quiet", "-id"], input=plain, cwd=tmp_path, check=True)
    assert sorted(os.listdir(tmp_path)) == ["a", "one", "two", "z"]
    assert (tmp_path / "one").stat().st_ino == (tmp_path / "two").stat().st_ino
    assert (tmp_path / "one").read_bytes() == b"same"
    assert (tmp_path / "a/b").read_bytes() == b"b" * 70_000
    assert (tmp_path / "a/b").stat().st_mode & 0o7777 == 0o4755


def test_what_comes_first_stays_where_it_is() -> None:
    data = EARLY + bytes(512) + gzip.compress(files(TREE, mtime=9)) + bytes(3)
    made = again(data)
    assert made.startswith(EARLY + bytes(512) + zstandard.FRAME_HEADER)
    assert content(made) == content(data)
    assert lasts(made)


def test_archives_in_a_row_stay_several() -> None:
    data = gzip.compress(files({"a": b"a"})) + gzip.compress(files({"a": b"b", "c": b"c"}))
    made = again(data)
    assert [entry.name for entry, _ in entries(made)] == ["a", "a", "c"]
    assert made.count(zstandard.FRAME_HEADER) == 2
    assert lasts(made)


def test_one_that_is_not_packed_at_all_stays_as_it_is() -> None:
    assert again(files(TREE, mtime=9)) == files(TREE, mtime=9)


NAMES = st.lists(st.text("ab/é", min_size=1, max_size=6), max_size=8, unique=True)


@given(NAMES, st.randoms(), st.binary(max_size=300))
def test_the_order_in_which_it_was_packed_does_not_matter(
    names: list[str], dice: object, data: bytes
) -> None:
    one = [cpio_entry(name, data, inode=n) for n, name in enumerate(names)]
    other = [cpio_entry(name, data, inode=500 - n, mtime=n) for n, name in enumerate(names)]
    dice.shuffle(other)  # type: ignore[attr-defined]
    by_parts = {tuple(part for part in name.split("/") if part) for name in names}
    if len(by_parts) == len(names):  # else two are one name, and the last one wins
        assert again(gzip.compress(cpio(*one))) == again(gzip.compress(cpio(*other)))
    assert lasts(again(gzip.compress(cpio(*one))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 9,
        b"070701",
        gzip.compress(b"none", mtime=0),
        gzip.compress(files(TREE), mtime=0)[:-20],
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedImage):
        again(data)
