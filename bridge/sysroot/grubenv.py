"""GRUB's environment block: the few variables that GRUB reads and writes itself, from its menu.

Format: lib/envblk.c of GRUB. 1024 bytes: a line that tells what it is, `NAME=VALUE` lines in which
a backslash makes the next character part of the value, comments, and `#` up to the end.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.errors import BridgeError

_SIGNATURE = b"# GRUB Environment Block\n"


def parse(block: bytes) -> dict[bytes, bytes]:
    """Return the variables in a block; `BridgeError` when it is none."""
    return dict(line.split(b"=", 1) for line in _lines(block) if _is_variable(line))


def changed(block: bytes, values: Mapping[bytes, bytes | None]) -> bytes:
    """Return the block with variables set, or taken out where they are `None`; of the same size.

    Names and values have no backslash and no line break. Raises `BridgeError` when it is full.
    """
    kept = [line for line in _lines(block) if line.split(b"=", 1)[0] not in values]
    kept += [b"%s=%s" % (name, value) for name, value in values.items() if value is not None]
    text = _SIGNATURE + b"".join(b"%s\n" % line for line in kept)
    if len(text) > len(block):
        raise BridgeError("GRUB's environment block has no room left")
    return text.ljust(len(block), b"#")


def _lines(block: bytes) -> list[bytes]:
    """Return the lines after the first, comments among them, with their escapes; not the filling.

    A line break after a backslash does not end one.
    """
    if not block.startswith(_SIGNATURE):
        raise BridgeError("this is no environment block of GRUB")
    lines: list[bytes] = []
    line = b""
    for part in block[len(_SIGNATURE) :].split(b"\n")[:-1]:
        line += part
        escapes = len(line) - len(line.rstrip(b"\\"))
        if escapes % 2:
            line += b"\n"
        else:
            lines.append(line)
            line = b""
    if line:
        raise BridgeError("GRUB's environment block ends within a variable")
    return lines


def _is_variable(line: bytes) -> bool:
    return b"=" in line and not line.startswith(b"#")
