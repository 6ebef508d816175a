"""The initramfs of a root: what is not reproducible in it, and what is not the image's."""

from __future__ import annotations

import gzip

import pytest
from support.lint import Look, check, cpio, cpio_entry, files

MODULES = "usr/lib/modules/6.1"
IMAGE = {f"{MODULES}/vmlinuz": "k", "bin": "-> usr/bin", "usr/bin/sh": b"shell" * 1000}
PATH = f"/{MODULES}/initramfs.img"


def entry(name: str, inode: int, **more: object) -> bytes:
    return cpio_entry(name, inode=inode, **more)  # type: ignore[arg-type]


DIRECTORY = 0o040755
GOOD = files({"bin/sh": b"shell" * 1000, "etc/conf": b"small"}, mtime=100)
CASES: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "good": (GOOD, []),
    "packed": (gzip.compress(GOOD, mtime=0), []),
    "packed at a time": (
        gzip.compress(GOOD, mtime=9),
        [("is not packed alike each time", "the gzip header has a time")],
    ),
    "late": (
        cpio(entry("a", 1, mtime=100), entry("b", 2, mtime=101), entry("c", 3, mtime=102)),
        [("has files with times after 1970-01-01T00:01:40Z",
          "2 of 3, 'b' first: 1970-01-01T00:01:41Z")],
    ),
    "unordered": (
        cpio(entry("b", 1), entry("a", 2), entry("0", 3)),
        [("has files in an order that is not that of their names", "'a' after 'b'")],
    ),
    "in the order of bytes": (
        cpio(entry(".", 0, mode=DIRECTORY), entry("a", 1, mode=DIRECTORY), entry("a-b", 2),
             entry("a/b", 3)), [],
    ),
    "in the order of parts": (
        cpio(entry(".", 0, mode=DIRECTORY), entry("a", 1, mode=DIRECTORY), entry("a/b", 3),
             entry("a-b", 4)), [],
    ),
    "in neither order": (
        cpio(entry("a", 1, mode=DIRECTORY), entry("a/b", 2), entry("a-b", 3), entry("a/c", 4),
             entry("a-c", 5)),
        [("has files in an order that is not that of their names", "'a/c' after 'a-b'")],
    ),
    "each archive has an order of its own": (
        files({"x": b""}) + gzip.compress(files({"a": b""}) + files({"a": b""}), mtime=0), [],
    ),
    "hard links come late": (
        cpio(entry("a", 1), entry("z", 3), entry("b", 2, links=2), entry("c", 2, links=2)), [],
    ),
    "device": (
        cpio(entry("a", 1), entry("b", 2, device=(8, 1)), entry("c", 3, device=(0, 9))),
        [("has the number of the device that it was built on", "8:1, of 'b'")],
    ),
    "inodes go up and down": (
        cpio(entry("a", 8), entry("b", 9), entry("c", 7)),
        [("has the inode numbers of the build", "7 of 'c' after 9")],
    ),
    "inodes are far apart": (
        cpio(entry("a", 1), entry("b", 2_000_000)),
        [("has the inode numbers of the build", "2000000 of 'b' after 1")],
    ),
    "inodes begin where the tool begins": (cpio(entry("a", 721), entry("b", 722)), []),
    "stale": (
        files({"bin/sh": b"shelL" * 1000, "usr/bin/sh": b"longer" * 1000}),
        [("has files that differ from those of the image", "/usr/bin/sh"),
         ("has files that differ from those of the image", "/usr/bin/sh"),
         ("is not made of the image's files: over 20 % of it is nowhere else",
          "11,000 of 11,000 bytes")],
    ),
    "of its own": (
        files({"bin/sh": b"shell" * 1000, "etc/conf": b"x" * 1251}),
        [("is not made of the image's files: over 20 % of it is nowhere else",
          "1,251 of 6,251 bytes")],
    ),
    "a fifth of its own": (files({"bin/sh": b"shell" * 1000, "etc/conf": b"x" * 1250}), []),
    "depmod's": (
        files({"bin/sh": b"shell" * 1000, f"{MODULES}/modules.dep.bin": b"few"}), [],
    ),
    "no initramfs": (
        b"kernel", [("is no initramfs that Linux unpacks",
                     "no archive at offset 0: it begins with b'kernel'")],
    ),
    "cut off": (GOOD[:-600], [("is no initramfs that Linux unpacks", "it is cut off")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_found(name: str, look: Look) -> None:
    data, expected = CASES[name]
    tree = {**IMAGE, f"{MODULES}/initramfs.img": data, f"{MODULES}/modules.dep.bin": "many"}
    found = check("initramfs", look(tree, 100))
    assert [(each.problem, each.detail) for each in found] == expected
    assert {each.path for each in found} <= {PATH}
    assert all(each.cure for each in found)


def test_without_an_epoch_times_are_not_looked_at(look: Look) -> None:
    tree = {**IMAGE, f"{MODULES}/initramfs.img": cpio(entry("a", 1, mtime=2**31))}
    assert check("initramfs", look(tree)) == []


def test_only_that_of_a_kernel_is_looked_at(look: Look) -> None:
    tree = {"usr/lib/modules/1/initramfs.img": "x", "boot/initrd.img": "x",
            "usr/lib/modules/2/vmlinuz": "k",
            "usr/lib/modules/3/vmlinuz": "k", "usr/lib/modules/3/initramfs.img": None}  # fmt: skip
    assert check("initramfs", look(tree)) == []


def test_content_is_compared_to_its_end(look: Look) -> None:
    large = bytes(700_000)
    changed = large[:-1] + b"\1"
    tree = {f"{MODULES}/vmlinuz": "k", "usr/lib/a": large, "usr/lib/b": changed}
    packed = files({"usr/lib/a": large, "usr/lib/b": large, "x": b"", "usr/lib/none": b"1"})
    found = check("initramfs", look({**tree, f"{MODULES}/initramfs.img": packed}))
    assert [each.detail for each in found] == ["/usr/lib/b", "700,001 of 1,400,001 bytes"]
