"""Extended headers, pax's and GNU's: what they override, what may not be said twice, limits."""

from __future__ import annotations

from support.crafted.blocks import END, GNU, body, header, long, pax, record
from support.crafted.blocks import file as raw_file
from support.crafted.case import Case, f, legal, ln, refused
from support.images import file

MEANT: dict[str, Case] = {
    name: legal([[blocks, file("after", "1")]], {"after": "1"} | tree)
    for name, (blocks, tree) in {
        "a path": (pax((b"path", b"real")) + raw_file(b"f", b"x"), {"real": "x"}),
        "a path in /etc": (pax((b"path", b"etc/real")) + raw_file(b"f", b"x"), {
            "usr/etc/real": "x"}),
        "a path out of /etc": (pax((b"path", b"opt/real")) + raw_file(b"etc/f", b"x"), {
            "opt/real": "x"}),
        "a path that is not ASCII": (pax((b"path", "etc/𝜋".encode())) + raw_file(b"etc/?", b"x"), {
            "usr/etc/𝜋": "x"}),
        "a path over a name that is no UTF-8": (
            pax((b"path", b"real")) + raw_file(b"\xff", b"x"), {"real": "x"}),
        "a path over a name that leaves": (
            pax((b"path", b"real")) + raw_file(b"../f", b"x"), {"real": "x"}),
        "a path over no name": (pax((b"path", b"real")) + raw_file(b"", b"x"), {"real": "x"}),
        "an empty path": (pax((b"path", b"")) + raw_file(b"f", b"x"), {"f": "x"}),
        "the later of two paths": (
            pax((b"path", b"a"), (b"path", b"b")) + raw_file(b"f", b"x"), {"b": "x"}),
        "a path with a newline": (pax((b"path", b"a\nb")) + raw_file(b"f", b"x"), {"a\nb": "x"}),
        "a path with equals": (pax((b"path", b"a=b")) + raw_file(b"f", b"x"), {"a=b": "x"}),
        "a path that looks like a record": (
            pax((b"path", b"9 size=1\n")) + raw_file(b"f", b"x"), {"9 size=1\n": "x"}),
        "a path of 4,000 bytes": (
            pax((b"path", b"/".join([b"c" * 199] * 20))) + raw_file(b"f", b"x"),
            {"/".join(["c" * 199] * 20): "x"}),
        "a link's path": (
            pax((b"linkpath", b"real")) + header(b"l", b"2", target=b"x"), {"l": "-> real"}),
        "a link's path over none": (pax((b"linkpath", b"real")) + header(b"l", b"2"), {
            "l": "-> real"}),
        "a hard link's path": (
            raw_file(b"a", b"x") + pax((b"linkpath", b"a")) + header(b"l", b"1", target=b"b"),
            {"a": "x", "l": "x"}),
        "a link's path of a file means nothing": (
            pax((b"linkpath", b"/etc/shadow")) + raw_file(b"f", b"x"), {"f": "x"}),
        "a time": (pax((b"mtime", b"1.5"), (b"atime", b"-1.25"), (b"ctime", b"3")) + raw_file(
            b"f", b"x"), {"f": "x"}),
        "a time before 1970": (pax((b"mtime", b"-1.5")) + raw_file(b"f", b"x"), {"f": "x"}),
        "unknown keys": (
            pax((b"VENDOR.key", b"\xff\0"), (b"comment", b"=")) + raw_file(b"f", b"x"), {"f": "x"}),
        "a character set": (pax((b"hdrcharset", b"ISO-IR 10646 2000 UTF-8")) + raw_file(
            b"f", b"x"), {"f": "x"}),
        "no record": (pax() + raw_file(b"f", b"x"), {"f": "x"}),
        "a global owner": (
            pax((b"uid", b"7"), (b"gid", b"8"), kind=b"g") + raw_file(b"f", b"x") + raw_file(b"g"),
            {"f": f("x", uid=7, gid=8), "g": f(uid=7, gid=8), "after": f("1", uid=7, gid=8)}),
        "a global owner and one's own": (
            pax((b"uid", b"7"), kind=b"g") + pax((b"uid", b"8")) + raw_file(b"f", b"x")
            + pax((b"uid", b""), kind=b"g"),
            {"f": f("x", uid=8)}),
        "a global comment": (pax((b"comment", b"c" * 3000), kind=b"g") + raw_file(b"f", b"x"), {
            "f": "x"}),
        "a long name": (long(b"L", b"real\0") + raw_file(b"f", b"x", magic=GNU), {"real": "x"}),
        "a long name without NUL": (
            long(b"L", b"n" * 120) + raw_file(b"f", b"x", magic=GNU), {"n" * 120: "x"}),
        "a long link target": (
            long(b"K", b"t" * 300 + b"\0") + header(b"l", b"2", magic=GNU), {"l": ln("t" * 300)}),
        "long name and target": (
            long(b"K", b"t\0") + long(b"L", b"real\0") + header(b"l", b"2", magic=GNU),
            {"real": "-> t"}),
        "a long name that is not ASCII": (
            long(b"L", "etc/ä\0".encode()) + raw_file(b"?", b"x", magic=GNU), {"usr/etc/ä": "x"}),
        "a header's name that is a path": (
            header(b"../PaxHeaders/f", b"x", len(record(b"path", b"real")))
            + body(record(b"path", b"real")) + raw_file(b"f", b"x"), {"real": "x"}),
    }.items()
}  # fmt: skip

ENTRY = header(b"f")
REFUSED: dict[str, Case] = {
    name: refused([[file("first", "1"), blocks]], phrase)
    for name, (blocks, phrase) in {
        "no length": (pax(b"path=x\n") + ENTRY, "without a length"),
        "a length of 0": (pax(b"0 path=x\n") + ENTRY, "wrong length"),
        "a length with a sign": (pax(b"+9 path=x\n") + ENTRY, "without a length"),
        "a negative length": (pax(b"-9 path=x\n") + ENTRY, "without a length"),
        "a length of many digits": (pax(b"0" * 30 + b"9 path=x\n") + ENTRY, "without a length"),
        "a length of other digits": (pax("٩ path=x\n".encode()) + ENTRY, "without a length"),
        "a length beyond the header": (pax(b"90 path=x\n") + ENTRY, "wrong length"),
        "a length short by one": (pax(b"8 path=x\n") + ENTRY, "wrong length"),
        "a length within itself": (pax(b"2 path=x\n") + ENTRY, "wrong length"),
        "a length long by one": (pax(b"11 path=x\n9 path=y\n") + ENTRY, "wrong length"),
        "no newline": (pax(b"9 path=xx") + ENTRY, "wrong length"),
        "no equals": (pax(b"7 path\n") + ENTRY, "KEY=VALUE"),
        "no key": (pax(b"5 =x\n") + ENTRY, "KEY=VALUE"),
        "a NUL in a key": (pax((b"pa\0th", b"x")) + ENTRY, "KEY=VALUE"),
        "zeros behind": (pax(record(b"path", b"x") + bytes(9)) + ENTRY, "without a length"),
        "a NUL in a path": (pax((b"path", b"etc\0/x")) + ENTRY, "NUL"),
        "a NUL in a link's path": (pax((b"linkpath", b"\0")) + header(kind=b"2"), "NUL"),
        "a path that leaves": (pax((b"path", b"../../x")) + ENTRY, r"has a '\.\.'"),
        "a path that leaves, over a good name": (pax((b"path", b"a/../../x")) + ENTRY, r"'\.\.'"),
        "a path of 4,097 bytes": (pax((b"path", b"p" * 4097)) + ENTRY, "4097 bytes"),
        "a file with a slash": (pax((b"path", b"f/")) + ENTRY, "slash"),
        "a time that is a date": (pax((b"mtime", b"2024-01-01")) + ENTRY, "mtime"),
        "a time that is none": (pax((b"mtime", b"nan")) + ENTRY, "mtime"),
        "a time of many digits": (pax((b"mtime", b"1" * 400)) + ENTRY, "mtime"),
        "a header of 1 MiB and a byte": (
            header(kind=b"x", size=(1 << 20) + 1) + bytes(2 << 20), "extended header of"),
        "a header of 8 EiB": (header(kind=b"x", size=2**63 - 1), "extended header of"),
        "two headers": (pax((b"path", b"a")) + pax((b"path", b"b")) + ENTRY, "two extended"),
        "two long names": (long(b"L", b"a\0") + long(b"L", b"b\0") + ENTRY, "two extended"),
        "a path and a long name": (pax((b"path", b"a")) + long(b"L", b"b\0") + ENTRY, "both"),
        "a link's path and a long one": (
            long(b"K", b"a\0") + pax((b"linkpath", b"b")) + header(kind=b"2"), "both"),
        "a global header within": (
            pax((b"uid", b"1")) + pax((b"uid", b"2"), kind=b"g") + ENTRY, "two extended"),
        **{
            f"a global {key.decode()}": (pax((key, value), kind=b"g") + ENTRY, "single file")
            for key, value in ((b"path", b"p"), (b"linkpath", b"p"), (b"size", b"0"),
                               (b"GNU.sparse.map", b"0,0"), (b"SCHILY.xattr.user.a", b"x"))
        },
        "nothing behind": (pax((b"path", b"p")), "extended header's entry"),
        "nothing behind a long name": (long(b"L", b"p\0") + END, "extended header's entry"),
        "a long name that is empty": (long(b"L", b"") + ENTRY, "empty"),
        "a long name that is NUL": (long(b"L", b"\0") + ENTRY, "empty"),
        "a NUL in a long name": (long(b"L", b"etc\0passwd\0") + ENTRY, "NUL"),
        "a long name of 5,000 bytes": (long(b"L", b"n" * 5000) + ENTRY, "5000 bytes"),
        "a long name of 2 MiB": (
            header(kind=b"L", size=2 << 20) + bytes(2 << 20), "extended header of"),
        "a long name that leaves": (long(b"L", b"../x\0") + ENTRY, r"has a '\.\.'"),
    }.items()
}  # fmt: skip

CASES: dict[str, Case] = MEANT | REFUSED
