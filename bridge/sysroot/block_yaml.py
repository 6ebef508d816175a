"""Write plain JSON-like values as block YAML: just what `status --format yaml` needs.

Mappings, sequences, texts, integers, booleans and null. Texts that YAML (1.1 or 1.2) might take
for something else are in double quotes. Keys are short: YAML allows 1024 characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Begins like a word or path, holds nothing that ends or changes a plain scalar.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def render(value: Any) -> str:
    """Return `value` as a YAML document. Raises `TypeError` for other kinds of value."""
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str) and value:
        return "\n".join(_lines(value)) + "\n"
    return _scalar(value) + "\n"


def _lines(value: Any) -> list[str]:
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, child in value.items():
            if _is_block(child):
                lines.append(f"{_scalar(key)}:")
                # serde_yaml indents the members of a mapping, not those of a sequence.
                indent = "  " if isinstance(child, Mapping) else ""
                lines += (indent + line for line in _lines(child))
            else:
                lines.append(f"{_scalar(key)}: {_scalar(child)}")
    else:
        for child in value:
            first, *rest = _lines(child) if _is_block(child) else [_scalar(child)]
            lines.append(f"- {first}")
            lines += (f"  {line}" for line in rest)
    return lines


def _quoted(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def _is_block(value: Any) -> bool:
    return isinstance(value, (Mapping, Sequence)) and not isinstance(value, str) and bool(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        return f'"{"".join(map(_quoted, value))}"'
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence):
        return "[]"
    raise TypeError(f"no YAML for {type(value).__name__}")
