"""YAML and timestamps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sysroot import block_yaml, timestamp


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null\n"),
        ({}, "{}\n"),
        ([], "[]\n"),
        ({"a": [], "b": {}, "c": [1, True, None]}, "a: []\nb: {}\nc:\n- 1\n- true\n- null\n"),
        ([[1, 2], {"a": {"b": 1}, "c": 2}], "- - 1\n  - 2\n- a:\n    b: 1\n  c: 2\n"),
        ("yes", '"yes"\n'),
        ("", '""\n'),
        ("quay.io/a/b:t", "quay.io/a/b:t\n"),
        ("a: b", '"a: b"\n'),
        ("a:", '"a:"\n'),
        ("12:30", '"12:30"\n'),
        ("1e3", '"1e3"\n'),
        ("~", '"~"\n'),
        ("two words", '"two words"\n'),
        ("line\nline", '"line\\x0aline"\n'),
        ('say "\\"', '"say \\"\\\\\\""\n'),
        ("é\u2028\U00010000\U000e0001", '"é\\u2028\U00010000\\U000e0001"\n'),
    ],
)
def test_yaml(value: Any, text: str) -> None:
    assert block_yaml.render(value) == text


def test_yaml_of_what_it_cannot_write() -> None:
    with pytest.raises(TypeError, match="no YAML for float"):
        block_yaml.render({"a": 1.5})


TEXTS = st.text(st.characters(blacklist_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda below: (
        st.lists(below) | st.dictionaries(TEXTS.filter(lambda text: len(text) < 80), below)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_yaml_reads_back(value: Any) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(block_yaml.render(value)) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-10-14T19:22:15Z", "2023-10-14T19:22:15Z"),
        ("2023-10-14t19:22:15.42z", "2023-10-14T19:22:15.420Z"),
        ("2023-10-14T19:22:15.123456789Z", "2023-10-14T19:22:15.123456789Z"),
        ("2023-10-14T19:22:15.0000001Z", "2023-10-14T19:22:15.000000100Z"),
        ("2023-10-14T19:22:15.000Z", "2023-10-14T19:22:15Z"),
        ("2024-01-01T00:30:00+02:00", "2023-12-31T22:30:00Z"),
        ("2024-01-01T00:30:00-02:30", "2024-01-01T03:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+01:00", None),
        ("2023-02-30T00:00:00Z", None),
        ("2023-10-14T19:22:60Z", "2023-10-14T19:22:59Z"),
        ("2023-10-14T19:22:61Z", None),
        ("2023-10-14T19:22:15+24:00", None),
        ("2023-10-14T19:22:15+01:60", None),
        ("٢٠٢٣-10-14T19:22:15Z", None),
        ("2023-10-14T19:22:15", None),
        ("2023-10-14", None),
        ("", None),
    ],
)
def test_timestamps(text: str, expected: str | None) -> None:
    assert timestamp.normalise(text) == expected


def test_timestamps_for_people() -> None:
    assert timestamp.without_fraction("2023-10-14T19:22:15.420Z") == "2023-10-14T19:22:15Z"
    assert timestamp.without_fraction("2023-10-14T19:22:15Z") == "2023-10-14T19:22:15Z"


@given(st.text())
def test_timestamps_never_fail(text: str) -> None:
    timestamp.normalise(text)
