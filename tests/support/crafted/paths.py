"""Names: how they may be spelled, which may not be, and those that try to leave the image."""

from __future__ import annotations

import tarfile

from support.crafted.blocks import archive, header, long, pax
from support.crafted.case import HOST, Case, d, f, legal, refused
from support.images import Member, char, directory, file, hardlink, symlink, whiteout

_KINDS = {
    "file": lambda path: file(path),
    "directory": lambda path: directory(path),
    "link": lambda path: symlink(path, "x"),
    "hard link": lambda path: hardlink(path, "x"),
    "device": lambda path: char(path),
    "fifo": lambda path: Member(path, tarfile.FIFOTYPE),
}

# -- spelling ------------------------------------------------------------------------------------

SPELLINGS = ["a/b", "./a/b", "/a/b", ".//a/b", "//a//b", "/./a/./b", "././a/b", "/.//a///b", "a//b"]
SPELLED: dict[str, Case] = {
    f"{spelling!r} is a/b, as a {kind}": legal([[make(spelling)]], {"a/b": node})
    for spelling in SPELLINGS
    for kind, make, node in (
        ("file", _KINDS["file"], ""),
        ("directory", lambda path: directory(path + "/"), "dir"),
        ("link", _KINDS["link"], "-> x"),
    )
}

UNUSUAL = {
    "a newline": "n\nl", "newlines only": "\n\n", "a tab": "t\tb", "quotes": "q'\"`", "backslashes":
    "b\\n\\0", "spaces": "  x  ", "a space": " ", "a dash": "-", "an option": "--help", "dots":
    "...", "hidden dots": "..a", "dots at the end": "a..", "NFC": "caf\u00e9", "NFD":
    "cafe\u0301", "both": "\u00e9e\u0301", "another script": "Файл-ファイル", "beyond 16 bits":
    "\U0001d70bthon", "right to left": "a\u202egnp", "no width": "a\u200bb", "a byte order mark":
    "\ufeffa", "controls": "\x01\x1b[31m\x7f", "a carriage return": "a\rb", "globs": "*?[a]{b}",
    "shell": "$(id);|&<>", "percent": "%s%n%00", "colon": "C:a", "equals": "a=b", "no character":
    "\ufffe", "a tilde": "~root", "a hash": "#a", "at": "@a", "almost a whiteout": ".whx",
    "wh in the middle": "a.wh.b", "our own": "bootc-py-staging-0", "ostree":
    "ostree",
    "an object's": "f" * 62 + ".file", "unicode digits": "١٢", "255 bytes": "n" * 255,
    "255 bytes of two": "é" * 127 + "n", "255 bytes of four": "\U0001f600" * 63 + "nnn",
}  # fmt: skip
NAMED: dict[str, Case] = {
    f"a name with {what}" if "bytes" not in what else f"a name of {what}": legal(
        [[file(name, what), file(f"{name}.d/{name}"[-4000:], what)]]
        if len(name.encode()) < 250
        else [[file(name, what)]],
        {name: what} | ({f"{name}.d/{name}": what} if len(name.encode()) < 250 else {}),
    )
    for what, name in UNUSUAL.items()
}

_DEEP = "/".join("d" * 256)
_LONG = "/".join(["c" * 254] * 16) + "/" + "n" * 16
LIMITS: dict[str, Case] = {
    "256 levels": legal([[file(_DEEP, "deep")]], {_DEEP: "deep"}),
    "257 levels": refused([[file(f"{_DEEP}/e")]], "too long or too deep"),
    "2,000 levels": refused([[directory("/".join("d" * 2000))]], "too long or too deep"),
    "4,096 bytes": legal([[file(_LONG, "long")]], {_LONG: "long"}),
    "4,097 bytes": refused([[file(_LONG + "n")]], "4097 bytes; the limit is 4096"),
    "4,096 bytes of slashes": legal([[file("/" * 4095 + "a", "x")]], {"a": "x"}),
    "a name of 256 bytes": refused([[file("n" * 256)]], "longer than 255 bytes"),
    "a name of 256 bytes in UTF-8": refused([[file("é" * 128)]], "longer than 255 bytes"),
    "a directory's name of 256 bytes": refused([[directory("n" * 256)]], "longer than 255 bytes"),
    "a name of 256 bytes on the way": refused([[file("n" * 256 + "/x")]], "longer than 255 bytes"),
    "a link's name of 256 bytes": refused([[symlink("n" * 256, "x")]], "longer than 255 bytes"),
    "a whiteout's name of 256 bytes": refused(
        [[file(".wh." + "n" * 252)]], "longer than 255 bytes"
    ),
    "a name of 256 bytes that is left out": legal(
        [[file("a"), char("dev/" + "n" * 256)]],
        {"a": ""},
        [("dev/" + "n" * 256, "in a directory that is mounted over")],
        engines="umoci cannot make it",
    ),
}

# -- names that try to leave ---------------------------------------------------------------------

_UP = {
    "at the start": "../x", "more of it": "../../../../../../../../../etc/x", "alone": "..",
    "with a slash": "../", "after the root": "/../x", "after a dot": "./../x", "in the middle":
    "a/../x", "beyond the middle": "a/../../x", "at the end": "a/..", "below /etc": "etc/../x",
    "in /dev": "dev/../x", "to the host": f"../../../../../../../..{HOST}/secret",
}  # fmt: skip
ESCAPES: dict[str, Case] = {
    f"'..' {where}, a {kind}": refused([[file("a/b"), make(path)]], r"has a '\.\.'")
    for where, path in _UP.items()
    for kind, make in _KINDS.items()
    if (kind == "file" and where != "with a slash") or where in ("in the middle", "to the host")
} | {
    f"'..' {where}, a whiteout": refused([[file("a/b"), whiteout(path)]], r"has a '\.\.'")
    for where, path in _UP.items()
    if where in ("in the middle", "to the host")
}
INSIDE: dict[str, Case] = {
    "an absolute name is the image's": legal(
        [[file(f"{HOST}/secret", "mine")]], {f"{HOST[1:]}/secret": "mine"}
    ),
    "the host's /etc/passwd is the image's": legal(
        [[file("/etc/passwd", "root")]], {"usr/etc/passwd": "root"}
    ),
    "a drive's letter is a name": legal([[file("C:\\..\\x", "x")]], {"C:\\..\\x": "x"}),
    "dots and a backslash are a name": legal([[file("..\\x", "x")]], {"..\\x": "x"}),
}

# -- bytes ---------------------------------------------------------------------------------------

_BAD_BYTES = {"latin 1": b"caf\xe9", "half a character": b"a\xc3", "a surrogate": b"\xed\xa0\x80",
              "overlong slash": b"a\xc0\xafb", "overlong dots": b"\xc0\xae\xc0\xae/x", "0xff":
              b"\xff\xfe", "beyond Unicode": b"\xf4\x90\x80\x80"}  # fmt: skip
NOT_UTF8: dict[str, Case] = {
    f"{what} in {where}": refused([[make(raw)]], "is not UTF-8")
    for what, raw in _BAD_BYTES.items()
    for where, make in {
        "a file's name": lambda raw: header(raw),
        "a directory's name": lambda raw: header(raw + b"/", b"5"),
        "a link's name": lambda raw: header(raw, b"2", target=b"x"),
        "a link's target": lambda raw: header(b"x", b"2", target=raw),
        "a hard link's target": lambda raw: header(b"x", b"1", target=raw),
        "a pax path": lambda raw: pax((b"path", raw)) + header(),
        "a pax linkpath": lambda raw: pax((b"linkpath", raw)) + header(kind=b"2"),
        "a long name": lambda raw: long(b"L", raw + b"\0") + header(),
        "a whiteout": lambda raw: header(b".wh." + raw),
    }.items()
    if where == "a file's name" or what == "latin 1"
}

# -- the root, and what is kept elsewhere --------------------------------------------------------

ROOTS: dict[str, Case] = {
    f"the root as {spelling!r}": legal(
        [archive([directory(spelling, 0o711, uid=3, gid=4), file("a")])],
        {"": d(0o711, 3, 4), "a": ""},
    )
    for spelling in ("./", ".", "/", "//", "/./", "./.", ".//")
} | {
    f"a root that is a {kind}, {spelling!r}": refused([[file("x"), make(spelling)]], "the root of")
    for kind, make in _KINDS.items()
    if kind != "directory"
    for spelling in (".", "/", "./.")
    if not (kind == "file" and spelling == "/")
}

_CONFIGURATION = ["etc", "/etc", "./etc/", "etc/."]
PLACES: dict[str, Case] = {
    f"/etc as {spelling!r}": legal(
        [[directory(spelling, 0o750), file(f"{spelling}/a", "x")]],
        {"usr/etc": d(0o750), "usr/etc/a": "x"},
    )
    for spelling in _CONFIGURATION
} | {
    "/etc and /usr/etc are one": legal(
        [[file("etc/a", "1"), file("usr/etc/b", "2"), file("usr/etc/a", "3")]],
        {"usr/etc/a": "3", "usr/etc/b": "2"},
        engines="two directories in a container",
    ),
    "/etc is a link": legal([[symlink("etc", "usr/lib/etc")]], {"usr/etc": "-> usr/lib/etc"}),
    "etc further down stays": legal(
        [[file("opt/etc/a", "1"), file("etc/etc/b", "2")]],
        {"opt/etc/a": "1", "usr/etc/etc/b": "2"},
    ),
    "Etc is another": legal([[file("Etc/a", "1")]], {"Etc/a": "1"}),
    **{
        f"a repository below {place}": legal(
            [
                [
                    file(f"{place}/config", "[core]\nrepo_version=1\nmode=bare\n"),
                    file(f"{place}/objects/{'0' * 2}/{'a' * 62}.file", "forged"),
                    file(f"{place}/refs/heads/ostree/container/image/x", "0" * 64),
                    symlink(f"{place}/tmp", "/"),
                    file("sysroot/kept", "k"),
                ]
            ],
            {"sysroot/kept": "k"},
            [("sysroot/ostree", "a repository inside of the image")],
            engines="no repository of an image's gets onto a host",
        )
        for place in ("sysroot/ostree/repo", "/sysroot/ostree/repo", "./sysroot//ostree/./repo")
    },
    "a repository by a link": legal(
        [
            [
                symlink("ostree", "sysroot/ostree"),
                file("ostree/repo/objects/00/x.file", "forged"),
                file("sysroot/kept"),
            ]
        ],
        {"ostree": "-> sysroot/ostree", "sysroot/kept": ""},
        [("sysroot/ostree", "a repository inside of the image")],
        engines="no repository of an image's gets onto a host",
    ),
    "/ostree of the image's own": legal(
        [[file("ostree/repo/objects/00/x.file", "own")]], {"ostree/repo/objects/00/x.file": "own"}
    ),
    "sysroot is a file": legal([[file("sysroot", "x")]], {"sysroot": "x"}),
    "sysroot/ostree is a file": legal([[file("sysroot/ostree", "x")]], {"sysroot/ostree": "x"}),
    "names of a store are names": legal(
        [[file("objects/00/a.file", "x"), file("refs/heads/main", "y"), file("tmp.d/z")]],
        {"objects/00/a.file": "x", "refs/heads/main": "y", "tmp.d/z": ""},
    ),
    "the last of three": legal(
        [[file("a", "1"), file("./a", "2"), file("/a", "3", mode=0o600)]], {"a": f("3", 0o600)}
    ),
}

CASES: dict[str, Case] = SPELLED | NAMED | LIMITS | ESCAPES | INSIDE | NOT_UTF8 | ROOTS | PLACES
