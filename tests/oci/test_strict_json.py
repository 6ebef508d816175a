"""JSON and nothing else: what Python's own reader takes beyond it, or gives to trip over."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.errors import MalformedImage
from bridge.oci import strict_json
from bridge.oci.model import parse_config, parse_document


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "Expecting value"),
        (b"NaN", "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b"\xff", "utf-8"),
        ('["a"]'.encode("utf-16"), "utf-8"),
        (rb'"\ud800"', "surrogates"),
        (rb'{"\udc00\ud800": 1}', "surrogates"),
        (b"9" * 5000, "digits"),
        (b"[" * 101 + b"]" * 101, "nested too deep"),
        (b"[" * 990 + b"]" * 990, "nested too deep"),
        (b'{"a":' * 200_000 + b"1", "nested too deep"),
    ],
)
def test_what_is_no_json_of_ours(raw: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        strict_json.parse(raw)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
)  # fmt: skip


@given(_VALUES, st.booleans())
def test_everything_else_is_read(value: object, ascii_only: bool) -> None:
    assert strict_json.parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
    assert strict_json.parse(rb'"\ud83d\ude00"') == "\U0001f600"


def test_the_deepest_that_is_taken() -> None:
    depth = limits.JSON_DEPTH_MAX
    assert strict_json.parse(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize("depth", [101, 500, *range(900, 1000)])
def test_a_deep_value_in_an_images_document_is_an_error_in_one_line(depth: int) -> None:
    """From about 950 on Python reads it, and fails to print it."""
    deep = "[" * depth + "]" * depth
    for raw in (f'{{"schemaVersion": {deep}}}', f'{{"schemaVersion": 2, "mediaType": {deep}}}'):
        with pytest.raises(MalformedImage, match="nested too deep"):
            parse_document(raw.encode())
    with pytest.raises(MalformedImage, match="nested too deep"):
        parse_config(f'{{"rootfs": {{"type": {deep}}}}}'.encode())
