"""The refs under which images and layers are kept: ostree-ext's names and its way to escape.

Source: ostree-rs-ext `refescape.rs` and `container/store.rs`.
"""

from __future__ import annotations

import re

from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference

LAYERS = "ostree/container/blob/"
IMAGES = "ostree/container/image/"

_ESCAPED = re.compile(r"__|_([0-9A-F]+)_")


def layer_ref(digest: Digest) -> str:
    """Return the ref of the layer whose blob has `digest`."""
    return LAYERS + escape(digest)


def image_ref(reference: ImageReference) -> str:
    """Return the ref of a stored image."""
    return IMAGES + escape(str(reference))


def escape(text: str) -> str:
    """Return `text` as a part of a ref: letters, digits, `-`, some slashes; all else in hex."""
    if not text or "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{text!r:.200} cannot be made a ref")
    out = []
    last = len(text) - 1
    for position, char in enumerate(text):
        before = text[position - 1] if position else ""
        if (char.isascii() and char.isalnum()) or char == "-":
            out.append(char)
        elif char == "_":
            out.append("__")
        elif char == "/" and before.isascii() and before.isalnum() and position != last:
            out.append(char)
        else:
            out.append(f"_{ord(char):02X}_")
    return "".join(out)


def unescape(text: str) -> str:
    """Return what `escape` was given; `UsageError` for what it never returns."""
    out = []
    position = 0
    while position < len(text):
        char = text[position]
        if char != "_":
            out.append(char)
            position += 1
            continue
        found = _ESCAPED.match(text, position)
        if not found:
            raise UsageError(f"{text!r:.200} is not an escaped name")
        out.append("_" if found[1] is None else _char(found[1], text))
        position = found.end()
    name = "".join(out)
    if escape(name) != text:
        raise UsageError(f"{text!r:.200} is not an escaped name")
    return name


def _char(digits: str, text: str) -> str:
    try:
        return chr(int(digits, 16))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r:.200} is not an escaped name") from None
