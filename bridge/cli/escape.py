"""Names that others chose, put where they cannot do anything: terminals, HTML, Markdown."""

from __future__ import annotations

import html
import re

_PLAIN = re.compile(r"[A-Za-z0-9/+=,. -]")
_ADDRESS = re.compile(r"(www)\.", re.IGNORECASE)
"""What is made a link of without any mark-up."""
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Return a text in which all that is no visible character is an escape: ends of lines, what
    moves the cursor or turns the direction of writing, bytes that are no UTF-8."""
    return "".join(
        char if char.isprintable() else _ESCAPES.get(char) or _escaped(ord(char)) for char in text
    )


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def html_text(text: str) -> str:
    """Return a text for HTML, in an element or an attribute in quotes."""
    return html.escape(printable(text), quote=True)


def markdown_code(text: str) -> str:
    """Return a text as code for Markdown as GitHub and GitLab read it, in tables too.

    No backticks, of which the text could have more: an HTML element, in which nobody is mentioned
    and no issue named, with references for all characters that could begin anything.
    """
    return f"<code>{markdown_text(text)}</code>"


def markdown_text(text: str) -> str:
    """Return a text for Markdown that is nothing but text there."""
    safe = "".join(
        char if _PLAIN.fullmatch(char) else f"&#{ord(char)};" for char in printable(text)
    )
    return _ADDRESS.sub(r"\1&#46;", safe)
