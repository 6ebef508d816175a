"""YAML with the lines of its nodes: what is read, what is refused, what is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import limits
from bridge.sync.config.document import Malformed, Node, parse


def plain(node: Node) -> object:
    if node.entries is not None:
        return {key: plain(value) for key, value in node.entries.items()}
    if node.items is not None:
        return [plain(item) for item in node.items]
    return node.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("# nothing\n", None),
        ("a: 1\n", {"a": "1"}),
        ("a: 3.10\nb: no\nc: 012\nd: 12:30\n", {"a": "3.10", "b": "no", "c": "012", "d": "12:30"}),
        ("a: ~\nb:\nc: null\nd: ''\n", {"a": None, "b": None, "c": None, "d": ""}),
        ("- a\n- [b, {c: d}]\n", ["a", ["b", {"c": "d"}]]),
        ("a: !!str 1\nb: !!null ''\nc: ! x\n", {"a": "1", "b": None, "c": "x"}),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", {"a": "x\ny\n", "b": "x y"}),
        ("a: &x [1]\nb: *x\n", {"a": ["1"], "b": ["1"]}),
        (
            "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n",
            {"a": {"p": "1", "q": "2"}, "b": {"q": "3", "p": "1"}},
        ),
        (
            "a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}\n",
            {"a": {"p": "1"}, "b": {"p": "2", "q": "2"}, "c": {"p": "1", "q": "2"}},
        ),
        ("a: {'<<': 1}\n", {"a": {"<<": "1"}}),
        ("\ufeffa: 1\n", {"a": "1"}),
        ("--- # one\na: 1\n...\n", {"a": "1"}),
        ("? a\n: 1\n", {"a": "1"}),
    ],
)
def test_a_document_is_read(text: str, expected: object) -> None:
    assert plain(parse(text.encode())) == expected


def test_nodes_know_their_lines_and_whether_they_are_quoted() -> None:
    root = parse(b"a:\n  - x\n  - 'true'\n\nb: {c: true}\n")
    assert root.entries is not None and root.lines == {"a": 1, "b": 5}
    items = root.entries["a"].items
    assert items is not None
    assert [(each.line, each.quoted) for each in items] == [(2, False), (3, True)]
    inner = root.entries["b"].entries
    assert inner is not None and (inner["c"].line, inner["c"].quoted) == (5, False)


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"a: 1\nb: [", 2, "not YAML"),
        (b"a: 1\n b: 2\n", 2, "not YAML"),
        (b"a: 1\n\tb: 2\n", 2, "not YAML"),
        (b"a: 'x\n", 1, "not YAML"),
        (b'a: "\\q"\n', 1, "not YAML"),
        (b"a: 1\na: 2\n", 2, "the key 'a' again, which is in line 1 already"),
        (b"x:\n  a: 1\n  b: 2\n  'a': 2\n", 4, "the key 'a' again, which is in line 2 already"),
        (b"a: 1\n---\nb: 2\n", 2, "a second document"),
        (b"a: *x\n", 1, "no such anchor before it: 'x'"),
        (b"a: &x [*x]\n", 1, "no such anchor before it: 'x'"),
        (b"a: 1\nb: !!python/object:os.system {}\n", 2, "a tag that means nothing here"),
        (b"a: !!binary aGk=\n", 1, "a tag that means nothing here"),
        (b"a: !secret x\n", 1, "a tag that means nothing here"),
        (b"a: !!set {x}\n", 1, "a tag that means nothing here"),
        (b"[a, b]: 1\n", 1, "a key that is a list"),
        (b"~: 1\n", 1, "a key that is empty"),
        (b"{a: 1}: 1\n", 1, "a key that is a mapping"),
        (b"a: {<<: 1}\n", 1, "what << brings in is no mapping"),
        (b"a: {<<: [1]}\n", 1, "what << brings in is no mapping"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a: 1\nb: \x00\n", 2, "not YAML"),
        (b"a: 1\nb: \x1b\n", 2, "not YAML"),
        (b"a: " + b"[" * 30 + b"]" * 30, 1, "lists and mappings in one another"),
        (b"a: " + b"[" * 100_000, 1, ""),
        (b"%YAML 3.0\n---\na: 1\n", 1, "not YAML"),
        (b"@a: 1\n", 1, "not YAML"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_document_is_told_with_its_line(content: bytes, line: int, said: str) -> None:
    with pytest.raises(Malformed, match=None) as caught:
        parse(content)
    assert said in str(caught.value)
    assert caught.value.line == line


def test_aliases_cannot_multiply() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(Malformed, match="those of aliases counted"):
        parse("\n".join(lines).encode())


def test_aliases_cannot_grow_deep() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(Malformed, match="in one another"):
        parse("\n".join(lines).encode())


def test_values_are_counted() -> None:
    most = limits.SYNC_CONFIG_NODES_MAX
    assert parse(b"[" + b"x," * (most - 1) + b"]").count == most
    with pytest.raises(Malformed, match="more than 100,000 values"):
        parse(b"[" + b"x," * most + b"]")


@given(st.binary(max_size=200))
def test_bytes_are_a_document_or_malformed(content: bytes) -> None:
    try:
        parse(content)
    except Malformed as error:
        assert error.line >= 1
        assert str(error)


@given(st.text("abcx:-[]{}&*!|>'\"#%@`<~ \n\t", max_size=60))
def test_signs_are_a_document_or_malformed(text: str) -> None:
    try:
        parse(text.encode())
    except Malformed as error:
        assert error.line >= 1
