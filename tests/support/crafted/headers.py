"""Tar headers: dialects that are all good, and blocks that are no header."""

from __future__ import annotations

from support.crafted.blocks import END, GNU, archive, base256, body, header
from support.crafted.blocks import file as raw_file
from support.crafted.case import Case, d, f, legal, refused
from support.images import file

_STAR = b"pre".ljust(131, b"\0") + b"1" * 24 + b"\0" * 8 + b"tar\0"


def _signed(block: bytes) -> bytes:
    unset = block[:148] + b" " * 8 + block[156:]
    total = sum(byte - 256 if byte > 127 else byte for byte in unset)
    return block[:148] + b"%06o\0 " % total + block[156:]


GOOD: dict[str, Case] = {
    name: legal([[blocks, file("after", "1")]], tree | {"after": "1"})
    for name, (blocks, tree) in {
        "V7": (raw_file(b"f", b"x", magic=bytes(8)), {"f": "x"}),
        "V7 with junk behind": (raw_file(b"f", b"x", magic=bytes(8), rest=b"junk"), {"f": "x"}),
        "a V7 directory": (header(b"d/", b"\0", magic=bytes(8)), {"d": d(0o644)}),
        "type NUL": (raw_file(b"f", b"x", kind=b"\0"), {"f": "x"}),
        "a contiguous file": (raw_file(b"f", b"x", kind=b"7"), {"f": "x"}),
        "a prefix": (raw_file(b"name", b"x", rest=b"a/b"), {"a/b/name": "x"}),
        "a full prefix": (
            raw_file(b"n" * 100, b"x", rest=b"p" * 155), {"p" * 155 + "/" + "n" * 100: "x"}),
        "GNU has no prefix": (raw_file(b"name", b"x", magic=GNU, rest=b"01234567"), {"name": "x"}),
        "star's prefix": (raw_file(b"name", b"x", rest=_STAR), {"pre/name": "x"}),
        "a name that fills its field": (raw_file(b"n" * 100, b"x"), {"n" * 100: "x"}),
        "a target that fills its field": (
            header(b"l", b"2", target=b"t" * 100), {"l": "-> " + "t" * 100}),
        "a name with something behind its NUL": (raw_file(b"f\0junk", b"x"), {"f": "x"}),
        "numbers with spaces": (
            raw_file(b"f", b"x", mode=b"   644 \0", uid=b" 0 \0\0\0\0\0"), {"f": "x"}),
        "numbers without digits": (
            raw_file(b"f", b"x", mode=bytes(8), mtime=b" " * 12), {"f": f("x", 0)}),
        "numbers that fill their fields": (raw_file(b"f", b"x", mode=b"00000644"), {"f": "x"}),
        "a size in base 256": (header(b"f", size=base256(1, 12)) + body(b"x"), {"f": "x"}),
        "a time before 1970": (raw_file(b"f", b"x", mtime=base256(-5, 12)), {"f": "x"}),
        "a time beyond octal": (raw_file(b"f", b"x", mtime=base256(2**40, 12)), {"f": "x"}),
        "a signed checksum": (_signed(header("ü".encode())), {"ü": ""}),
        "a checksum with spaces": (
            header(b"f")[:148] + b"%6o\0 " % (sum(header(b"f")) - sum(header(b"f")[148:156]) + 256)
            + header(b"f")[156:], {"f": ""}),
        "no magic's version": (raw_file(b"f", b"x", magic=b"ustar\0  "), {"f": "x"}),
        "a directory with a size": (header(b"d/", b"5", 512), {"d": d(0o644)}),
        "a link with a size": (header(b"l", b"2", 512, target=b"x"), {"l": "-> x"}),
    }.items()
}  # fmt: skip
ENDS: dict[str, Case] = {
    name: legal([stream], tree)
    for name, (stream, tree) in {
        "an archive of nothing": (b"", {}),
        "an archive of one block": (bytes(512), {}),
        "an archive of two blocks": (END, {}),
        "an archive of 10 KiB of zeros": (bytes(10240), {}),
        "no end": (archive([file("a", "1")], end=b""), {"a": "1"}),
        "half an end": (archive([file("a", "1")], end=bytes(512)), {"a": "1"}),
        "a long end": (archive([file("a", "1")], end=bytes(20480)), {"a": "1"}),
        "text behind the end": (archive([file("a", "1")], end=END + b"garbage" * 99), {"a": "1"}),
        "an archive behind the end": (
            archive([file("a", "1")]) + archive([file("b", "2"), file("../c")]), {"a": "1"}),
        "half a block behind the end": (archive([file("a", "1")], end=END + b"x"), {"a": "1"}),
    }.items()
}  # fmt: skip

NO_HEADERS: dict[str, Case] = {
    name: refused([[file("first", "1" * 600), blocks]], phrase)
    for name, (blocks, phrase) in {
        "noise": (b"\xde\xad\xbe\xef" * 128, "checksum"),
        "text": (b"This is not a tar archive.".ljust(512), "checksum"),
        "a checksum of zero": (header(checksum=bytes(8)), "wrong checksum"),
        "a checksum off by one": (header(checksum=b"010101\0 "), "wrong checksum"),
        "a checksum off by 65521": (
            header(checksum=b"%07o\0" % (sum(header()) + 65521)), "checksum"),
        "a checksum that is text": (header(checksum=b"checksum"), "checksum"),
        "a negative checksum": (header(checksum=base256(-1, 8)), "checksum"),
        "a flipped bit": (bytes([header()[0] ^ 1]) + header()[1:], "wrong checksum"),
        "no name": (header(b""), "without a name"),
        "a file with a slash": (header(b"f/"), "slash"),
        "one block of zeros amid": (bytes(512) + header(), "amid"),
        "mode of letters": (header(mode=b"rw-r--r--"[:8]), "mode"),
        "mode with an 8": (header(mode=b"0000688\0"), "mode"),
        "negative mode": (header(mode=base256(-1, 8)), "mode"),
        "time of letters": (header(mtime=b"yesterday\0"), "mtime"),
        "time beyond 63 bits": (header(mtime=b"\x80\xff" + b"\xff" * 10), "mtime"),
        **{
            f"type {bytes([kind])!r}": (header(kind=bytes([kind])), "unknown type")
            for kind in b"89ADEIMNVXZz\x01\xff "
        },
    }.items()
}  # fmt: skip

_WHOLE = archive([file("a", "1" * 700), file("b")])
CUT: dict[str, Case] = {
    f"cut off after {size} bytes": refused([_WHOLE[:size]], "cut off")
    for size in (1, 100, 511, 513, 1000, 1211, 1300, 1535, 1537, 2000, 2047, 2049, 2500, 2561)
}

CASES: dict[str, Case] = GOOD | ENDS | NO_HEADERS | CUT
