"""Links, symbolic and hard: where they point, and what is written through them."""

from __future__ import annotations

from support.crafted.blocks import header, long, pax
from support.crafted.case import HOST, Case, legal, ln, refused
from support.images import directory, file, hardlink, symlink, whiteout

# -- symbolic links are text ---------------------------------------------------------------------

TARGETS = {
    "the host's": f"{HOST}/secret", "the host's by ..": "../../../../../../../../etc/shadow",
    "the root": "/", "above the root": "..", "itself": "l", "a magic link": "/proc/self/root/etc",
    "a descriptor": "/proc/self/fd/3", "the working directory": "/proc/self/cwd/secret",
    "a dot": ".", "slashes": "//a//b", "a newline": "a\nb", "a device": "/dev/null",
    "an empty-looking name": " ", "a trailing slash": "a/", "a URL": "https://x/y",
    "of 4,095 bytes": "t" * 4095, "another script": "ファイル", "an arrow": "a -> b",
}  # fmt: skip
TEXTS: dict[str, Case] = {
    f"a target: {what}": legal([[symlink("l", target)]], {"l": ln(target)})
    for what, target in TARGETS.items()
} | {
    "a target of 4,096 bytes": refused([[symlink("l", "t" * 4096)]], "no usable target"),
    "a target of 4,095 bytes in UTF-8": legal([[symlink("l", "é" * 2047 + "x")]], {
        "l": ln("é" * 2047 + "x")}),
    "a target of 4,096 bytes in UTF-8": refused([[symlink("l", "é" * 2048)]], "no usable target"),
    "a target of 4,097 bytes": refused([[symlink("l", "t" * 4097)]], "4097 bytes"),
    "no target": refused([[header(b"l", b"2")]], "link to nothing"),
    "a target with NUL": refused([[pax((b"linkpath", b"a\0b")) + header(b"l", b"2")]], "NUL"),
    "a long target with NUL": refused([[long(b"K", b"a\0b\0") + header(b"l", b"2")]], "NUL"),
    "a link in /etc": legal([[symlink("etc/l", "../usr/x")]], {"usr/etc/l": ln("../usr/x")}),
    "owners of links": legal(
        [[symlink("l", "x", uid=1000, gid=2**31)]], {"l": ln("x", 1000, 2**31)}
    ),
}  # fmt: skip

# -- nothing is written through a link to the host -----------------------------------------------

_OUTSIDE = {
    "absolute": (HOST, HOST[1:]),
    "relative": (f"../../../../../../..{HOST}", HOST[1:]),
    "by the root": (f"/../..{HOST}", HOST[1:]),
}
THROUGH: dict[str, Case] = {
    f"a file through a link to the host, {what}, {when}": legal(
        [[symlink("x", target), file("x/secret", "mine")]]
        if when == "one layer"
        else [[symlink("x", target)], [file("x/secret", "mine")]],
        {"x": ln(target), f"{place}/secret": "mine"},
    )
    for what, (target, place) in _OUTSIDE.items()
    for when in ("one layer", "two layers")
} | {
    "a file through a link to the root": legal(
        [[symlink("x", "/"), file("x/a", "1")]], {"x": "-> /", "a": "1"}
    ),
    "a file through three links": legal(
        [[symlink("x", "y"), symlink("y", "/z"), symlink("z", "w"), file("x/a", "1")]],
        {"x": "-> y", "y": "-> /z", "z": "-> w", "w/a": "1"},
    ),
    "a directory, then a link, then a file": legal(
        [[directory("x"), symlink("x", "/y"), file("x/a", "1")]], {"x": "-> /y", "y/a": "1"}
    ),
    "a link, then a directory, then a file": legal(
        [[symlink("x", "/y"), directory("x"), file("x/a", "1")]], {"x/a": "1"}
    ),
    "a link swapped in between files": legal(
        [[file("x/a", "1"), symlink("x", "/y"), file("x/b", "2")]], {"x": "-> /y", "y/b": "2"}
    ),
    "a link swapped in by a layer between": legal(
        [[file("x/a", "1")], [symlink("x", "/y")], [file("x/b", "2")]],
        {"x": "-> /y", "y/b": "2"},
    ),
    "a link swapped for another": legal(
        [[symlink("x", "y"), file("x/a", "1"), symlink("x", "z"), file("x/b", "2")]],
        {"x": "-> z", "y/a": "1", "z/b": "2"},
    ),
    "a whiteout through a link": legal(
        [[file("y/a"), file("y/b"), symlink("x", "/y")], [whiteout("x/a")]],
        {"x": "-> /y", "y/b": ""},
    ),
    "a magic link is only a name": legal(
        [[symlink("x", "/proc/self/root"), symlink("proc", "p"), file("x/a", "1")]],
        {"x": "-> /proc/self/root", "proc": "-> p", "p/self/root/a": "1"},
        engines="umoci mounts nothing, but sees the same only without a link called proc",
    ),
    "40 links": legal(
        [[*(symlink(f"l{n}", f"l{n + 1}") for n in range(40)), file("l0/a", "1")]],
        {**{f"l{n}": f"-> l{n + 1}" for n in range(40)}, "l40/a": "1"},
    ),
    "41 links": refused(
        [[*(symlink(f"l{n}", f"l{n + 1}") for n in range(41)), file("l0/a", "1")]],
        "many symbolic links",
    ),
    "a link to itself": refused([[symlink("x", "x"), file("x/a")]], "many symbolic links"),
    "a link to itself by ..": refused([[symlink("x", "y/../x"), file("x/a")]], "symbolic links"),
    "a loop of two": refused(
        [[symlink("x", "y"), symlink("y", "/x"), file("x/a")]], "many symbolic links"
    ),
    "a loop of two layers": refused(
        [[symlink("x", "y"), symlink("y", "x")], [file("x/a")]], "symbolic links", verified=True
    ),
    "through a file": refused([[file("x"), file("x/a")]], "through a file"),
    "through a link to a file": refused(
        [[file("y"), symlink("x", "y"), file("x/a")]], "through a file"
    ),
    "through a link to a file below": refused(
        [[file("y"), symlink("x", "y")], [file("x/a")]], "through a file", verified=True
    ),
}

# A link may lead deep, and what lies there may hold the next one.
_LEVELS = "/".join("d" * 200)
DEEPER: dict[str, Case] = {
    "a link that leads deeper than a name may": refused(
        [[symlink("x", "/".join("d" * 900)), file("x/a")]], "more than 256 levels"
    ),
    "a link from depth into depth": refused(
        [[symlink("x", _LEVELS), symlink("x/y", _LEVELS), file("x/y/a")]], "more than 256 levels"
    ),
    "a link from depth into depth, by layers": refused(
        [
            [symlink("x", _LEVELS), file("x/a")],
            [file(f"x/{_LEVELS}/a")],
            [symlink("y", f"x/{_LEVELS}")],
            [file("y/b")],
        ],
        "more than 256 levels",
        verified=True,
    ),
    "ups and downs without end": refused(
        [[directory("d"), symlink("x", "d/../" * 800 + "d"), file("x/a")]], "too many names"
    ),
    "200 levels by a link": legal(
        [[symlink("x", _LEVELS), file("x/a", "1")]], {"x": ln(_LEVELS), f"{_LEVELS}/a": "1"}
    ),
}

# -- hard links ----------------------------------------------------------------------------------

_FOREIGN = {
    "the host's": f"{HOST}/secret", "the host's password file": "/etc/shadow",
    "of the working directory": "secret", "of the working directory, dotted": "./secret",
    "a magic link": "/proc/self/cwd/secret", "a descriptor": "/proc/self/fd/0",
    "a block device": "/dev/vda", "the store's": "/sysroot/ostree/repo/config",
    "of the staging": "stream-1", "the repository's": "../../config",
}  # fmt: skip
HARD: dict[str, Case] = {
    f"a hard link to {what} file": refused(
        [[hardlink("b", target)]],
        r"has a '\.\.'" if ".." in target else "which is no file of this or a lower layer",
        verified=".." not in target,
    )
    for what, target in _FOREIGN.items()
} | {
    "a hard link through a link to the host": refused(
        [[symlink("x", HOST), hardlink("b", "x/secret")]], "no file of this", verified=True
    ),
    "a hard link through a lower link to the host": refused(
        [[symlink("x", HOST)], [hardlink("b", "x/secret")]], "no file of this", verified=True
    ),
    "a hard link to a link to the host is that link": legal(
        [[symlink("x", f"{HOST}/secret"), hardlink("b", "x")]],
        {"x": ln(f"{HOST}/secret"), "b": ln(f"{HOST}/secret")},
    ),
    "a hard link to a device that was left out": refused(
        [[header(b"n", b"3"), hardlink("b", "n")]], "no file of this", verified=True
    ),
    "a hard link to an entry to come": refused(
        [[hardlink("b", "a"), file("a")]], "no file of this", verified=True
    ),
    "a hard link to a directory": refused([[directory("a"), hardlink("b", "a")]], "the directory"),
    "a hard link to a directory below": refused(
        [[directory("a")], [hardlink("b", "a")]], "no file of this", verified=True
    ),
    "a hard link to itself": refused([[hardlink("b", "b")]], "hard link 'b' to 'b'"),
    "a hard link to itself, spelled otherwise": refused(
        [[file("b"), hardlink("b", "/./b")]], "hard link 'b'"
    ),
    "a hard link to itself by a link": refused(
        [[directory("d"), symlink("l", "d"), hardlink("d/b", "l/b")]], "hard link"
        , verified=True
    ),
    "hard links in a circle": refused(
        [[hardlink("a", "b"), hardlink("b", "c"), hardlink("c", "a")]],
        "no file of this|hard link",
        verified=True,
    ),
    "a hard link to the root": refused([[hardlink("b", "/")]], "hard link 'b'"),
    "a hard link to a dot": refused([[hardlink("b", ".")]], "hard link 'b'"),
    "a hard link to a whiteout": refused(
        [[whiteout("a"), hardlink("b", ".wh.a")]], "hard link 'b'"
    ),
    "a hard link to nothing": refused([[header(b"b", b"1")]], "link to nothing"),
    "a hard link with a payload's size": legal(
        [[file("a", "x" * 600), header(b"b", b"1", 600, target=b"a"), file("c", "1")]],
        {"a": "x" * 600, "b": "x" * 600, "c": "1"},
    ),
    "a hard link in a chain of hundred": legal(
        [[file("h0", "x"), *(hardlink(f"h{n + 1}", f"h{n}") for n in range(100))]],
        {f"h{n}": "x" for n in range(101)},
    ),
    "a hard link to what a whiteout hides": legal(
        [[file("a", "x")], [whiteout("a"), hardlink("b", "a")]], {"b": "x"},
        engines="umoci removes the file first",
    ),
    "a hard link to what was replaced since": legal(
        [[file("a", "1"), hardlink("b", "a"), file("a", "2")]], {"a": "2", "b": "1"},
        engines="umoci writes into the file that both names have",
    ),
}  # fmt: skip

CASES: dict[str, Case] = TEXTS | THROUGH | DEEPER | HARD
