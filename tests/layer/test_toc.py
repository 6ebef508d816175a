"""The table of contents: what is read, what is refused, and what a tar stream is held to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.blob_index import File, Piece
from bridge.layer.facts import checker
from bridge.layer.tar import Entry, EntryType
from bridge.layer.toc import parse_toc

END = 10_000
"""Where the content of the blob ends."""


def sha(name: str) -> str:
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def raw(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def parse(*entries: Any, **members: Any) -> Any:
    document = {"version": 1, "entries": list(entries), "tarSplitDigest": sha("split")} | members
    return parse_toc([json.dumps(document).encode()], END)


def reg(name: str = "f", size: Any = 5, **fields: Any) -> dict[str, Any]:
    """Return the entry of a file in one piece."""
    made = {"type": "reg", "name": name, "size": size, "digest": sha(name), "offset": 100}
    return made | {"endOffset": 200} | fields


def chunk(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "chunk", "name": name, "chunkDigest": sha("piece")} | fields


# Of three pieces: 4 bytes, 3 zeros, 2 bytes.
FIRST = reg(size=9, chunkSize=4, chunkDigest=sha("a"), endOffset=300)
SECOND = chunk(offset=150, chunkSize=3, chunkOffset=4, chunkType="zeros", chunkDigest=sha("b"))
THIRD = chunk(offset=160, chunkSize=2, chunkOffset=7, chunkDigest=sha("c"))
PIECES = (
    Piece(raw("a"), 4, 100, 150, False),
    Piece(raw("b"), 3, 150, 160, True),
    Piece(raw("c"), 2, 160, 300, False),
)

# -- golden ----------------------------------------------------------------------------------

REAL = r"""
{"version":1,"entries":[
{"type":"dir","name":"etc/","mode":493,"modtime":"2024-01-02T03:04:05Z","xattrs":{"user.test":"AP92"}},
{"type":"reg","name":"etc/motd","mode":420,"size":6,"uid":7,"gid":8,"modtime":"2024-01-02T03:04:05.25Z","digest":"sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03","offset":317,"endOffset":336},
{"type":"reg","name":"etc/empty","mode":420},
{"type":"symlink","name":"etc/\u003clink\u003e","linkName":"../a\u0026b","mode":511},
{"type":"hardlink","name":"etc/hard","linkName":"etc/motd","mode":420},
{"type":"char","name":"dev/null","mode":438,"devMajor":1,"devMinor":3},
{"type":"block","name":"dev/sda","mode":432,"devMajor":8},
{"type":"fifo","name":"run/fifo","mode":384,"modtime":"0001-01-01T00:00:00Z"}
],"tarSplitDigest":"sha256:f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2"}
"""
"""Entries of every kind, as containers tools write them (on one line)."""
MOTD = bytes.fromhex("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
WHEN = 1704164645
FACTS = {
    "etc/": (EntryType.DIRECTORY, 0o755, 0, 0, 0, WHEN, "", (0, 0), ((b"user.test", b"\0\xffv"),)),
    "etc/motd": (EntryType.FILE, 0o644, 7, 8, 6, WHEN, "", (0, 0), ()),
    "etc/empty": (EntryType.FILE, 0o644, 0, 0, 0, 0, "", (0, 0), ()),
    "etc/<link>": (EntryType.SYMLINK, 0o777, 0, 0, 0, 0, "../a&b", (0, 0), ()),
    "etc/hard": (EntryType.HARDLINK, 0o644, 0, 0, 0, 0, "etc/motd", (0, 0), ()),
    "dev/null": (EntryType.CHAR, 0o666, 0, 0, 0, 0, "", (1, 3), ()),
    "dev/sda": (EntryType.BLOCK, 0o660, 0, 0, 0, 0, "", (8, 0), ()),
    "run/fifo": (EntryType.FIFO, 0o600, 0, 0, 0, 0, "", (0, 0), ()),
}


@pytest.mark.parametrize("step", [1 << 20, 100, 7, 1])
def test_a_real_table_in_chunks(step: int) -> None:
    data = REAL.encode()
    found = parse_toc((data[at : at + step] for at in range(0, len(data), step)), END)
    assert found.entries == FACTS
    assert found.files == [File("etc/motd", 6, MOTD, (Piece(MOTD, 6, 317, 336, False),))]
    assert found.tar_split_digest == bytes.fromhex(
        "f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2"
    )


def test_a_table_that_is_cut_off_anywhere() -> None:
    data = REAL.strip().encode()
    for size in range(len(data)):
        with pytest.raises(MalformedImage):
            parse_toc([data[:size]], END)


def test_a_file_in_pieces() -> None:
    found = parse(reg("before", offset=10, endOffset=90), FIRST, SECOND, THIRD, {**reg("after"),
        "offset": 300, "endOffset": 310})  # fmt: skip
    assert [each.path for each in found.files] == ["before", "f", "after"]
    assert found.files[1] == File("f", 9, raw("f"), PIECES)
    # Only what says so of its inside is in pieces; the archive's order need not be the table's.
    assert found.files[2].pieces == (Piece(raw("after"), 5, 300, 310, False),)


def test_the_last_piece_need_not_say_its_size() -> None:
    last = {key: value for key, value in THIRD.items() if key != "chunkSize"}
    [file] = parse(FIRST, SECOND, last).files
    assert file.pieces == PIECES


def test_a_single_piece_that_says_its_size() -> None:
    assert parse(reg(chunkSize=5)).files == parse(reg()).files
    [zeros] = parse(reg(chunkType="zeros")).files
    assert zeros.pieces == (Piece(raw("f"), 5, 100, 200, True),)


def test_entries_need_not_have_content() -> None:
    assert parse().entries == {}
    assert parse(reg(size=0)).files == []
    assert parse(reg(size=0, digest="nonsense", offset=-1)).files == []
    assert parse({"type": "dir", "name": "d", "size": "ignored"}).files == []


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert parse(reg(more={"a": [1]}), other=[{}], another=1.5) == parse(reg())


@pytest.mark.parametrize("digest", [None, ""])
def test_a_table_without_a_tar_split(digest: str | None) -> None:
    assert parse(tarSplitDigest=digest).tar_split_digest is None
    assert parse_toc([b'{"version":1,"entries":[]}'], END).tar_split_digest is None


def test_two_files_may_have_the_same_content_in_one_place() -> None:
    found = parse(reg("a", digest=sha("x")), reg("b", digest=sha("x")))
    one, other = found.files
    assert one.pieces == other.pieces


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("0001-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.999999999Z", 0),
        ("1969-12-31T23:59:59Z", -1),
        ("1969-12-31T23:59:58.5Z", -2),
        ("2024-01-02T03:04:05+01:00", WHEN - 3600),
        ("2024-01-02T03:04:05.123456789Z", WHEN),
        ("2038-01-19T03:14:08Z", 2**31),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_times_are_seconds_rounded_down(text: str | None, seconds: int) -> None:
    fields = {} if text is None else {"modtime": text}
    for _ in range(2):
        assert parse({"type": "dir", "name": "d", **fields}).entries["d"][5] == seconds


def test_times_are_remembered_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOC_TIMES_KEPT", 2)
    times = [f"2024-01-02T03:04:0{second}Z" for second in range(9)] * 2
    found = parse(*({"type": "dir", "name": str(n), "modtime": t} for n, t in enumerate(times)))
    assert [facts[5] for facts in found.entries.values()] == [WHEN - 5 + n % 9 for n in range(18)]


# -- malformed -------------------------------------------------------------------------------

NUMBERS = {
    "negative": -1,
    "huge": 2**63,
    "true": True,
    "a float": 5.0,
    "an exponent": 1e300,
    "text": "5",
    "null": None,
    "a list": [5],
    "an object": {},
}
NUMBER_FIELDS = {
    "size": lambda value: [reg(size=value)],
    "offset": lambda value: [reg(offset=value)],
    "endOffset": lambda value: [reg(endOffset=value)],
    "chunkSize": lambda value: [FIRST | {"chunkSize": value}, SECOND, THIRD],
    "chunkSize of a chunk": lambda value: [FIRST, SECOND | {"chunkSize": value}, THIRD],
    "chunkOffset": lambda value: [FIRST, SECOND | {"chunkOffset": value}, THIRD],
    "offset of a chunk": lambda value: [FIRST, SECOND, THIRD | {"offset": value}],
    "devMajor": lambda value: [{"type": "char", "name": "c", "devMajor": value}],
    "devMinor": lambda value: [{"type": "block", "name": "c", "devMinor": value}],
}


@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("field", NUMBER_FIELDS)
def test_what_is_no_number(field: str, value: Any) -> None:
    with pytest.raises(MalformedImage, match="where a number should be") as caught:
        parse(*NUMBER_FIELDS[field](value))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("field", ["mode", "uid", "gid"])
@pytest.mark.parametrize("value", [True, 5.0, "5", None, [], {}])
def test_modes_and_owners_are_numbers(field: str, value: Any) -> None:
    with pytest.raises(MalformedImage, match="no numbers for mode or owner of 'f'"):
        parse(reg(**{field: value}))


DIGESTS = {
    "none": None,
    "empty": "",
    "without its algorithm": "0" * 64,
    "another algorithm": "sha512:" + "0" * 128,
    "short": "sha256:" + "0" * 63,
    "long": "sha256:" + "0" * 65,
    "in capitals": "sha256:" + "A" * 64,
    "a path": "sha256:../../../etc/passwd",
    "a line": "sha256:" + "0" * 64 + "\n",
    "a number": 5,
    "a list": ["sha256:" + "0" * 64],
    "very long": "sha256:" + "0" * 100_000,
}
DIGEST_FIELDS = {
    "a file's": lambda value: parse(reg(digest=value)),
    "a file's, in pieces": lambda value: parse(FIRST | {"digest": value}, SECOND, THIRD),
    "the first piece's": lambda value: parse(FIRST | {"chunkDigest": value}, SECOND, THIRD),
    "a piece's": lambda value: parse(FIRST, SECOND | {"chunkDigest": value}, THIRD),
    "the last piece's": lambda value: parse(FIRST, SECOND, THIRD | {"chunkDigest": value}),
    "the tar-split's": lambda value: parse(tarSplitDigest=value if value else "no"),
}


@pytest.mark.parametrize("value", DIGESTS.values(), ids=DIGESTS)
@pytest.mark.parametrize("field", DIGEST_FIELDS)
def test_what_is_no_digest(field: str, value: Any) -> None:
    with pytest.raises(MalformedImage, match="where a digest should be") as caught:
        DIGEST_FIELDS[field](value)
    assert len(str(caught.value)) < 300


XATTRS = {
    "a list": ["a"],
    "text": "a",
    "a number": 5,
    "a value that is no text": {"a": 5},
    "a value that is null": {"a": None},
    "a value that is a list": {"a": []},
    "no base64": {"a": "%%%%"},
    "base64 without its end": {"a": "YQ"},
    "base64 with a line end": {"a": "YQ==\n"},
    "base64 for addresses": {"a": "_-8="},
    "beyond ASCII": {"a": "é"},
    "half a surrogate": {"\ud800": "YQ=="},
}


@pytest.mark.parametrize("value", XATTRS.values(), ids=XATTRS)
def test_what_is_no_xattrs(value: Any) -> None:
    with pytest.raises(MalformedImage, match="xattr"):
        parse(reg(xattrs=value))


ENTRIES: dict[str, tuple[list[Any], str]] = {
    "a number": ([5], "no object"),
    "a list": ([[]], "no object"),
    "null": ([None], "no object"),
    "text": (["reg"], "no object"),
    "empty": ([{}], "without name or type"),
    "no type": ([{"name": "a"}], "without name or type"),
    "no name": ([{"type": "dir"}], "without name or type"),
    "an empty name": ([{"type": "dir", "name": ""}], "without name or type"),
    "a name that is a number": ([{"type": "dir", "name": 5}], "without name or type"),
    "a name that is a list": ([{"type": "dir", "name": ["a"]}], "without name or type"),
    "an unknown type": ([{"type": "socket", "name": "a"}], "without name or type"),
    "a type in capitals": ([{"type": "REG", "name": "a"}], "without name or type"),
    "a type that is a list": ([{"type": ["reg"], "name": "a"}], "without name or type"),
    "a type that is an object": ([{"type": {}, "name": "a"}], "without name or type"),
    "a type that is a number": ([{"type": 1, "name": "a"}], "without name or type"),
    "a time that is a number": ([reg(modtime=5)], "time that is no text"),
    "a time that is true": ([reg(modtime=True)], "time that is no text"),
    "a time that is a list": ([reg(modtime=[])], "time that is no text"),
    "a time that is an object": ([reg(modtime={})], "time that is no text"),
    "a time that is a word": ([reg(modtime="now")], "has the time 'now'"),
    "an empty time": ([reg(modtime="")], "has the time ''"),
    "a time without a zone": ([reg(modtime="2024-01-02T03:04:05")], "has the time"),
    "a date": ([reg(modtime="2024-01-02")], "has the time"),
    "month 13": ([reg(modtime="2024-13-02T03:04:05Z")], "has the time"),
    "year 10000": ([reg(modtime="10000-01-01T00:00:00Z")], "has the time"),
    "a long time": ([reg(modtime="2" * 100_000)], "has the time"),
    "a target that is a number": ([{"type": "symlink", "name": "l", "linkName": 5}], "no text"),
    "a target that is null": ([{"type": "hardlink", "name": "l", "linkName": None}], "no text"),
    "a name twice": ([reg(), reg()], "has 'f' twice"),
    "a name twice, of two types": ([reg(), {"type": "dir", "name": "f"}], "has 'f' twice"),
    "a name twice, without content": ([reg(size=0)] * 2, "has 'f' twice"),
    "a chunk without a file": ([THIRD], "belongs to no file"),
    "a chunk behind a directory": ([{"type": "dir", "name": "f"}, THIRD], "belongs to no file"),
    "a chunk behind an empty file": ([reg(size=0), THIRD], "belongs to no file"),
    "a chunk behind another": (
        [FIRST, SECOND, THIRD, {"type": "dir", "name": "d"}, THIRD],
        "belongs to no file",
    ),
    "a chunk of another file": ([FIRST, chunk("other")], "belongs to no file"),
    "a chunk without a name": ([FIRST, {"type": "chunk"}], "belongs to no file"),
    "a chunk with a list for a name": ([FIRST, chunk() | {"name": ["f"]}], "belongs to no file"),
    "a gap between chunks": ([FIRST, THIRD], "do not follow"),
    "a chunk twice": ([FIRST, SECOND, SECOND | {"offset": 155}, THIRD], "do not follow"),
    "chunks in another order": ([FIRST, THIRD, SECOND], "do not follow"),
    "chunks that overlap": ([FIRST, SECOND | {"chunkOffset": 3}, THIRD], "do not follow"),
    "a first chunk that is not first": ([FIRST | {"chunkOffset": 1}, SECOND], "do not follow"),
    "an empty chunk": (
        [FIRST, SECOND, THIRD | {"chunkSize": 0}, THIRD | {"offset": 200}],
        "do not follow",
    ),
    "a chunk too few": ([FIRST, SECOND], "not all of it"),
    "a chunk too many": (
        [FIRST, SECOND, THIRD, THIRD | {"chunkOffset": 9, "offset": 200}],
        "not all of it",
    ),
    "a last one without a size, too many": (
        [FIRST, SECOND, THIRD, chunk(offset=200, chunkOffset=9)],
        "do not follow",
    ),
    "one chunk that is not all of it": ([reg(chunkSize=4)], "not all of it"),
    "one chunk that is more": ([reg(chunkSize=6)], "not all of it"),
    "a larger file": ([FIRST | {"size": 10}, SECOND, THIRD], "not all of it"),
    "an unknown kind of chunk": ([FIRST, SECOND | {"chunkType": "holes"}, THIRD], "unknown kind"),
    "a kind that is a number": ([reg(chunkType=0)], "unknown kind"),
    "a kind that is a list": ([reg(chunkType=[])], "unknown kind"),
    "content that ends before it begins": ([reg(endOffset=99)], "outside of the blob"),
    "content of no bytes": ([reg(endOffset=100)], "outside of the blob"),
    "content beyond the blob": ([reg(endOffset=END + 1)], "outside of the blob"),
    "content far beyond it": ([reg(offset=2**61, endOffset=2**62)], "outside of the blob"),
    "a piece that ends before it begins": (
        [FIRST, SECOND | {"offset": 170}, THIRD],
        "outside of the blob",
    ),
    "a piece of no bytes": ([FIRST, SECOND | {"offset": 160}, THIRD], "outside of the blob"),
    "a last piece beyond the blob": (
        [FIRST | {"endOffset": END + 1}, SECOND, THIRD],
        "outside of the blob",
    ),
    "a last piece beyond its file's end": (
        [FIRST | {"endOffset": 155}, SECOND, THIRD],
        "outside of the blob",
    ),
    "no offset": ([{key: reg()[key] for key in reg() if key != "offset"}], "a number"),
    "no end": ([{key: reg()[key] for key in reg() if key != "endOffset"}], "a number"),
    "two contents in one place": ([reg("a"), reg("b")], "two contents in one place"),
    "two that overlap": ([reg("a"), reg("b", offset=199, endOffset=300)], "two contents"),
    "one in another": ([reg("a", offset=120, endOffset=130), reg("b")], "two contents"),
    "one that begins with another": (
        [reg("a", digest=sha("x")), reg("b", digest=sha("x"), endOffset=150)],
        "two contents",
    ),
    "a piece in another file's content": (
        [FIRST, SECOND, THIRD, reg("b", offset=155, endOffset=158)],
        "two contents",
    ),
}


@pytest.mark.parametrize(("entries", "words"), ENTRIES.values(), ids=ENTRIES)
def test_entries_that_make_no_sense(entries: list[Any], words: str) -> None:
    with pytest.raises(MalformedImage, match=words) as caught:
        parse(*entries)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("version", [0, 2, True, "1", None, 1.5, [1], {}, "x" * 5000])
def test_another_version(version: Any) -> None:
    with pytest.raises(MalformedImage, match="of version") as caught:
        parse(version=version)
    assert len(str(caught.value)) < 200


def test_no_version() -> None:
    with pytest.raises(MalformedImage, match="of version None"):
        parse_toc([b'{"entries":[]}'], END)


DOCUMENTS = {
    "nothing": b"",
    "no JSON": b"\x28\xb5\x2f\xfd",
    "a list": b"[]",
    "entries that are an object": b'{"version":1,"entries":{}}',
    "entries that are null": b'{"version":1,"entries":null}',
    "not a number": b'{"version":1,"entries":[{"type":"reg","name":"f","size":NaN}]}',
    "infinity": b'{"version":1,"entries":[{"type":"reg","name":"f","size":Infinity}]}',
    "a number of 5000 digits": b'{"version":1,"entries":[{"type":"dir","name":"d","uid":%s}]}'
    % (b"9" * 5000),
    "deep": b'{"version":1,"entries":[%s1%s]}' % (b'{"a":' * 50_000, b"}" * 50_000),
    "something behind it": b'{"version":1,"entries":[]}{}',
}


@pytest.mark.parametrize("data", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_that_are_none(data: bytes) -> None:
    with pytest.raises(MalformedImage) as caught:
        parse_toc([data], END)
    assert len(str(caught.value)) < 300


# -- limits ----------------------------------------------------------------------------------


def test_what_is_held_is_counted() -> None:
    entries = [FIRST, SECOND, THIRD, {"type": "dir", "name": "d", "xattrs": {"a": "", "b": ""}}]
    data = [json.dumps({"version": 1, "entries": entries}).encode()]
    assert parse_toc(data, END, 6).held == 6
    with pytest.raises(MalformedImage, match="more entries than the 5"):
        parse_toc(data, END, 5)


# -- any chunking ----------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=6))
    entries: list[dict[str, Any]] = []
    at = 1
    for name in names:
        sizes = draw(st.lists(st.integers(1, 9), max_size=3))
        entry: dict[str, Any] = {"type": "reg", "name": name, "mode": draw(st.integers(0, 4095))}
        entries.append(entry)
        if not sizes:
            continue
        entry |= {"size": sum(sizes), "digest": sha(name)}
        position = 0
        for size in sizes:
            if len(sizes) > 1:
                if position:
                    entries.append({"type": "chunk", "name": name})
                kind = draw(st.sampled_from(["", "zeros"]))
                entries[-1] |= {"chunkSize": size, "chunkOffset": position, "chunkType": kind}
                entries[-1]["chunkDigest"] = sha(f"{name} {position}")
            entries[-1]["offset"] = at
            at += draw(st.integers(1, 9))
            position += size
        entry["endOffset"] = at
        at += draw(st.integers(0, 9))
    return {"entries": entries, "version": 1}


@settings(max_examples=100)
@given(tables(), st.integers(1, 60))
def test_in_whatever_chunks_it_comes_it_is_the_same(table: dict[str, Any], step: int) -> None:
    data = json.dumps(table, ensure_ascii=step % 2 == 0).encode("utf-8", "surrogatepass")
    found = parse_toc((data[at : at + step] for at in range(0, len(data), step)), END)
    assert found == parse_toc([data], END)
    assert len(found.entries) == sum(each["type"] == "reg" for each in table["entries"])
    for file in found.files:
        mine = [each for each in table["entries"] if each["name"] == file.path]
        assert [each.start for each in file.pieces] == [each["offset"] for each in mine]
        assert file.pieces[-1].end == mine[0]["endOffset"]
        assert sum(each.size for each in file.pieces) == file.size == mine[0]["size"]


# -- holding a tar stream to it --------------------------------------------------------------

ENTRY = Entry("f", EntryType.FILE, 0o644, 1, 2, 5, WHEN, "", ((b"a", b"b"),), (0, 0))
OTHERS = (
    Entry("d/", EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, "", (), (0, 0)),
    Entry("l", EntryType.SYMLINK, 0o777, 0, 0, 0, 0, "f", (), (0, 0)),
    Entry("c", EntryType.CHAR, 0o666, 0, 0, 0, 0, "", (), (1, 3)),
)
TABLE = (
    reg(mode=0o644, uid=1, gid=2, modtime="2024-01-02T03:04:05Z", xattrs={"a": "Yg=="}),
    {"type": "dir", "name": "d/", "mode": 0o755},
    {"type": "symlink", "name": "l", "mode": 0o777, "linkName": "f"},
    {"type": "char", "name": "c", "mode": 0o666, "devMajor": 1, "devMinor": 3},
)


def check(*entries: Entry) -> None:
    table = parse(*TABLE).entries
    take = checker(table)
    for entry in entries:
        take(entry)
    take(None)


def orders() -> Iterator[tuple[Entry, ...]]:
    yield (ENTRY, *OTHERS)
    yield (*OTHERS, ENTRY)
    yield (ENTRY, *OTHERS)[::-1]


@pytest.mark.parametrize("entries", list(orders()))
def test_the_same_in_any_order(entries: tuple[Entry, ...]) -> None:
    check(*entries)


FIELDS: dict[str, tuple[Entry, str]] = {
    "type": (ENTRY._replace(type=EntryType.FIFO), "type of 'f'"),
    "a file for a hard link": (ENTRY._replace(type=EntryType.HARDLINK), "type of 'f'"),
    "mode": (ENTRY._replace(mode=0o645), "mode of 'f'"),
    "setuid": (ENTRY._replace(mode=0o4644), "mode of 'f'"),
    "owner": (ENTRY._replace(uid=0), "owner of 'f'"),
    "group": (ENTRY._replace(gid=0), "group of 'f'"),
    "size": (ENTRY._replace(size=6), "size of 'f'"),
    "no content": (ENTRY._replace(size=0), "size of 'f'"),
    "time": (ENTRY._replace(mtime=WHEN + 1), "time of 'f'"),
    "target": (OTHERS[1]._replace(target="g"), "target of 'l'"),
    "device's major": (OTHERS[2]._replace(device=(2, 3)), "device of 'c'"),
    "device's minor": (OTHERS[2]._replace(device=(1, 2)), "device of 'c'"),
    "no xattrs": (ENTRY._replace(xattrs=()), "xattrs of 'f'"),
    "another value": (ENTRY._replace(xattrs=((b"a", b"c"),)), "xattrs of 'f'"),
    "another name": (ENTRY._replace(xattrs=((b"b", b"b"),)), "xattrs of 'f'"),
    "one xattr more": (ENTRY._replace(xattrs=((b"a", b"b"), (b"b", b""))), "xattrs of 'f'"),
}


@pytest.mark.parametrize(("entry", "words"), FIELDS.values(), ids=FIELDS)
def test_each_field_is_compared(entry: Entry, words: str) -> None:
    entries = [entry if each.path == entry.path else each for each in (ENTRY, *OTHERS)]
    with pytest.raises(MalformedImage, match=f"disagree on the {words}"):
        check(*entries)


def test_an_entry_that_the_table_lacks() -> None:
    with pytest.raises(MalformedImage, match="has 'g', its table of contents has it less often"):
        check(ENTRY, *OTHERS, ENTRY._replace(path="g"))


def test_an_entry_that_is_there_twice() -> None:
    with pytest.raises(MalformedImage, match="has 'f', its table of contents has it less often"):
        check(ENTRY, *OTHERS, ENTRY)


def test_an_entry_that_only_the_table_has() -> None:
    with pytest.raises(MalformedImage, match="has 'f', its tar stream has not"):
        check(*OTHERS)


@pytest.mark.parametrize("path", ["./f", "/f", "f/", "F", "f\u0301"])
def test_names_are_the_same_to_the_letter(path: str) -> None:
    with pytest.raises(MalformedImage, match="less often"):
        check(ENTRY._replace(path=path), *OTHERS)


def test_a_table_can_be_gone_by_twice() -> None:
    table = parse(*TABLE).entries
    for _ in range(2):
        take = checker(table)
        for entry in (ENTRY, *OTHERS, None):
            take(entry)
