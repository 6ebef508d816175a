"""Paths that systemd-tmpfiles makes or cares for, by the files of tmpfiles.d, and lines for them.

Format: tmpfiles.d(5): a type, a path that may be quoted and have C escapes, and more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bridge import limits
from bridge.contents.contents import Node
from bridge.layer.tar import EntryType
from bridge.lint.subject import Subject

_DIRECTORIES = ("usr/lib/tmpfiles.d", "etc/tmpfiles.d")
_LINE = re.compile(r"""\s*\S+\s+(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"']\S*))""")
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"s": b" "}
_PLAIN = re.compile(r"(?![\"'])[!-\[\]-~]+")


def declared(subject: Subject) -> set[str]:
    """Return the paths that have a line, without slash in front; links on their way followed.

    As in bootc, any type of line counts, and a pattern means itself alone.
    """
    found = set()
    for directory in _DIRECTORIES:
        for node in subject.children(directory):
            if not node.path.endswith(".conf"):
                continue
            file = subject.contents.resolve(node.path)
            if file is None or file.type is not EntryType.FILE:
                continue
            text = subject.contents.read(file, limits.TMPFILES_MAX).decode(errors="replace")
            for path in paths(text):
                parent, _, name = path.strip("/").rpartition("/")
                real = subject.contents.resolve(parent)
                if real is not None:
                    found.add(f"{real.path}/{name}" if real.path else name)
    return found


def paths(text: str) -> Iterator[str]:
    """Yield the path of each line in a file; a line that has none is passed over."""
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match and not line.lstrip().startswith("#"):
            path = match[match.lastindex or 0].encode(errors="surrogateescape")
            yield _ESCAPE.sub(_unescaped, path).decode(errors="surrogateescape")


def line(node: Node, user: str, group: str) -> str:
    """Return the line that makes a directory or a symbolic link."""
    path = escaped(f"/{node.path}")
    if node.type is EntryType.DIRECTORY:
        return f"d {path} {node.mode:04o} {user} {group} - -"
    return f"L {path} - - - - {escaped(node.target)}"


def escaped(path: str) -> str:
    """Return a path as such a line may have it."""
    if _PLAIN.fullmatch(path):
        return path
    raw = path.encode(errors="surrogateescape")
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte not in b"\\\"'" else f"\\x{byte:02x}"
        for byte in raw
    )


def _unescaped(match: re.Match[bytes]) -> bytes:
    found = match[1]
    if found[:1] == b"x" and len(found) == 3:
        return bytes([int(found[1:], 16)])
    return _ESCAPES.get(found, found)
