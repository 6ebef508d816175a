"""Sparse files in GNU tar's four formats: maps that are good, that lie, and that ask for much."""

from __future__ import annotations

from support.crafted.blocks import USTAR, body, header, pax, sparse_old, sparse_pax
from support.crafted.case import Case, f, legal, refused
from support.images import file

V1 = ((b"major", b"1"), (b"minor", b"0"))
_MIB = 1 << 20


def _map(*pieces: tuple[int, int]) -> bytes:
    return ",".join(f"{offset},{length}" for offset, length in pieces).encode()


def _lines(*pieces: tuple[int, int]) -> bytes:
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    return body("".join(f"{number}\n" for number in numbers).encode())


def _content(real: int, *pieces: tuple[int, bytes]) -> bytes:
    content = bytearray(real)
    for offset, data in pieces:
        content[offset : offset + len(data)] = data
    return bytes(content)


def _formats(real: int, *pieces: tuple[int, bytes]) -> dict[str, bytes]:
    """The same file in all formats."""
    spans = [(offset, len(data)) for offset, data in pieces]
    stored = b"".join(data for _, data in pieces)
    size = str(real).encode()
    repeated = [
        pair
        for offset, length in spans
        for pair in ((b"offset", b"%d" % offset), (b"numbytes", b"%d" % length))
    ]
    return {
        "old GNU": sparse_old(spans[:4], real, len(stored), int(len(spans) > 4))
        + _extensions(spans[4:])
        + body(stored),
        "pax 0.0": sparse_pax(
            stored, (b"size", size), (b"numblocks", b"%d" % len(spans)), *repeated
        ),
        "pax 0.1": sparse_pax(
            stored,
            (b"size", size),
            (b"numblocks", b"%d" % len(spans)),
            (b"map", _map(*spans)),
        ),
        "pax 1.0": sparse_pax(_lines(*spans) + stored, *V1, (b"realsize", size), (b"name", b"s")),
    }


def _extensions(spans: list[tuple[int, int]]) -> bytes:
    blocks = b""
    for start in range(0, len(spans), 21):
        table = b"".join(b"%011o\0%011o\0" % span for span in spans[start : start + 21])
        blocks += table.ljust(504, b"\0") + bytes([start + 21 < len(spans)]) + bytes(7)
    return blocks


_FILES = {
    "one piece": (1000, [(100, b"abc")]),
    "a hole only": (70_000, []),
    "no hole": (6, [(0, b"abcdef")]),
    "a hole first": (1024, [(1000, b"x" * 24)]),
    "a hole last": (5000, [(0, b"x" * 24)]),
    "four pieces": (9000, [(n * 2000, b"%d" % n * 10) for n in range(4)]),
    "five pieces": (9000, [(n * 1500, b"%d" % n * 10) for n in range(5)]),
    "sixty pieces": (90_000, [(n * 1500, b"%d" % n) for n in range(60)]),
    "an empty piece at the end": (3000, [(5, b"x"), (3000, b"")]),
    "pieces side by side": (20, [(0, b"abc"), (3, b"def")]),
    "nothing": (0, []),
    "2 MiB of hole": (2 * _MIB + 3, [(0, b"a"), (2 * _MIB + 2, b"z")]),
    "zeros that are stored": (9000, [(100, bytes(2000))]),
}
GOOD: dict[str, Case] = {
    f"{what}, {form}": legal(
        [[blocks, file("after", "1")]],
        {"s": f(_content(real, *pieces)), "after": "1"},
        engines="umoci's tar reader refuses it" if what in _GO_REFUSES else "",
    )
    for _GO_REFUSES in (("a hole only", "nothing"),)
    for what, (real, pieces) in _FILES.items()
    for form, blocks in _formats(real, *pieces).items()
} | {
    "a sparse name wins over the header's": legal(
        [[sparse_pax(_lines((0, 1)) + b"x", *V1, (b"realsize", b"1"), (b"name", b"etc/real"))]],
        {"usr/etc/real": "x"},
    ),
    "a sparse file among others": legal(
        [[file("a", "1"), sparse_old([(0, 2)], 4, 2) + body(b"xy"), file("b", "2")]],
        {"a": "1", "s": b"xy\0\0", "b": "2"},
    ),
    "a hard link to a sparse file": legal(
        [[sparse_old([(0, 2)], 4, 2) + body(b"xy"), header(b"l", b"1", target=b"s")]],
        {"s": b"xy\0\0", "l": b"xy\0\0"},
    ),
}

_STORED = body(b"x" * 5)
REFUSED: dict[str, Case] = {
    name: refused([[file("first", "1"), blocks]], phrase)
    for name, (blocks, phrase) in {
        "in ustar": (sparse_old([(0, 5)], 5, 5, magic=USTAR) + _STORED, "other than GNU"),
        "in V7": (sparse_old([(0, 5)], 5, 5, magic=bytes(8)) + _STORED, "other than GNU"),
        "pieces that overlap": (sparse_old([(0, 3), (2, 2)], 9, 5) + _STORED, "out of order"),
        "pieces backwards": (sparse_old([(5, 3), (0, 2)], 9, 5) + _STORED, "out of order"),
        "a piece outside": (sparse_old([(0, 3), (8, 2)], 9, 5) + _STORED, "out of order"),
        "less than is stored": (sparse_old([(0, 3)], 9, 5) + _STORED, "sparse map of 3 bytes"),
        "more than is stored": (sparse_old([(0, 7)], 9, 5) + _STORED, "sparse map of 7 bytes"),
        "a size less than the pieces": (sparse_old([(0, 5)], 3, 5) + _STORED, "out of order"),
        "endless extensions": (
            sparse_old([(0, 0)], 9, 0, more=1)
            + (b"%011o\0%011o\0" % (0, 0) * 21 + b"\1" * 8) * 5000, "more than 100000 pieces"),
        "nothing of 2 GiB": (sparse_old([], 1 << 31, 0), "only 0 stored"),
        "a byte of 2 GiB": (sparse_old([(0, 1)], 1 << 31, 1) + body(b"x"), "only 1 stored"),
        "nothing of 8 EiB": (
            sparse_pax(b"", (b"size", b"9223372036854775807"), (b"map", b"")), "only 0 stored"),
        "no size": (sparse_pax(b"", (b"map", b"0,0")), "number"),
        "a negative size": (sparse_pax(b"", (b"size", b"-1"), (b"map", b"0,0")), "number"),
        "a size beyond 63 bits": (
            sparse_pax(b"", (b"size", b"9" * 20), (b"map", b"0,0")), "number"),
        "an odd map": (sparse_pax(b"", (b"size", b"9"), (b"map", b"0,0,1")), "no length"),
        "a map of text": (sparse_pax(b"", (b"size", b"9"), (b"map", b"a,b")), "number"),
        "a map with a minus": (sparse_pax(b"", (b"size", b"9"), (b"map", b"-1,1")), "number"),
        "a count that lies": (
            sparse_pax(b"", (b"size", b"9"), (b"map", b"0,0"), (b"numblocks", b"2")), "announced"),
        "pairs that do not alternate": (
            sparse_pax(b"", (b"size", b"9"), (b"offset", b"0"), (b"offset", b"1")), "alternate"),
        "version 2": (sparse_pax(b"", (b"major", b"2"), (b"minor", b"0")), "version b'2.0'"),
        "version 1.1": (sparse_pax(b"", (b"major", b"1"), (b"minor", b"1")), "version b'1.1'"),
        "a name with NUL": (sparse_pax(b"", (b"size", b"0"), (b"name", b"a\0b")), "NUL"),
        "a name that leaves": (
            sparse_pax(_lines(), *V1, (b"realsize", b"0"), (b"name", b"../x")), r"has a '\.\.'"),
        "1.0 without a map": (sparse_pax(b"", *V1, (b"realsize", b"9")), "longer than its entry"),
        "1.0 with a map cut short": (
            sparse_pax(body(b"2\n0\n1\n"), *V1, (b"realsize", b"9")), "number|longer than"),
        "1.0 with a line without end": (
            sparse_pax(b"x" * 2048, *V1, (b"realsize", b"9")), "does not end"),
        "1.0 of many pieces": (
            sparse_pax(body(b"100001\n"), *V1, (b"realsize", b"9")), "more than 100000"),
        "1.0 of a count without end": (
            sparse_pax(body(b"9" * 400 + b"\n"), *V1, (b"realsize", b"9")), "number"),
        "a sparse directory": (
            pax((b"GNU.sparse.size", b"0"), (b"GNU.sparse.map", b"")) + header(b"d", b"5"),
            "not a file"),
        "a sparse link": (
            pax((b"GNU.sparse.size", b"0"), (b"GNU.sparse.map", b""))
            + header(b"l", b"2", target=b"x"), "not a file"),
        "two maps": (
            pax((b"GNU.sparse.size", b"5"), (b"GNU.sparse.map", b"0,5"))
            + sparse_old([(0, 5)], 5, 5) + _STORED, "two maps"),
    }.items()
}  # fmt: skip

CASES: dict[str, Case] = GOOD | REFUSED
