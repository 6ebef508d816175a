"""Device nodes and fifos: none gets into a store, and each is named."""

from __future__ import annotations

from support.crafted.blocks import base256, header
from support.crafted.case import Case, legal, refused
from support.images import char, directory, file, hardlink, symlink

_UMOCI = "a container has them"
_KINDS = {
    "character device": b"3",
    "block device": b"4",
    "fifo": b"6",
}
_NUMBERS = {
    "null": (1, 3), "mem": (1, 1), "disk": (8, 0), "0:0": (0, 0), "large": (511, 0o777777),
}  # fmt: skip
_PLACES = ["x", "usr/bin/x", "etc/x", "var/lib/x", "a/b/c/x"]


def _stored(path: str) -> str:
    return f"usr/{path}" if path.startswith("etc/") else path


def _parents(path: str) -> dict[str, str]:
    parent = _stored(path).rpartition("/")[0]
    return {parent: "dir"} if parent else {}


LEFT_OUT: dict[str, Case] = {
    f"{kind} {numbers} at {path}": legal(
        [
            [
                file("kept", "1"),
                header(path.encode(), flag, major=_field(major), minor=_field(minor)),
            ]
        ],
        {"kept": "1", **_parents(path)},
        [(_stored(path), kind)],
        engines=_UMOCI,
    )
    for _field in (lambda number: b"%07o\0" % number,)
    for kind, flag in _KINDS.items()
    for numbers, (major, minor) in _NUMBERS.items()
    for path in (_PLACES if numbers == "null" else _PLACES[:1])
    if flag != b"6" or numbers == "null"
}

ODD: dict[str, Case] = {
    "below /dev it is mounted over": legal(
        [[directory("dev"), char("dev/null", 1, 3), char("dev/pts/0", 136, 0)]],
        {"dev": "dir"},
        [("dev/null", "in a directory that is mounted over"),
         ("dev/pts/0", "in a directory that is mounted over")],
    ),
    "a device in the place of /dev": legal(
        [[file("a"), char("dev", 1, 3)]], {"a": ""},
        [("dev", "in a directory that is mounted over")], engines=_UMOCI,
    ),
    "a device over a file leaves the file": legal(
        [[file("a", "1"), char("a", 1, 3)]], {"a": "1"}, [("a", "character device")],
        engines=_UMOCI,
    ),
    "a device over a lower file leaves the file": legal(
        [[file("a", "1")], [char("a", 1, 3)]], {"a": "1"}, [("a", "character device")],
        engines=_UMOCI,
    ),
    "a file over a device": legal(
        [[char("a", 1, 3), file("a", "1")]], {"a": "1"}, [("a", "character device")]
    ),
    "a file over a lower device": legal(
        [[char("a", 1, 3)], [file("a", "1")]], {"a": "1"}, [("a", "character device")]
    ),
    "a directory over a device": legal(
        [[char("a", 1, 3)], [file("a/b", "1")]], {"a/b": "1"}, [("a", "character device")],
        engines="umoci finds that it is no directory",
    ),
    "a device with a payload's size": legal(
        [[header(b"x", b"3", 512), file("a", "1")]], {"a": "1"}, [("x", "character device")],
        engines=_UMOCI,
    ),
    "a fifo with a payload's size": legal(
        [[header(b"x", b"6", 99), file("a", "1")]], {"a": "1"}, [("x", "fifo")], engines=_UMOCI,
    ),
    "a device of V7, without numbers": legal(
        [[header(b"x", b"3", magic=bytes(8), major=b"\xff" * 8), file("a", "1")]],
        {"a": "1"}, [("x", "character device")], engines=_UMOCI,
    ),
    "a device's number is no number": refused([[header(b"x", b"3", major=b"x")]], "device major"),
    "a device's number is negative": refused(
        [[header(b"x", b"4", minor=base256(-1, 8))]], "device minor"
    ),
    "a hard link to a device": refused(
        [[char("x", 1, 3), hardlink("y", "x")]], "no file of this", verified=True
    ),
    "a hard link to a device below": refused(
        [[char("x", 1, 3)], [hardlink("y", "x")]], "no file of this", verified=True
    ),
    "a link to a device is a link": legal(
        [[symlink("x", "/dev/sda"), symlink("y", "/dev/mem")]],
        {"x": "-> /dev/sda", "y": "-> /dev/mem"},
    ),
    "whiteouts as overlayfs has them mean nothing": legal(
        [[file("a", "1"), file("d/x", "2")], [char("a", 0, 0), char("d/x", 0, 0)]],
        {"a": "1", "d/x": "2"},
        [("a", "character device"), ("d/x", "character device")],
        engines=_UMOCI,
    ),
    **{
        f"a socket as type {flag!r}": refused([[header(b"x", flag)]], "unknown type")
        for flag in (b"s", b"8", b"9", b"C", b"B")
    },
}  # fmt: skip

CASES: dict[str, Case] = LEFT_OUT | ODD
