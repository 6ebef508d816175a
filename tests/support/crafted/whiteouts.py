"""Whiteouts and opaque markers: of every kind of entry, for every kind of thing, in any order."""

from __future__ import annotations

import itertools

from support.crafted.blocks import header
from support.crafted.case import Case, d, legal, refused
from support.images import char, directory, file, hardlink, opaque, symlink, whiteout

_LOWER = {
    "a file": ([file("v", "1")], "v"),
    "a directory": ([directory("v"), file("v/in", "1"), file("v/deep/er", "2")], "v"),
    "an implied directory": ([file("v/in", "1")], "v"),
    "a link": ([symlink("v", "kept")], "v"),
    "a link to a directory": ([directory("t"), symlink("v", "t")], "v"),
    "a hard link": ([file("w", "1"), hardlink("v", "w")], "v"),
    "nothing": ([], "v"),
    "a dropped device": ([char("v", 1, 3)], "v"),
}
_REMAINS = {"a link to a directory": {"t": "dir"}, "a hard link": {"w": "1"}}
_FORMS = {
    "an empty file": lambda path: file(f".wh.{path}", mode=0),
    "a file with content": lambda path: file(f".wh.{path}", b"content" * 200, mode=0o4777, uid=9),
    "a link": lambda path: symlink(f".wh.{path}", "/"),
    "a hard link": lambda path: hardlink(f".wh.{path}", "kept"),
    "a device": lambda path: char(f".wh.{path}", 0, 0),
    "a fifo": lambda path: header(f".wh.{path}".encode(), b"6"),
    "spelled ./": lambda path: file(f"./.wh.{path}"),
    "spelled /": lambda path: file(f"//.wh.{path}"),
}
_ODD_FORMS = ("a link", "a hard link", "a device", "a fifo")
HIDDEN: dict[str, Case] = {
    f"{form} hides {what}": legal(
        [[file("kept", "k"), *lower], [make(path)]],
        {"kept": "k", **_REMAINS.get(what, {})},
        [("v", "character device")] if what == "a dropped device" else [],
        engines="umoci removes nothing for a whiteout that is no file"
        if form in _ODD_FORMS
        else "",
    )
    for (what, (lower, path)), (form, make) in itertools.product(_LOWER.items(), _FORMS.items())
    if form in ("an empty file", "a file with content") or what in ("a file", "a directory")
}

# -- order: a whiteout hides lower layers, never its own -----------------------------------------

_LAYER = {
    "marker": whiteout("d"),
    "directory": directory("d", 0o711),
    "file": file("d/new", "n"),
}
ORDERS: dict[str, Case] = {
    f"whiteout and directory anew, in the order {', '.join(order)}": legal(
        [[directory("d", 0o700, uid=7), file("d/old", "o")], [_LAYER[each] for each in order]],
        {"d": d(0o711), "d/new": "n"},
        engines="" if order[0] == "marker" else "umoci goes by the order of the entries",
    )
    for order in itertools.permutations(_LAYER)
} | {
    f"opaque marker, directory and file, in the order {', '.join(order)}": legal(
        [
            [directory("d", 0o700, uid=7), file("d/old", "o"), file("d/e/old", "o")],
            [(_LAYER | {"marker": opaque("d")})[each] for each in order],
        ],
        {"d": d(0o711), "d/new": "n"},
        engines="" if order[0] == "marker" else "umoci goes by the order of the entries",
    )
    for order in itertools.permutations(_LAYER)
} | {
    f"whiteout and {what} anew, {order}": legal(
        [[file("v", "old")], [whiteout("v"), anew] if order == "first" else [anew, whiteout("v")]],
        tree,
        engines="" if order == "first" else "umoci goes by the order of the entries",
    )
    for what, anew, tree in (
        ("file", file("v", "new"), {"v": "new"}),
        ("link", symlink("v", "x"), {"v": "-> x"}),
        ("directory", directory("v", 0o700), {"v": d(0o700)}),
    )
    for order in ("first", "last")
}  # fmt: skip

# -- names ---------------------------------------------------------------------------------------

_NAMES = ["-a", "+x", ".bashrc", "a b", "é", "a\nb", "..x", "...", "wh", ".whx", "~", "n" * 251]
NAMES: dict[str, Case] = {
    f"a whiteout of the name {name!r:.20}": legal(
        [[file(f"d/{name}", "1"), file(f"d/{name[:200]}2", "2")], [whiteout(f"d/{name}")]],
        {f"d/{name[:200]}2": "2"},
    )
    for name in _NAMES
} | {
    f"{'/'.join(path)!r} names nothing": refused([[file("/".join(path))]], "names nothing")
    for path in (("d", ".wh."), (".wh.",), (".wh..",), ("d", ".wh..."), (".wh...",))
} | {
    f"{path!r} as a directory": refused([[directory(path)]], "is a directory")
    for path in (".wh.d", "d/.wh.x", ".wh..wh..opq", "d/.wh..wh..opq", ".wh.etc")
} | {
    f"{path!r} is AUFS's own": legal(
        [[file("a", "1")], [file(path)]], {"a": "1"}, [(path, "AUFS metadata")],
        engines="umoci takes it for the whiteout of a name",
    )
    for path in (".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", ".wh..wh..opqx")
} | {
    "below a directory of AUFS's": legal(
        [[file("a", "1")], [directory("e"), file("e/.wh..wh.plnk/b"), file("e/.wh..wh.plnk/c/d")]],
        {"a": "1", "e": "dir"},
        [("e/.wh..wh.plnk/b", "AUFS metadata"), ("e/.wh..wh.plnk/c/d", "AUFS metadata")],
        engines="umoci takes it for a directory",
    ),
    "below a directory that is called as a whiteout": refused(
        [[file(".wh.d/x")]], "is a directory"
    ),
    "a whiteout of a whiteout": legal(
        [[file("a", "1"), file(".whx")], [file(".wh..whx")]], {"a": "1"}
    ),
}  # fmt: skip

# -- places --------------------------------------------------------------------------------------

PLACES: dict[str, Case] = {
    "a whiteout of /dev": legal([[directory("dev"), file("a")], [whiteout("dev")]], {"a": ""}),
    "a whiteout in /dev": legal(
        [[directory("dev"), file("a")], [whiteout("dev/null")]],
        {"dev": "dir", "a": ""},
        [("dev/.wh.null", "in a directory that is mounted over")],
    ),
    "an opaque /run": legal(
        [[directory("run", 0o700)], [opaque("run")]],
        {"run": d(0o700)},
        [("run/.wh..wh..opq", "in a directory that is mounted over")],
        engines="",
    ),
    "a whiteout of /etc": legal([[file("etc/a"), file("b")], [whiteout("etc")]], {
        "usr": "dir", "b": ""}, engines="/etc is kept in /usr, which stays"),
    "a whiteout in /etc": legal(
        [[file("etc/a"), file("etc/b", "2")], [whiteout("etc/a")]], {"usr/etc/b": "2"}
    ),
    "an opaque root": legal([[file("a"), file("etc/b"), file("usr/c")], [opaque("")]], {}),
    "an opaque root with new": legal(
        [[file("a"), file("etc/b")], [file("etc/n", "1"), opaque("")]], {"usr/etc/n": "1"},
        engines="umoci goes by the order of the entries",
    ),
    "an opaque marker in a new directory": legal(
        [[file("a")], [directory("n"), opaque("n"), file("n/x")]], {"a": "", "n/x": ""}
    ),
    "an opaque marker over a file": legal(
        [[file("a", "1")], [directory("a"), opaque("a"), file("a/x", "2")]], {"a/x": "2"}
    ),
    "a whiteout three layers later": legal(
        [[file("a"), file("b")], [file("c")], [file("d")], [whiteout("a")]],
        {"b": "", "c": "", "d": ""},
    ),
    "a whiteout, and again the file": legal(
        [[file("a", "1")], [whiteout("a")], [file("a", "2")], [whiteout("a")], [file("a", "3")]],
        {"a": "3"},
    ),
    "the same whiteout twice": legal(
        [[file("a"), file("b")], [whiteout("a"), whiteout("a")]], {"b": ""}
    ),
}  # fmt: skip

CASES: dict[str, Case] = HIDDEN | ORDERS | NAMES | PLACES
