"""Names that others chose do nothing, wherever they are put."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.escape import html_text, markdown_code, markdown_text, printable

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b|c",
    "`code` ``and`` more",
    "new\nline\r\n| --- |\n# heading",
    "\u202egnp.exe\u2066",
    "\x1b[2J\x07\x00\x7f\x9b",
    "</code></td><img src=x onerror=alert(1)>",
    "[a](http://x) ![b](http://y) <http://z>",
    "http://example.com www.example.com WWW.example.com a@b.c",
    "@somebody #12 !34 owner/name#5 $var_x *bold* __bold__ ~~gone~~",
    "&lt;script&gt; &#60; &amp;",
    "\\| \\` \\<",
    '" onmouseover="x" \'',
    "\udcff\udc80 not UTF-8",
    "\u2028\u2029\u200b\ufeff\U000e0001",
    "<!-- --> <![CDATA[ ]]> <?x ?>",
    "{{ template }} {% x %} ${{ secrets.X }}",
    "</details><summary>",
    "",
]
_INERT = re.compile(r"(?:[A-Za-z0-9/+=, .-]|&#[0-9]+;)*")


class _Text(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.elements: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert attrs == [("title", attrs[0][1])] if attrs else True

    def handle_data(self, data: str) -> None:
        self.text += data


def check(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()  # it is characters alone
    read = _Text(f'<td title="{html_text(text)}">{html_text(text)}</td>')
    assert (read.text, read.elements) == (shown, ["td"])
    marked = markdown_text(text)
    assert _INERT.fullmatch(marked) and "www." not in marked.lower()
    assert html.unescape(marked) == shown
    assert markdown_code(text) == f"<code>{marked}</code>"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names(text: str) -> None:
    check(text)


@given(st.text())
def test_any_name(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("usr/bin/ls", "usr/bin/ls"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202ex", "\\u202ex"),
        ("\udcff", "\\xff"),
        ("\U000e0001", "\\U000e0001"),
        ("größe → ☃", "größe → ☃"),
    ],
)
def test_what_is_seen(text: str, shown: str) -> None:
    assert printable(text) == shown
