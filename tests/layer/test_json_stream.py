"""A large JSON object, read in chunks: as `json` reads it, wherever the chunks end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.json_stream import Scanner

NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([-0.0, 1e300])
)
TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(['},{"', '"},{"', "[{", "\\", '\\"', "é€😀"])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=4).flatmap(
    lambda rest: st.lists(VALUES, max_size=6).map(lambda entries: {**rest, "entries": entries})
)


def chunks(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))


def read(data: bytes, step: int = 1 << 20) -> dict[str, Any]:
    scanner = Scanner(chunks(data, step))
    found: dict[str, Any] = {}
    for key in scanner.members():
        if key == "entries":
            found[key] = list(scanner.elements())
        else:
            found[key] = scanner.value()
    scanner.finish()
    return found


@settings(max_examples=150)
@given(DOCUMENTS, st.sampled_from([None, 1, "\t"]), st.booleans(), st.integers(1, 40))
@example({"entries": [{"a": '},{"'}, {"b": 1}]}, None, True, 1000)
@example({"entries": [{"a": [{"b": 1}, {"c": 2}]}, {"d": 3}]}, None, True, 1000)
@example({"entries": [1.5, -2e-7, 10, 0.25]}, None, True, 1)
def test_it_reads_as_json_does_wherever_chunks_end(
    document: dict[str, Any], indent: Any, ascii_only: bool, step: int
) -> None:
    separators = (",", ":") if indent is None else None
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=separators)
    data = text.encode("utf-8", "surrogatepass")
    assert json.dumps(read(data, step)) == json.dumps(document)
    assert json.dumps(read(data)) == json.dumps(document)


@pytest.mark.parametrize(
    "text",
    ["1e5", "1.25", "-3", "1.5e-7", "2E+3", "12345678901234567890", "true", "null", '"é😀"', "[]"],
)
def test_a_value_may_be_cut_off_anywhere(text: str) -> None:
    for data in (f'{{"a":{text}}}', f'{{"a": {text} , "entries":[{text},{text}]}}'):
        for step in range(1, 12):
            assert read(data.encode(), step) == json.loads(data)


def test_empty_chunks_are_passed_over() -> None:
    parts = [b""] * 5000 + [b'{"a"'] + [b""] * 5000 + [b":1}"]
    scanner = Scanner(parts)
    assert [(key, scanner.value()) for key in scanner.members()] == [("a", 1)]
    scanner.finish()


WRONG = {
    "nothing": b"",
    "white space": b" \n",
    "a list": b"[]",
    "a number": b"1",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-8 that is cut off": b'{"a":1}\xe2\x82',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "two objects": b'{"a":1}{"a":1}',
    "text behind it": b'{"a":1}x',
    "a NUL behind it": b'{"a":1}\0',
    "no colon": b'{"a" 1}',
    "no comma": b'{"a":1 "b":2}',
    "a comma too many": b'{"a":1,}',
    "a comma too many in the list": b'{"entries":[1,]}',
    "no comma in the list": b'{"entries":[1 2]}',
    "a key that is a number": b"{1:2}",
    "a key that is a list": b'{["a"]:2}',
    "single quotes": b"{'a':1}",
    "a comment": b'{/**/"a":1}',
    "NaN": b'{"a":NaN}',
    "NaN in the list": b'{"entries":[{"a":NaN},{"b":1}]}',
    "infinity": b'{"a":Infinity}',
    "minus infinity": b'{"entries":[-Infinity]}',
    "a number with a zero first": b'{"a":01}',
    "a number with a plus": b'{"a":+1}',
    "a number that ends with a point": b'{"a":1.}',
    "a number that ends with an exponent": b'{"a":1e}',
    "a hexadecimal number": b'{"a":0x10}',
    "a number with too many digits": b'{"a":' + b"9" * 5000 + b"}",
    "a control character in a string": b'{"a":"\n"}',
    "an unknown escape": rb'{"a":"\x41"}',
    "deep": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects in the list": b'{"entries":['
    + b'{"a":' * 100_000
    + b"1"
    + b"}" * 100_000
    + b"]}",
    "a list that is none": b'{"entries":{}}',
    "a list that is null": b'{"entries":null}',
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("step", [1 << 20, 7])
def test_what_is_no_such_object_is_refused(data: bytes, step: int) -> None:
    if step == 7 and len(data) > 10_000:
        step = 50_000
    with pytest.raises(MalformedImage) as caught:
        read(data, step)
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


def test_an_object_that_is_cut_off_anywhere_is_refused() -> None:
    data = b'{"version": 1, "entries": [{"a": "b"}, 2.5, null], "c": [{"d": [true]}]} '
    assert read(data)
    for size in range(len(data) - 1):
        for step in (1, 1000):
            with pytest.raises(MalformedImage):
                read(data[:size], step)


@pytest.mark.parametrize("value", [b'"%s"', b"[%s1]", b"%s", b"1.%s"])
def test_no_more_than_one_value_of_bounded_size_is_held(value: bytes) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b'{"entries":[' + value.partition(b"%s")[0]
        filler = b"1" if value[:1] == b'"' else b"[" if value[:1] == b"[" else b"0"
        while True:
            taken += 1
            yield filler * limits.BLOB_BUFFER

    with pytest.raises(MalformedImage):
        for _key in (scanner := Scanner(endless())).members():
            list(scanner.elements())
            scanner.finish()
    assert taken * limits.BLOB_BUFFER <= limits.TOC_VALUE_MAX + 2 * limits.BLOB_BUFFER


@pytest.mark.parametrize("step", [1 << 22, limits.BLOB_BUFFER, 100_003])
@pytest.mark.parametrize("before", [b"", b'{"name":"a"},{"name":"b"},'])
def test_the_size_of_a_value_is_bounded_however_the_text_is_cut(before: bytes, step: int) -> None:
    for size, is_read in ((limits.TOC_VALUE_MAX, True), (limits.TOC_VALUE_MAX + 1, False)):
        value = b'{"name":"%s"}' % (b"n" * (size - len(b'{"name":""}')))
        data = b'{"entries":[%s%s,{"name":"c"},{"name":"d"}]}' % (before, value)
        if is_read:
            assert read(data, step) == json.loads(data)
        else:
            with pytest.raises(MalformedImage, match=r"a value of more than|is no JSON"):
                read(data, step)


@pytest.mark.parametrize(
    "last", [b'{"name":"},{"}', b'{"name":[{"a":1},{"b":2}]}', b'{"name":01},{"name":2}']
)
def test_entries_that_cannot_be_read_several_at_once_cost_no_more_for_it(last: bytes) -> None:
    """Each would be read as often as there are others before it in the chunk."""
    entries = b",".join([b'{"name":"a"}'] * 20_000 + [last])
    scanner = Scanner([b'{"entries":[' + entries + b"]}"])
    tries = 0

    def decode(text: str) -> Any:
        nonlocal tries
        tries += 1
        return json.loads(text)

    scanner._decoder.decode = decode  # type: ignore[method-assign]
    names = iter(scanner.members())
    assert next(names) == "entries"
    if b"01" in last:
        with pytest.raises(MalformedImage):
            list(scanner.elements())
    else:
        assert len(list(scanner.elements())) == 20_001
    assert tries <= 1
