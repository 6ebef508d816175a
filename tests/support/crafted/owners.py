"""Owners and modes: to the bit, however they are written down."""

from __future__ import annotations

from support.crafted.blocks import base256, header, pax
from support.crafted.case import Case, d, f, legal, ln, refused
from support.images import directory, file, hardlink, symlink

_IDS = {
    "root": 0,
    "a user": 1000,
    "nobody": 65534,
    "the last octal one": 0o7777777,
    "beyond octal": 0o10000000,
    "2**31 - 1": 2**31 - 1,
    "2**31": 2**31,
    "the last": 2**32 - 2,
}
OWNERS: dict[str, Case] = {
    f"{who} in {form}": legal(
        [[directory("d", uid=number), file("d/f", "x", gid=number),
          symlink("d/l", "f", uid=number, gid=number)]],
        {"d": d(uid=number), "d/f": f("x", gid=number), "d/l": ln("f", number, number)},
    )
    for who, number in _IDS.items()
    for form in ("pax",)
} | {
    f"{who} in base 256": legal(
        [[header(b"f", uid=base256(number, 8), gid=base256(number, 8))]],
        {"f": f(uid=number, gid=number)},
    )
    for who, number in _IDS.items()
} | {
    "pax wins over the header": legal(
        [[pax((b"uid", b"7"), (b"gid", b"8")) + header(uid=b"0000001\0", gid=b"0000002\0")]],
        {"f": f(uid=7, gid=8)},
    ),
    "an empty pax owner is none": legal(
        [[pax((b"uid", b"")) + header(uid=b"0000001\0")]], {"f": f(uid=1)},
        engines="umoci refuses it",
    ),
    "names of owners mean nothing": legal(
        [[pax((b"uname", b"daemon"), (b"gname", b"adm")) + header()]], {"f": ""}
    ),
    **{
        f"{what} is refused": refused([[blocks]], "uid|gid|owner")
        for what, blocks in {
            "-1 in base 256": header(uid=base256(-1, 8)),
            "-1 in 32 bits": header(gid=base256(2**32 - 1, 8)),
            "2**32": header(uid=base256(2**32, 8)),
            "2**62": header(uid=base256(2**55, 8)),
            "a pax owner of 2**32 - 1": pax((b"uid", b"4294967295")) + header(),
            "a pax owner of -1": pax((b"gid", b"-1")) + header(),
            "a pax owner with a point": pax((b"uid", b"1.5")) + header(),
            "a pax owner by name": pax((b"uid", b"root")) + header(),
            "a pax owner of many digits": pax((b"uid", b"1" * 100)) + header(),
            "letters": header(uid=b"root\0"),
            "a sign": header(gid=b"-000001\0"),
        }.items()
    },
}  # fmt: skip

_MODES = [0, 0o1, 0o111, 0o222, 0o400, 0o444, 0o600, 0o644, 0o755, 0o777, 0o1000, 0o2000, 0o4000,
          0o1777, 0o2755, 0o4755, 0o4711, 0o6755, 0o7000, 0o7777]  # fmt: skip
MODES: dict[str, Case] = {
    f"mode {mode:04o}": legal(
        [[directory("d", mode), file("d/f", "x", mode), file("e", mode=mode, uid=3, gid=4)]],
        {"d": d(mode), "d/f": f("x", mode), "e": f("", mode, 3, 4)},
    )
    for mode in _MODES
} | {
    "a link has no mode": legal([[header(b"l", b"2", mode=b"0000000\0", target=b"x")]], {
        "l": "-> x"}),
    "a mode with the file's type": legal(
        [[header(mode=b"0100755\0")]], {"f": f(mode=0o755)}
    ),
    "a mode with more bits than there are": legal(
        [[header(mode=b"7774755\0")]], {"f": f(mode=0o4755)}
    ),
    "a hard link has its target's mode": legal(
        [[file("a", "x", 0o4750, uid=1, gid=2), hardlink("b", "a")]],
        {"a": f("x", 0o4750, 1, 2), "b": f("x", 0o4750, 1, 2)},
    ),
    "the last entry's mode": legal(
        [[file("a", "x", 0o4755), file("a", "x", 0o755), directory("d", 0o1777), directory("d")]],
        {"a": f("x", 0o755), "d": "dir"},
    ),
    "a setuid file does not come back": legal(
        [[file("a", "x", 0o4755)], [file("a", "x", 0o755)]], {"a": f("x", 0o755)}
    ),
    "a directory passed through keeps mode and owner": legal(
        [[directory("d", 0o2750, uid=5, gid=6), file("d/a")], [file("d/b")]],
        {"d": d(0o2750, 5, 6), "d/a": "", "d/b": ""},
    ),
    "a directory again has the new mode and owner": legal(
        [[directory("d", 0o2750, uid=5, gid=6), file("d/a")], [directory("d", 0o700, uid=1)]],
        {"d": d(0o700, 1, 0), "d/a": ""},
    ),
}  # fmt: skip

CASES: dict[str, Case] = OWNERS | MODES
