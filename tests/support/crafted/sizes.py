"""Sizes, a header's and a pax record's: true ones, and lies that would smuggle entries in."""

from __future__ import annotations

from support.crafted.blocks import base256, body, header, long, pax
from support.crafted.case import Case, d, f, legal, refused
from support.images import file

_INNER = header(b"smuggled", size=0)
_EVIL = header(b"smuggled", b"2", target=b"/etc/shadow")

TRUE: dict[str, Case] = {
    f"a file of {size:,} bytes": legal(
        [[file("a", b"x" * size), file("b", "1")]], {"a": f(b"x" * size), "b": "1"}
    )
    for size in (0, 1, 511, 512, 513, 1024, 10240, 65536, 262143, 262144, 262145, 1048576, 1048577)
} | {
    f"a payload that is a header, by {form}": legal(
        [[blocks, file("next", "1")]], {"f": f(_EVIL), "next": "1"}
    )
    for form, blocks in {
        "octal": header(b"f", size=512) + _EVIL,
        "base 256": header(b"f", size=base256(512, 12)) + _EVIL,
        "pax over zero": pax((b"size", b"512")) + header(b"f") + _EVIL,
        "pax over less": pax((b"size", b"512")) + header(b"f", size=9) + _EVIL,
        "pax over more": pax((b"size", b"512")) + header(b"f", size=4096) + _EVIL,
        "pax over noise that is a number": pax((b"size", b"512")) + header(
            b"f", size=b"77777777777\0") + _EVIL,
    }.items()
} | {
    "a pax size is its own entry's, not a header's between": legal(
        [[pax((b"size", b"3")) + long(b"L", b"name\0") + header(b"x") + body(b"abc"), file("b")]],
        {"name": "abc", "b": ""},
    ),
    "a pax size of zero hides no payload": legal(
        [[pax((b"size", b"0")) + header(b"f", size=512) + _INNER]], {"f": "", "smuggled": ""}
    ),
    "a pax size with zeros before it": legal(
        [[pax((b"size", b"0003")) + header(b"f") + body(b"abc")]], {"f": "abc"}
    ),
    "an empty pax size": legal(
        [[pax((b"size", b"")) + header(b"f", size=3) + body(b"abc")]], {"f": "abc"},
        engines="umoci refuses it",
    ),
    "the later of two pax sizes": legal(
        [[pax((b"size", b"1"), (b"size", b"3")) + header(b"f") + body(b"abc")]], {"f": "abc"}
    ),
    **{
        f"a {kind} with a {by}": legal(
            [[blocks, _INNER]], {"x": node, "smuggled": ""}
        )
        for kind, flag, target, node in (
            ("link", b"2", b"t", "-> t"), ("directory", b"5", b"", d(0o644)))
        for by, blocks in (
            ("size", header(b"x", flag, 512, target=target)),
            ("pax size", pax((b"size", b"512")) + header(b"x", flag, target=target)),
        )
    },
}  # fmt: skip

LIES: dict[str, Case] = {
    name: refused([[file("first", "1"), blocks]], phrase)
    for name, (blocks, phrase) in {
        "more than there is": (header(size=4096) + body(b"x"), "cut off"),
        "negative": (header(size=base256(-1, 12)), "size -1"),
        "beyond 63 bits": (header(size=base256(2**63, 12)), "size"),
        "2**90": (header(size=b"\xa0" + bytes(11)), "size"),
        "of letters": (header(size=b"large\0"), "size"),
        "of signs": (header(size=b"-0000000001\0"), "size"),
        "of hex": (header(size=b"0x11\0"), "size"),
        "with an underscore": (header(size=b"1_1\0"), "size"),
        "pax: more than there is": (pax((b"size", b"4096")) + header() + body(b"x"), "cut off"),
        "pax: negative": (pax((b"size", b"-1")) + header(), "pax size"),
        "pax: with a plus": (pax((b"size", b"+1")) + header(), "pax size"),
        "pax: with a space": (pax((b"size", b" 1")) + header(), "pax size"),
        "pax: with a point": (pax((b"size", b"1.0")) + header(), "pax size"),
        "pax: of hex": (pax((b"size", b"0x1")) + header(), "pax size"),
        "pax: other digits": (pax((b"size", "١".encode())) + header(), "pax size"),
        "pax: 2**63": (pax((b"size", b"9223372036854775808")) + header(), "pax size"),
        "pax: of 5,000 digits": (pax((b"size", b"9" * 5000)) + header(), "pax size"),
        "pax: global": (pax((b"size", b"512"), kind=b"g") + header() + _EVIL, "single file"),
    }.items()
}

CASES: dict[str, Case] = TRUE | LIES
