"""Streams that are no tar archives, or mean two things: each is refused in one line."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator

import pytest
from support.crafted.blocks import (
    END,
    GNU,
    USTAR,
    body,
    header,
    long,
    pax,
    record,
    sparse_old,
    sparse_pax,
)

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.tar import Entry, TarReader

V1 = ((b"major", b"1"), (b"minor", b"0"))


def read(blob: bytes, step: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = TarReader(blob[i : i + step] for i in range(0, len(blob), step))
    return [(entry, reader.read_payload()) for entry in reader]


def test_the_builder_builds_good_archives() -> None:
    blob = (
        header(b"plain", size=3)
        + body(b"abc")
        + pax((b"path", b"from pax"), (b"size", b"4"))
        + header(b"x")
        + body(b"defg")
        + long(b"K", b"target\0")
        + long(b"L", b"name\0")
        + header(b"x", b"2", magic=GNU)
        + sparse_old([(0, 2), (512, 3)], 1000, 5)
        + body(b"abcde")
        + sparse_pax(b"ab", (b"size", b"9"), (b"numblocks", b"1"), (b"map", b"7,2"))
        + sparse_pax(body(b"1\n3\n2\n") + b"xy", *V1, (b"name", b"real"), (b"realsize", b"6"))
        + END
    )
    for step in (1, 100, 1 << 20):
        assert [(e.path, e.target, e.size, p) for e, p in read(blob, step)] == [
            ("plain", "", 3, b"abc"),
            ("from pax", "", 4, b"defg"),
            ("name", "target", 0, b""),
            ("s", "", 1000, b"ab" + bytes(510) + b"cde" + bytes(485)),
            ("s", "", 9, bytes(7) + b"ab"),
            ("real", "", 6, b"\0\0\0xy\0"),
        ]


GOOD = {
    "V7 without magic": (header(magic=bytes(8), rest=b"junk"), "f"),
    "prefix": (header(b"name", rest=b"a/b"), "a/b/name"),
    "GNU has no prefix": (header(b"name", magic=GNU, rest=b"01234567"), "name"),
    "star's prefix ends early": (
        header(b"name", rest=b"pre".ljust(131, b"\0") + b"1" * 24 + b"\0" * 8 + b"tar\0"),
        "pre/name",
    ),
    "name of 100 bytes": (header(b"n" * 100), "n" * 100),
    "number with spaces": (header(mode=b"   644 \0", uid=b" 0 \0\0\0\0\0"), "f"),
    "number without digits": (header(mode=bytes(8), mtime=b" " * 12), "f"),
    "number fills its field": (header(mode=b"00000644"), "f"),
    "mode with the file's type": (header(mode=b"0100644\0"), "f"),
    "not ASCII": (header("ü".encode()), "ü"),
    "unknown pax keys": (pax((b"VENDOR.key", b"\xff\0"), (b"comment", b"=")) + header(), "f"),
    "empty pax path": (pax((b"path", b"")) + header(b"own"), "own"),
    "later record counts": (pax((b"path", b"a"), (b"path", b"b")) + header(), "b"),
    "newline in a pax value": (pax((b"path", b"a\nb")) + header(), "a\nb"),
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_good(name: str) -> None:
    blob, path = GOOD[name]
    [(entry, _)] = read(blob + END)
    assert (entry.path, entry.mode & 0o7133) == (path, 0)


def test_signed_checksums_are_good() -> None:
    block = bytearray(header("ü".encode()))
    block[148:156] = b"        "
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed
    assert read(bytes(block) + END)[0][0].path == "ü"


BAD = {
    # headers
    "noise": (b"\xde\xad\xbe\xef" * 128, "checksum"),
    "checksum of zero": (header(checksum=bytes(8)), "wrong checksum"),
    "checksum off by one": (header(checksum=b"010101\0 "), "wrong checksum"),
    "checksum is no number": (header(checksum=b"checksum"), "checksum"),
    "checksum off by 65521": (header(checksum=b"%07o\0" % (sum(header()) + 65521)), "checksum"),
    "octal with an 8": (header(mode=b"0000688\0"), "mode"),
    "octal with a sign": (header(size=b"-0000000001\0"), "size"),
    "octal with an underscore": (header(size=b"1_1\0"), "size"),
    "octal with a prefix": (header(size=b"0o11\0"), "size"),
    "octal with a space amid": (header(size=b"11 11\0"), "size"),
    "octal with letters": (header(uid=b"root\0"), "uid"),
    "mtime is no number": (header(mtime=b"yesterday\0"), "mtime"),
    "negative size": (header(size=b"\xff" * 12), "size -1"),
    "negative owner": (header(uid=b"\xff" * 8), "uid -1"),
    "size beyond 63 bits": (header(size=b"\x80\0\0\xff" + b"\xff" * 8), "size"),
    "size of 2**90": (header(size=b"\xa0" + bytes(11)), "size"),
    "owner beyond 32 bits": (header(uid=b"\x80\0\0\x01\0\0\0\0"), "owner"),
    "owner -1 in 32 bits": (header(gid=b"\x80\0\0\0\xff\xff\xff\xff"), "owner"),
    "device is no number": (header(kind=b"3", major=b"x"), "device"),
    "name is not UTF-8": (header(b"caf\xe9"), r"name b'caf\\xe9' is not UTF-8"),
    "prefix is not UTF-8": (header(rest=b"\xff"), "UTF-8"),
    "name is a surrogate": (header(b"\xed\xa0\x80"), "UTF-8"),
    "no name": (header(b""), "without a name"),
    "target is not UTF-8": (header(kind=b"2", target=b"\xff"), r"target b'\\xff' is not UTF-8"),
    "symbolic link to nothing": (header(kind=b"2"), "link to nothing"),
    "hard link to nothing": (header(kind=b"1"), "link to nothing"),
    "file with a slash": (header(b"f/"), "slash"),
    "one block of zeros amid": (header() + bytes(512) + header(), "amid"),
    **{
        f"type {chr(kind)!r}": (header(kind=bytes([kind])), "unknown type")
        for kind in b"89ADEIMNVXZz\x01\xff "
    },
    # cut streams
    "half a header": (header()[:300], "cut off"),
    "a byte": (b"f", "cut off"),
    "half a block of zeros": (header() + bytes(100), "cut off"),
    "half a second block of zeros": (header() + bytes(700), "cut off"),
    "no payload": (header(size=1), "cut off"),
    "half a payload": (header(size=1000) + bytes(512), "cut off"),
    "payload without padding": (header(size=100) + b"p" * 100, "cut off"),
    "9 GiB without payload": (header(size=9 << 30) + END, "cut off"),
    "8 EiB": (header(size=2**63 - 1) + END, "cut off"),
    "nothing after pax": (pax((b"path", b"p")), "extended header's entry"),
    "the end after pax": (pax((b"path", b"p")) + END, "extended header's entry"),
    "the end after a long name": (long(b"L", b"name\0") + END, "extended header's entry"),
    "the end after a long link": (long(b"K", b"name\0"), "extended header's entry"),
    "half a pax body": (pax((b"path", b"p" * 600))[:1024], "cut off"),
    # pax
    "pax record without length": (pax(b"path=x\n") + header(), "without a length"),
    "pax record of length 0": (pax(b"0 path=x\n") + header(), "wrong length"),
    "pax length with a sign": (pax(b"+9 path=x\n") + header(), "without a length"),
    "pax length of many digits": (pax(b"0" * 30 + b"9 path=x\n") + header(), "without a length"),
    "pax record too long": (pax(b"90 path=x\n") + header(), "wrong length"),
    "pax record too short": (pax(b"8 path=x\n") + header(), "wrong length"),
    "pax record within its length": (pax(b"2 path=x\n") + header(), "wrong length"),
    "pax record without newline": (pax(b"9 path=xx") + header(), "wrong length"),
    "pax record without equals": (pax(b"7 path\n") + header(), "KEY=VALUE"),
    "pax record without key": (pax(b"5 =x\n") + header(), "KEY=VALUE"),
    "pax key with NUL": (pax((b"pa\0th", b"x")) + header(), "KEY=VALUE"),
    "pax body with zeros": (pax(record(b"path", b"x") + bytes(9)) + header(), "without a length"),
    "pax path with NUL": (pax((b"path", b"etc\0/x")) + header(), "NUL"),
    "pax linkpath with NUL": (pax((b"linkpath", b"\0")) + header(kind=b"2"), "NUL"),
    "pax path is not UTF-8": (pax((b"path", b"\xff")) + header(), "UTF-8"),
    "pax path too long": (pax((b"path", b"p" * 4097)) + header(), "4097 bytes"),
    "pax size negative": (pax((b"size", b"-1")) + header(), "size"),
    "pax size with a point": (pax((b"size", b"1.0")) + header(), "size"),
    "pax size beyond 63 bits": (pax((b"size", b"9223372036854775808")) + header(), "size"),
    "pax size of many digits": (pax((b"size", b"9" * 5000)) + header(), "size"),
    "pax size larger than the stream": (pax((b"size", b"1024")) + header() + body(b"x"), "cut off"),
    "pax uid is a name": (pax((b"uid", b"root")) + header(), "uid"),
    "pax gid beyond 32 bits": (pax((b"gid", b"4294967295")) + header(), "gid"),
    "pax mtime is a date": (pax((b"mtime", b"2024-01-01")) + header(), "mtime"),
    "pax mtime is not finite": (pax((b"mtime", b"nan")) + header(), "mtime"),
    "pax header of 2 MiB": (header(kind=b"x", size=2 << 20) + bytes(2 << 20), "extended header of"),
    "pax header of 8 EiB": (header(kind=b"x", size=2**63 - 1), "extended header of"),
    "two pax headers": (pax((b"path", b"a")) + pax((b"path", b"b")) + header(), "two extended"),
    "two long names": (long(b"L", b"a\0") + long(b"L", b"b\0") + header(), "two extended"),
    "pax path and long name": (pax((b"path", b"a")) + long(b"L", b"b\0") + header(), "both"),
    "long link and pax linkpath": (
        long(b"K", b"a\0") + pax((b"linkpath", b"b")) + header(kind=b"2"),
        "both",
    ),
    "global header within": (pax((b"uid", b"1")) + pax((b"uid", b"2"), kind=b"g"), "two extended"),
    "global path": (pax((b"path", b"p"), kind=b"g") + header(), "single file"),
    "global size": (pax((b"size", b"0"), kind=b"g") + header(), "single file"),
    "global xattr": (pax((b"SCHILY.xattr.user.a", b"x"), kind=b"g") + header(), "single file"),
    "global sparse map": (pax((b"GNU.sparse.map", b"0,0"), kind=b"g") + header(), "single file"),
    "xattr without name": (pax((b"SCHILY.xattr.", b"x")) + header(), "named"),
    "xattr of a long name": (pax((b"SCHILY.xattr." + b"n" * 256, b"x")) + header(), "named"),
    "xattr of 64 KiB and 1": (
        pax((b"SCHILY.xattr.user.a", bytes(limits.XATTR_VALUE_MAX + 1))) + header(),
        "65537 bytes",
    ),
    "xattr is not base64": (pax((b"LIBARCHIVE.xattr.user.a", b"a")) + header(), "base64"),
    "xattr escapes a NUL": (pax((b"LIBARCHIVE.xattr.user%00", b"YQ")) + header(), "named"),
    "xattr with two values": (
        pax((b"LIBARCHIVE.xattr.user.a", base64.b64encode(b"1")), (b"SCHILY.xattr.user.a", b"2"))
        + header(),
        "two values",
    ),
    # GNU long names
    "long name is empty": (long(b"L", b"") + header(), "empty"),
    "long name is a NUL": (long(b"L", b"\0") + header(), "empty"),
    "long name with NUL": (long(b"L", b"etc\0passwd\0") + header(), "NUL"),
    "long name is not UTF-8": (long(b"L", b"\xff\0") + header(), "UTF-8"),
    "long name too long": (long(b"L", b"n" * 5000) + header(), "5000 bytes"),
    "long link too long": (long(b"K", b"n" * 5000) + header(), "5000 bytes"),
    "long name of 2 MiB": (header(kind=b"L", size=2 << 20) + bytes(2 << 20), "extended header of"),
    # sparse
    "S in ustar": (sparse_old([(0, 5)], 5, 5, magic=USTAR) + body(b"x" * 5), "other than GNU"),
    "pieces overlap": (sparse_old([(0, 3), (2, 2)], 9, 5) + body(b"x" * 5), "out of order"),
    "pieces backwards": (sparse_old([(5, 3), (0, 2)], 9, 5) + body(b"x" * 5), "out of order"),
    "piece outside": (sparse_old([(0, 3), (8, 2)], 9, 5) + body(b"x" * 5), "out of order"),
    "pieces too short": (sparse_old([(0, 3)], 9, 5) + body(b"x" * 5), "sparse map of 3 bytes"),
    "pieces too long": (sparse_old([(0, 7)], 9, 5) + body(b"x" * 5), "sparse map of 7 bytes"),
    "no extension": (sparse_old([(0, 5)], 9, 5, more=1), "cut off"),
    "endless extensions": (
        sparse_old([(0, 0)], 9, 0, more=1) + (b"%011o\0%011o\0" % (0, 0) * 21 + b"\1" * 8) * 5000,
        "more than 100000 pieces",
    ),
    "sparse bomb": (sparse_old([], 1 << 31, 0), "with only 0 stored"),
    "sparse bomb of a byte": (sparse_old([(0, 1)], 1 << 31, 1) + body(b"x"), "only 1 stored"),
    "sparse bomb in pax": (
        sparse_pax(b"", (b"size", b"9223372036854775807"), (b"map", b"")),
        "only 0 stored",
    ),
    "sparse without size": (sparse_pax(b"", (b"map", b"0,0")), "number"),
    "sparse size negative": (sparse_pax(b"", (b"size", b"-1"), (b"map", b"0,0")), "number"),
    "sparse map is odd": (sparse_pax(b"", (b"size", b"9"), (b"map", b"0,0,1")), "no length"),
    "sparse map is text": (sparse_pax(b"", (b"size", b"9"), (b"map", b"a,b")), "number"),
    "sparse count lies": (
        sparse_pax(b"", (b"size", b"9"), (b"map", b"0,0"), (b"numblocks", b"2")),
        "announced",
    ),
    "sparse pairs do not alternate": (
        sparse_pax(b"", (b"size", b"9"), (b"offset", b"0"), (b"offset", b"1")),
        "alternate",
    ),
    "sparse version 2": (sparse_pax(b"", (b"major", b"2"), (b"minor", b"0")), "version b'2.0'"),
    "sparse name with NUL": (sparse_pax(b"", (b"size", b"0"), (b"name", b"a\0b")), "NUL"),
    "sparse 1.0 without map": (sparse_pax(b"", *V1, (b"realsize", b"9")), "longer than its entry"),
    "sparse 1.0 with a short map": (
        sparse_pax(body(b"2\n0\n1\n"), *V1, (b"realsize", b"9")),
        "where a number should be|longer than its entry",
    ),
    "sparse 1.0 with noise": (sparse_pax(b"x" * 2048, *V1, (b"realsize", b"9")), "does not end"),
    "sparse 1.0 of many pieces": (
        sparse_pax(body(b"100001\n"), *V1, (b"realsize", b"9")),
        "more than 100000",
    ),
    "sparse 1.0 count is huge": (
        sparse_pax(body(b"9" * 400 + b"\n"), *V1, (b"realsize", b"9")),
        "number",
    ),
    "sparse directory": (
        pax((b"GNU.sparse.size", b"0"), (b"GNU.sparse.map", b"")) + header(b"d", b"5"),
        "not a file",
    ),
    "two maps": (
        pax((b"GNU.sparse.size", b"5"), (b"GNU.sparse.map", b"0,5"))
        + sparse_old([(0, 5)], 5, 5)
        + body(b"x" * 5),
        "two maps",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    blob, message = BAD[name]
    first = header(b"first", size=600) + bytes(1024)
    for step in (100, 1 << 20):
        with pytest.raises(MalformedImage, match=message) as caught:
            read(first + blob, step)
        text = str(caught.value)
        assert text.startswith(("tar entry 2 at offset 1536: ", "tar entry 3 at offset "))
        assert text.isprintable()
        assert len(text) < 1500


def test_nothing_comes_after_a_failure() -> None:
    reader = TarReader([header(b"a") + header(kind=b"Z") + header(b"b") + END])
    with pytest.raises(MalformedImage):
        list(reader)
    assert list(reader) == []


@pytest.mark.parametrize("step", [100, 1 << 20])
def test_a_payload_that_is_cut_off(step: int) -> None:
    blob = header(size=2000) + bytes(1000)
    for consume in (
        lambda reader: list(reader.payload()),
        lambda reader: reader.read_payload(),
    ):
        reader = TarReader(blob[i : i + step] for i in range(0, len(blob), step))
        [entry] = itertools.islice(reader, 1)
        assert entry.size == 2000
        with pytest.raises(MalformedImage, match=r"tar entry 1 at offset 0: .*cut off"):
            consume(reader)


def test_a_pax_size_lie_moves_no_header() -> None:
    # The payload holds a header of its own: with the ustar size it would be an entry.
    inner = header(b"smuggled", size=0)
    blob = pax((b"size", b"512")) + header(b"outer", size=0) + inner + header(b"next") + END
    assert [(e.path, p) for e, p in read(blob)] == [("outer", inner), ("next", b"")]
    # The size is the entry's and not that of a header between.
    blob = pax((b"size", b"3")) + long(b"L", b"name\0") + header(magic=GNU) + body(b"abc") + END
    assert [(e.path, p) for e, p in read(blob)] == [("name", b"abc")]


def test_errors_of_the_source_pass() -> None:
    def failing() -> Iterator[bytes]:
        yield header(b"a") + header(b"b", size=5000)
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError):
        list(TarReader(failing()))
