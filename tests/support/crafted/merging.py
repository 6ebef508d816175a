"""Layers on top of one another: what whiteouts hide, what replaces what, where links lead.

Every case is layers, and the tree or the error that they give.
"""

from __future__ import annotations

from collections.abc import Sequence

from support.crafted.case import Case, legal, refused
from support.images import Member, directory, file, hardlink, opaque, symlink, whiteout

Layers = Sequence[Sequence[Member]]
Tree = dict[str, str]
"""Files as their text, links as `-> target`, directories as `dir`."""

WHITEOUTS: dict[str, tuple[Layers, Tree]] = {
    "of a file": ([[file("a", "1"), file("b", "2")], [whiteout("a")]], {"b": "2"}),
    "of a directory": ([[file("d/a", "1"), file("b")], [whiteout("d")]], {"b": ""}),
    "of a link": ([[symlink("l", "b"), file("b")], [whiteout("l")]], {"b": ""}),
    "of nothing": ([[file("b")], [whiteout("a")]], {"b": ""}),
    "and a new -a": ([[file("-a", "1")], [file("-a", "2"), whiteout("-a")]], {"-a": "2"}),
    "and a new +x": ([[file("+x", "1")], [whiteout("+x"), file("+x", "2")]], {"+x": "2"}),
    "and a new .bashrc": (
        [[file("r/.bashrc", "1")], [file("r/.bashrc", "2"), whiteout("r/.bashrc")]],
        {"r": "dir", "r/.bashrc": "2"},
    ),
    "of a directory made anew": (
        [[file("d/old"), file("d/e/old")], [whiteout("d"), directory("d"), file("d/new")]],
        {"d": "dir", "d/new": ""},
    ),
    "of a directory made anew before": (
        [[file("d/old")], [directory("d"), file("d/new"), whiteout("d")]],
        {"d": "dir", "d/new": ""},
    ),
    "of a directory that is only passed through": (
        [[file("d/old")], [whiteout("d"), file("d/new")]],
        {"d": "dir", "d/new": ""},
    ),
    "hide nothing of their own layer": ([[file("a", "1"), whiteout("a")]], {"a": "1"}),
    "hide all lower layers": ([[file("a", "1")], [file("a", "2")], [whiteout("a")]], {}),
    "hide nothing of higher layers": (
        [[file("a", "1")], [whiteout("a")], [file("a", "3")]],
        {"a": "3"},
    ),
    "match the whole name": (
        [[file("a"), file("ab"), file("d/a")], [whiteout("a")]],
        {"ab": "", "d": "dir", "d/a": ""},
    ),
    # The directory is there in the layer, so a container engine shows it too.
    "in a directory that is not there": ([[file("b")], [whiteout("d/a")]], {"b": "", "d": "dir"}),
    "in a hidden directory": (
        [[file("d/a"), file("d/b")], [whiteout("d"), whiteout("d/a")]],
        {"d": "dir"},
    ),
    "opaque first": (
        [[file("d/old"), file("d/e/old")], [opaque("d"), file("d/new")]],
        {"d": "dir", "d/new": ""},
    ),
    "opaque last": (
        [[file("d/old"), file("d/e/old")], [file("d/new"), file("d/e/new"), opaque("d")]],
        {"d": "dir", "d/new": "", "d/e": "dir", "d/e/new": ""},
    ),
    "opaque below": (
        [[file("d/old"), file("d/e/old")], [opaque("d/e")]],
        {"d": "dir", "d/old": "", "d/e": "dir"},
    ),
    "opaque root": (
        [[file("a"), file("etc/a"), file("usr/b")], [opaque(""), file("n")]],
        {"n": ""},
    ),
    "through a link of a lower layer": (
        [[file("usr/lib/a"), file("usr/lib/b"), symlink("lib", "usr/lib")], [whiteout("lib/a")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/b": "", "lib": "-> usr/lib"},
    ),
    "/etc": ([[file("etc/a"), file("usr/b")], [whiteout("etc")]], {"usr": "dir", "usr/b": ""}),
    "in /etc": (
        [[file("etc/a"), file("etc/b")], [whiteout("etc/a")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/b": ""},
    ),
    "opaque /etc": (
        [[file("etc/a"), file("usr/b")], [opaque("etc"), file("etc/n")]],
        {"usr": "dir", "usr/b": "", "usr/etc": "dir", "usr/etc/n": ""},
    ),
    "opaque /usr leaves /etc": (
        [[file("etc/a"), file("usr/b")], [opaque("usr"), file("usr/n")]],
        {"usr": "dir", "usr/n": "", "usr/etc": "dir", "usr/etc/a": ""},
    ),
    "/usr leaves /etc": (
        [[file("etc/a"), file("usr/b")], [whiteout("usr")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/a": ""},
    ),
    "/usr without an /etc": ([[file("usr/b"), file("a")], [whiteout("usr")]], {"a": ""}),
    "opaque /usr by a link leaves /etc": (
        [[file("etc/a"), file("usr/b"), symlink("u", "usr")], [opaque("u")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/a": "", "u": "-> usr"},
    ),
}

HARD_LINKS: dict[str, tuple[Layers, Tree]] = {
    "within a layer": ([[file("a", "1"), hardlink("b", "a")]], {"a": "1", "b": "1"}),
    "to a lower layer": ([[file("a", "1")], [hardlink("b", "a")]], {"a": "1", "b": "1"}),
    "to two layers below": (
        [[file("a", "1")], [file("x")], [hardlink("d/b", "a")]],
        {"a": "1", "x": "", "d": "dir", "d/b": "1"},
    ),
    "chain within a layer": (
        [[file("a", "1"), hardlink("b", "a"), hardlink("c", "b")]],
        {"a": "1", "b": "1", "c": "1"},
    ),
    "chain from a lower layer": (
        [[file("a", "1")], [hardlink("b", "a"), hardlink("c", "b")]],
        {"a": "1", "b": "1", "c": "1"},
    ),
    "chain of layers": (
        [[file("a", "1")], [hardlink("b", "a")], [hardlink("c", "b")]],
        {"a": "1", "b": "1", "c": "1"},
    ),
    "absolute and dotted": (
        [[file("d/a", "1"), hardlink("b", "/d/a"), hardlink("c", "./d//a")]],
        {"d": "dir", "d/a": "1", "b": "1", "c": "1"},
    ),
    "to a link": ([[symlink("l", "a"), hardlink("m", "l")]], {"l": "-> a", "m": "-> a"}),
    "to a lower layer's link": (
        [[symlink("l", "a")], [hardlink("m", "l")]],
        {"l": "-> a", "m": "-> a"},
    ),
    "whose target changes later": (
        [[file("a", "1"), hardlink("b", "a"), file("a", "2")]],
        {"a": "2", "b": "1"},
    ),
    "to a lower layer, whose target changes": (
        [[file("a", "1")], [hardlink("b", "a"), file("a", "2")]],
        {"a": "2", "b": "1"},
    ),
    "to what the layer changed": (
        [[file("a", "1")], [file("a", "2"), hardlink("b", "a")]],
        {"a": "2", "b": "2"},
    ),
    "replaced by a file": (
        [[file("a", "1")], [hardlink("b", "a"), file("b", "2")]],
        {"a": "1", "b": "2"},
    ),
    "replaced by a directory": (
        [[file("a", "1")], [hardlink("b", "a"), directory("b"), file("b/x")]],
        {"a": "1", "b": "dir", "b/x": ""},
    ),
    "over a directory of its layer": (
        [[file("a", "1")], [file("b/x"), hardlink("b", "a")]],
        {"a": "1", "b": "1"},
    ),
    "over a directory of a lower layer": (
        [[file("a", "1"), file("b/x")], [hardlink("b", "a")]],
        {"a": "1", "b": "1"},
    ),
    "in a directory that goes": (
        [[file("a", "1")], [hardlink("d/b", "a"), symlink("d", "a")]],
        {"a": "1", "d": "-> a"},
    ),
    "with a whiteout of its name": (
        [[file("a", "1"), file("b", "2")], [whiteout("b"), hardlink("b", "a")]],
        {"a": "1", "b": "1"},
    ),
    "in /etc": (
        [[file("etc/a", "1"), hardlink("etc/b", "etc/a"), hardlink("c", "/etc/a")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/a": "1", "usr/etc/b": "1", "c": "1"},
    ),
    "to a lower layer's /etc": (
        [[file("etc/a", "1")], [hardlink("etc/b", "./etc/a"), hardlink("c", "etc/a")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/a": "1", "usr/etc/b": "1", "c": "1"},
    ),
    "through a link of its layer": (
        [[file("usr/lib/a", "1"), symlink("lib", "usr/lib"), hardlink("b", "lib/a")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/a": "1", "lib": "-> usr/lib", "b": "1"},
    ),
    "through a link of a lower layer": (
        [[file("usr/lib/a", "1"), symlink("lib", "usr/lib")], [hardlink("lib/b", "lib/a")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/a": "1", "usr/lib/b": "1", "lib": "-> usr/lib"},
    ),
    "to what is hidden, without its directory": (
        [[file("d/a", "1")], [whiteout("d"), symlink("s", "x"), hardlink("b", "d/a")]],
        {"s": "-> x", "b": "1"},
    ),
}


def _make(kind: str) -> list[Member]:
    return {
        "file": [file("x", "file")],
        "dir": [directory("x"), file("x/in", "")],
        "link": [symlink("x", "nowhere")],
    }[kind]


_MADE: dict[str, Tree] = {
    "file": {"x": "file"},
    "dir": {"x": "dir", "x/in": ""},
    "link": {"x": "-> nowhere"},
}
_DIRECTIONS = [(a, b) for a in _MADE for b in _MADE if a != b]

REPLACEMENTS: dict[str, tuple[Layers, Tree]] = {
    f"{a} by {b} {where}": (
        [_make(a) + _make(b)] if where == "within a layer" else [_make(a), _make(b)],
        _MADE[b],
    )
    for a, b in _DIRECTIONS
    for where in ("within a layer", "across layers")
}
REPLACEMENTS |= {
    "file by file": ([[file("x", "1"), file("x", "2"), file("./x", "3")]], {"x": "3"}),
    "directory by itself keeps its content": (
        [[directory("x"), file("x/in"), directory("x")]],
        {"x": "dir", "x/in": ""},
    ),
    "what lay in a replaced directory does not come back": (
        [[directory("x"), file("x/in"), file("x"), directory("x"), file("x/new")]],
        {"x": "dir", "x/new": ""},
    ),
    "a whiteout in a replaced directory counts no more": (
        [[file("x/keep")], [whiteout("x/keep"), symlink("x", "y"), directory("x")]],
        {"x": "dir", "x/keep": ""},
    ),
    "a link by another link": (
        [
            [
                directory("a"),
                directory("b"),
                symlink("l", "a"),
                file("l/1"),
                symlink("l", "b"),
                file("l/2"),
            ]
        ],
        {"a": "dir", "a/1": "", "b": "dir", "b/2": "", "l": "-> b"},
    ),
}

LINKED_PARENTS: dict[str, tuple[Layers, Tree]] = {
    "base link, no entry of its own": (
        [[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x", "1")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/x": "1", "lib": "-> usr/lib"},
    ),
    "base link, with a directory's entry": (
        [[file("usr/lib/y"), symlink("lib", "usr/lib")], [directory("lib/"), file("lib/x", "1")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/y": "", "lib": "dir", "lib/x": "1"},
    ),
    "within a layer": (
        [[symlink("lib", "usr/lib"), file("lib/x", "1")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/x": "1", "lib": "-> usr/lib"},
    ),
    "link that comes after": (
        [[file("lib/x", "1"), symlink("lib", "usr/lib")]],
        {"lib": "-> usr/lib"},
    ),
    "absolute": (
        [[symlink("a/l", "/b")], [file("a/l/x", "1")]],
        {"a": "dir", "a/l": "-> /b", "b": "dir", "b/x": "1"},
    ),
    "with ..": (
        [[symlink("a/l", "../b"), directory("b")], [file("a/l/x", "1")]],
        {"a": "dir", "a/l": "-> ../b", "b": "dir", "b/x": "1"},
    ),
    "with .. behind another link": (
        [
            [symlink("p", "deep/er"), symlink("l", "p/../x"), directory("deep/er")],
            [file("l/f", "1")],
        ],
        {
            "p": "-> deep/er",
            "l": "-> p/../x",
            "deep": "dir",
            "deep/er": "dir",
            "deep/x": "dir",
            "deep/x/f": "1",
        },
    ),
    "of links": (
        [[symlink("a", "b"), symlink("b", "c"), directory("c")], [file("a/d/x", "1")]],
        {"a": "-> b", "b": "-> c", "c": "dir", "c/d": "dir", "c/d/x": "1"},
    ),
    "into /etc, absolute": (
        [[symlink("conf", "/etc")], [file("conf/x", "1")]],
        {"conf": "-> /etc", "usr": "dir", "usr/etc": "dir", "usr/etc/x": "1"},
    ),
    "into /etc, relative": (
        [[symlink("usr/conf", "../etc")], [file("usr/conf/x", "1")]],
        {"usr": "dir", "usr/conf": "-> ../etc", "usr/etc": "dir", "usr/etc/x": "1"},
    ),
    "into /etc, within a layer": (
        [
            [
                symlink("usr/conf", "../etc"),
                file("usr/conf/x", "1"),
                symlink("c", "etc"),
                file("c/y"),
            ]
        ],
        {
            "usr": "dir",
            "usr/conf": "-> ../etc",
            "usr/etc": "dir",
            "usr/etc/x": "1",
            "usr/etc/y": "",
            "c": "-> etc",
        },
    ),
    "out of /etc": (
        [
            [symlink("etc/xkb", "../usr/share/xkb"), directory("usr/share/xkb")],
            [file("etc/xkb/x", "1")],
        ],
        {
            "usr": "dir",
            "usr/etc": "dir",
            "usr/etc/xkb": "-> ../usr/share/xkb",
            "usr/share": "dir",
            "usr/share/xkb": "dir",
            "usr/share/xkb/x": "1",
        },
    ),
    "out of /etc, within a layer": (
        [[symlink("etc/v", "../var"), file("etc/v/x", "1")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/v": "-> ../var", "var": "dir", "var/x": "1"},
    ),
    "to the root": (
        [[symlink("d/x", "/")], [file("d/x/f", "1")]],
        {"d": "dir", "d/x": "-> /", "f": "1"},
    ),
    "above the root": (
        [[symlink("x", "../../..")], [file("x/f", "1")]],
        {"x": "-> ../../..", "f": "1"},
    ),
    "above the root, within a layer": (
        [[symlink("d/x", "../../../tmp/../b"), file("d/x/f", "1")]],
        {"d": "dir", "d/x": "-> ../../../tmp/../b", "tmp": "dir", "b": "dir", "b/f": "1"},
    ),
    "over a lower file": ([[file("a", "1")], [file("a/x", "2")]], {"a": "dir", "a/x": "2"}),
    "one path by two names": (
        [[symlink("lib", "usr/lib")], [file("lib/x", "1"), file("usr/lib/x", "2")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/x": "2", "lib": "-> usr/lib"},
    ),
    "one path by two names, against the archive's order": (
        [[symlink("lib", "usr/lib")], [file("usr/lib/x", "2"), file("lib/x", "1")]],
        {"usr": "dir", "usr/lib": "dir", "usr/lib/x": "2", "lib": "-> usr/lib"},
    ),
}

PLACES: dict[str, tuple[Layers, Tree]] = {
    "/etc": (
        [[directory("etc/"), file("etc/a", "1"), directory("./etc/d"), file("/etc/d/b")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/a": "1", "usr/etc/d": "dir", "usr/etc/d/b": ""},
    ),
    "only the first etc": (
        [[file("var/etc/a"), file("opt/x.etc")]],
        {"var": "dir", "var/etc": "dir", "var/etc/a": "", "opt": "dir", "opt/x.etc": ""},
    ),
    "absolute, dotted, doubled": (
        [[file("/a"), file("./b"), file("c//d"), file(".//e/./f"), directory("g//")]],
        {"a": "", "b": "", "c": "dir", "c/d": "", "e": "dir", "e/f": "", "g": "dir"},
    ),
    "unusual names": (
        [
            [
                file("n\nl"),
                file("t\tq'\"\\"),
                file("caf\u00e9"),
                file("cafe\u0301"),
                file(" "),
                file("-"),
            ]
        ],
        {"n\nl": "", "t\tq'\"\\": "", "caf\u00e9": "", "cafe\u0301": "", " ": "", "-": ""},
    ),
    "empty hostname and resolv.conf": (
        [[file("etc/hostname"), file("etc/resolv.conf"), file("etc/hosts")]],
        {"usr": "dir", "usr/etc": "dir", "usr/etc/hosts": ""},
    ),
    "a repository inside of the image": (
        [
            [file("sysroot/ostree/repo/objects/ab/cd.file", "sh"), file("sysroot/keep", "k")],
            [hardlink("usr/bin/sh", "sysroot/ostree/repo/objects/ab/cd.file")],
        ],
        {
            "sysroot": "dir",
            "sysroot/keep": "k",
            "usr": "dir",
            "usr/bin": "dir",
            "usr/bin/sh": "sh",
        },
    ),
    "hostname and resolv.conf with content": (
        [[file("etc/hostname", "h"), symlink("etc/resolv.conf", "/run/r")]],
        {
            "usr": "dir",
            "usr/etc": "dir",
            "usr/etc/hostname": "h",
            "usr/etc/resolv.conf": "-> /run/r",
        },
    ),
    "mount points stay, also as links": (
        [
            [
                directory("run"),
                directory("proc/"),
                symlink("tmp", "sysroot/tmp"),
                file("run/x"),
                file("tmp/y"),
            ]
        ],
        {"run": "dir", "proc": "dir", "tmp": "-> sysroot/tmp"},
    ),
    "an empty layer": ([[file("a")], [], [file("b")]], {"a": "", "b": ""}),
    "no entry at all": ([[]], {}),
    "no layer": ([], {}),
}

LAYERS: dict[str, tuple[Layers, Tree]] = {
    f"{group}: {name}": case
    for group, cases in {
        "whiteout": WHITEOUTS,
        "hard link": HARD_LINKS,
        "replaced": REPLACEMENTS,
        "linked parent": LINKED_PARENTS,
        "place": PLACES,
    }.items()
    for name, case in cases.items()
}

REFUSED: dict[str, tuple[Layers, str]] = {
    "whiteout of nothing": ([[file("d/.wh.")]], "names nothing"),
    "whiteout of .": ([[file(".wh..")]], "names nothing"),
    "whiteout of ..": ([[file("d/.wh...")]], "names nothing"),
    "whiteout that is a directory": ([[directory(".wh.d")]], "is a directory"),
    "opaque directory": ([[directory("d/.wh..wh..opq")]], "is a directory"),
    "hard link to a directory": ([[directory("d"), hardlink("b", "d")]], "to the directory 'd'"),
    "hard link to a lower directory": ([[directory("d")], [hardlink("b", "d")]], "no file of this"),
    "hard link to itself": ([[file("a")], [hardlink("a", "./a")]], "hard link 'a'"),
    "hard link to nothing": ([[hardlink("b", "a")]], "'a', which is no file"),
    "hard link forward": ([[hardlink("b", "a"), file("a")]], "'a', which is no file"),
    "hard link to a higher layer": ([[hardlink("b", "a")], [file("a")]], "no file of this"),
    "hard link to the root": ([[hardlink("b", "/")]], "hard link 'b'"),
    "hard link above the root": ([[hardlink("b", "../etc/passwd")]], r"a '\.\.'"),
    "hard link to a whiteout": ([[whiteout("a"), hardlink("b", ".wh.a")]], "hard link 'b'"),
    "hard link to what was dropped": ([[file("run/a"), hardlink("b", "run/a")]], "no file of this"),
    "hard links to one another": ([[hardlink("a", "b"), hardlink("b", "a")]], "no file of this"),
    "below a hard link": ([[file("a")], [hardlink("b", "a"), file("b/x")]], "is a hard link"),
    "loop within a layer": ([[symlink("a", "b"), symlink("b", "a"), file("a/x")]], "many symbolic"),
    "loop below": ([[symlink("a", "b"), symlink("b", "a")], [file("a/x")]], "many symbolic"),
    "link to itself": ([[symlink("a", "a")], [file("a/x")]], "many symbolic"),
    "below a file of the layer": ([[file("a"), file("a/x")]], "through a file"),
    "link into a file": ([[file("f"), symlink("a", "f")], [file("a/x")]], "through a file"),
    ".. in a path": ([[file("a/../b")]], r"a '\.\.'"),
    ".. at the start": ([[file("../b")]], r"a '\.\.'"),
    ".. after a known directory": ([[file("d/x"), file("d/..")]], r"a '\.\.'"),
    ".. behind the root": ([[file("/../b")]], r"a '\.\.'"),
    "a root that is a link": ([[symlink(".", "/")]], "the root of the image is a symbolic link"),
    "a root that is a file": ([[file("/x"), hardlink("./", "x")]], "the root of the image is a"),
    "a long name": ([[file("n" * 256)]], "longer than 255 bytes"),
    "a long name in UTF-8": ([[file("é" * 128)]], "longer than 255 bytes"),
    "a long path": ([[file(("d" * 250 + "/") * 16 + "d" * 90)]], "bytes; the limit is 4096"),
    "a deep path": ([[file("d/" * 257 + "x")]], "too long or too deep"),
}  # fmt: skip

_MOUNTED = "in a directory that is mounted over"
_EMPTY = "left empty by the image's build"
DROPPED = {
    "place: empty hostname and resolv.conf": [
        ("usr/etc/hostname", _EMPTY), ("usr/etc/resolv.conf", _EMPTY)],
    "place: a repository inside of the image": [
        ("sysroot/ostree", "a repository inside of the image")],
    "place: mount points stay, also as links": [("run/x", _MOUNTED), ("tmp/y", _MOUNTED)],
    "linked parent: above the root, within a layer": [],
}  # fmt: skip

_AT_THE_MERGE = {
    "hard link to a lower directory", "hard link to nothing", "hard link forward",
    "hard link to a higher layer", "hard link to what was dropped", "hard links to one another",
    "loop below", "link to itself", "link into a file",
}  # fmt: skip

CASES: dict[str, Case] = {
    name: legal(layers, tree, DROPPED.get(name, ())) for name, (layers, tree) in LAYERS.items()
} | {
    name: refused(layers, phrase, verified=name in _AT_THE_MERGE)
    for name, (layers, phrase) in REFUSED.items()
}
