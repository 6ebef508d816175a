"""tar-split: lines as its one writer makes them, and whatever else they may be."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.tar_split import Content, TarSplitWriter, read_tar_split

Part = bytes | Content

# Four lines of a layer that skopeo 1.22 packed; the first header is cut short.
REAL = (
    b'{"type":2,"payload":"ZXRjLwAAAA==","position":0}\n'
    b'{"type":1,"name":"etc/","payload":null,"position":1}\n'
    b'{"type":2,"payload":"ZXRjL21vdGQA","position":2}\n'
    b'{"type":1,"name":"etc/motd","size":6,"payload":"u/bCuuStsvY=","position":3}\n'
    b'{"type":2,"payload":"AAAA","position":4}\n'
)


def chunks(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))


def read(data: bytes, step: int = 1 << 20) -> list[Part]:
    return list(read_tar_split(chunks(data, step)))


@pytest.mark.parametrize("step", [1 << 20, 50, 7, 1])
def test_lines_of_a_real_one(step: int) -> None:
    assert read(REAL, step) == [b"etc/\0\0\0etc/motd\0", Content("etc/motd", 6), b"\0\0\0"]
    assert read(REAL.rstrip(b"\n"), step) == read(REAL)


def test_lines_as_they_are_written() -> None:
    writer = TarSplitWriter()
    lines = [
        writer.segment(b"etc/\0\0\0"),
        writer.file(b"etc/", 0, None),
        writer.segment(b"etc/motd\0"),
        writer.file(b"etc/motd", 6, int.from_bytes(base64.b64decode("u/bCuuStsvY="), "big")),
        writer.segment(bytes(3)),
    ]
    assert b"".join(lines) == REAL


NAMES = {
    b"": '{"type":1,"size":1',
    b'a"b': r'{"type":1,"name":"a\"b","size":1',
    b"a\\b": r'{"type":1,"name":"a\\b","size":1',
    b"a\nb\tc\x01": r'{"type":1,"name":"a\nb\tc\u0001","size":1',
    b"<a>&b": r'{"type":1,"name":"\u003ca\u003e\u0026b","size":1',
    "é€😀".encode(): '{"type":1,"name":"é€😀","size":1',
    "a\u2028b\u2029".encode(): r'{"type":1,"name":"a\u2028b\u2029","size":1',
    b"\x7f": '{"type":1,"name":"\x7f","size":1',
    b"a\xff": '{"type":1,"name_raw":"Yf8=","size":1',
    b"\xed\xa0\x80": '{"type":1,"name_raw":"7aCA","size":1',
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_written_as_gos_json_has_them(name: bytes) -> None:
    line = TarSplitWriter().file(name, 1, 0)
    assert line.decode() == f'{NAMES[name]},"payload":"AAAAAAAAAAA=","position":0}}\n'
    if name:
        assert read(line) == [Content(name.decode("utf-8", "surrogateescape"), 1)]


PARTS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(
            st.one_of(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(
                    str.encode
                ),
                st.binary(min_size=1, max_size=8),
                st.sampled_from([b'"', b"\\", b"<>&", b'","size":7,"', b"\n"]),
            ),
            st.integers(0, 2**34),
            st.one_of(st.none(), st.integers(0, 2**64 - 1)),
        ),
    ),
    max_size=8,
)


@settings(max_examples=200)
@given(PARTS, st.integers(1, 50))
@example([b"a", (b"n", 0, None), b"b"], 10)
def test_what_is_written_is_read_wherever_chunks_end(
    parts: list[bytes | tuple[bytes, int, int | None]], step: int
) -> None:
    writer = TarSplitWriter()
    data = b""
    expected: list[Part] = []
    for part in parts:
        if isinstance(part, bytes):
            data += writer.segment(part)
            if expected and isinstance(expected[-1], bytes):
                expected[-1] += part
            else:
                expected.append(part)
            continue
        name, size, crc = part
        data += writer.file(name, size, crc)
        if size:
            expected.append(Content(name.decode("utf-8", "surrogateescape"), size))
    assert [each for each in read(data, step) if each] == [each for each in expected if each]
    # Each line is the JSON that another reader of the format expects.
    for position, line in enumerate(data.split(b"\n")[:-1]):
        assert json.loads(line)["position"] == position


def lines(*entries: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in entries)


def segment(position: int, data: bytes = b"a", **fields: Any) -> dict[str, Any]:
    payload = base64.b64encode(data).decode()
    return {"type": 2, "payload": payload, "position": position} | fields


def content(position: int, name: str = "f", size: int = 5, **fields: Any) -> dict[str, Any]:
    made = {"type": 1, "name": name, "size": size, "payload": "AAAAAAAAAAA=", "position": position}
    return made | fields


def test_lines_in_another_form() -> None:
    """With white space, and in another order of members."""
    assert read(lines(segment(0), content(1), segment(2))) == [b"a", Content("f", 5), b"a"]
    assert read(b'{"position":0,"payload":"YQ==","type":2}\n') == [b"a"]
    assert read(b'{"type":2,"payload":"YQ==","more":[1]}\n') == [b"a"]  # Go leaves out no zeros
    assert read(lines(content(0, name_raw="////"))) == [Content("f", 5)]
    raw = {"type": 1, "name_raw": "Yf8=", "size": 5, "position": 0}
    assert read(lines(raw)) == [Content("a\udcff", 5)]


def test_contents_of_nothing_are_nothing() -> None:
    assert read(lines(content(0, size=0), segment(1), content(2, size=0))) == [b"a"]
    assert read(b"") == []
    assert read(lines(segment(0, b""))) in ([], [b""])


def test_segments_that_follow_one_another_come_in_one_part() -> None:
    assert read(lines(*(segment(each, b"%d" % each) for each in range(10)))) == [b"0123456789"]


WRONG = {
    "no line": b"\n",
    "an empty line between": lines(segment(0)) + b"\n" + lines(segment(1)),
    "no JSON": b"tar\n",
    "a tar stream": bytes(512),
    "a list": b"[]\n",
    "a number": b"2\n",
    "null": b"null\n",
    "two on one line": lines(segment(0)).rstrip() + lines(segment(1)),
    "not UTF-8": b'{"type":1,"name":"\xff","size":5,"payload":null,"position":0}\n',
    "not UTF-8, elsewhere": b'{"type":1,"name":"\xff", "size":5,"payload":null,"position":0}\n',
    "deep": b"[" * 100_000 + b"\n",
    "position 1 first": lines(segment(1)),
    "a position twice": lines(segment(0), segment(0)),
    "a position left out": lines(segment(0), segment(2)),
    "positions backwards": lines(segment(1), segment(0)),
    "no position, but the first": lines(segment(0), {"type": 2, "payload": "YQ=="}),
    "a negative position": lines(segment(-1)),
    "a position that is text": lines(segment(0) | {"position": "0"}),
    "a position that is null": lines(segment(0) | {"position": None}),
    "a position of 5000 digits": b'{"type":2,"payload":"YQ==","position":' + b"0" * 5000 + b"1}\n",
    "type 0": lines(segment(0, type=0)),
    "type 3": lines(segment(0, type=3)),
    "no type": lines({"payload": "YQ==", "position": 0}),
    "a type that is text": lines(segment(0, type="2")),
    "a type that is a list": lines(segment(0, type=[2])),
    "no payload": lines({"type": 2, "position": 0}),
    "a payload that is a number": lines(segment(0, payload=5)),
    "a payload that is a list": lines(segment(0, payload=["YQ=="])),
    "a payload that is no base64": b'{"type":2,"payload":"%%%%","position":0}\n',
    "base64 cut off": b'{"type":2,"payload":"YQ=","position":0}\n',
    "base64 without its end": b'{"type":2,"payload":"YQ","position":0}\n',
    "base64 with something behind it": b'{"type":2,"payload":"YQ==YQ==","position":0}\n',
    "base64 with an end only": b'{"type":2,"payload":"====","position":0}\n',
    "base64 for addresses": b'{"type":2,"payload":"_-8=","position":0}\n',
    "base64 with a space": b'{"type":2,"payload":"YQ= =","position":0}\n',
    "a negative size": lines(content(0, size=-1)),
    "a size that is a float": lines(content(0, size=5.0)),
    "a size that is true": lines(content(0, size=True)),
    "a size that is text": lines(content(0, size="5")),
    "a size that is null": lines(content(0, size=None)),
    "a size that is too large": lines(content(0, size=limits.CONTENT_MAX + 1)),
    "a size that is too large, as it is written": TarSplitWriter().file(b"f", 2**60, 0),
    "a size of 5000 digits": b'{"type":1,"name":"f","size":%s,"payload":null,"position":0}\n'
    % (b"9" * 5000),
    "a size that is NaN": b'{"type":1,"name":"f","size":NaN,"payload":null,"position":0}\n',
    "no name": lines({"type": 1, "size": 5, "position": 0}),
    "a name that is a number": lines(content(0) | {"name": 5}),
    "a name that is a list": lines(content(0) | {"name": []}),
    "a raw name that is no base64": lines({"type": 1, "name_raw": "%", "size": 5, "position": 0}),
    "a raw name that is a number": lines({"type": 1, "name_raw": 5, "size": 5, "position": 0}),
    "a line that is too long": segment(0)["payload"].encode() * limits.TAR_SPLIT_LINE_MAX,
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("step", [1 << 16, 11])
def test_what_is_no_tar_split(data: bytes, step: int) -> None:
    with pytest.raises(MalformedImage) as caught:
        read(data, step if len(data) < 200_000 else 1 << 16)
    assert "tar-split" in str(caught.value)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


def test_lines_that_are_cut_off_are_none() -> None:
    ends = {at + 1 for at, byte in enumerate(REAL) if byte == ord("\n")}
    for size in range(1, len(REAL)):
        if size in ends or size + 1 in ends:
            assert read(REAL[:size])
            continue
        with pytest.raises(MalformedImage):
            read(REAL[:size])


def test_no_more_than_a_line_is_held() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b'{"type":2,"payload":"'
        while True:
            taken += 1
            yield b"A" * limits.BLOB_BUFFER

    with pytest.raises(MalformedImage, match="too long"):
        list(read_tar_split(endless()))
    assert taken * limits.BLOB_BUFFER <= limits.TAR_SPLIT_LINE_MAX + 2 * limits.BLOB_BUFFER


def test_parts_are_bounded() -> None:
    writer = TarSplitWriter()
    noise = random.Random(1).randbytes(limits.MIB)
    count = 9
    data = (writer.segment(noise) for _ in range(count))
    sizes = [len(each) for each in read_tar_split(data)]
    assert sum(sizes) == count * len(noise)
    assert max(sizes) <= limits.TAR_SPLIT_LINE_MAX + len(noise)
