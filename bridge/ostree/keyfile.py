"""Key files as GLib's GKeyFile has them, read and changed as text: groups of `key=value` lines.

Format: https://docs.gtk.org/glib/struct.KeyFile.html. Comments and what we do not know stay as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bridge.errors import BridgeError

_SPACE = " \t\r\f\v"
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as text; read by `parse`, changed by making another one."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check the text of a key file; `BridgeError` when it is none."""
        group = None
        for line in text.split("\n"):
            stripped = line.strip(_SPACE)
            if not stripped or stripped.startswith("#"):
                continue
            if stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 2:
                group = stripped[1:-1]
            elif group is None or not stripped.partition("=")[0] or "=" not in stripped:
                raise BridgeError(f"a key file has a line that is no key and value: {line!r:.80}")
        return cls(text)

    @property
    def groups(self) -> frozenset[str]:
        """The names of its groups."""
        return frozenset(group for group, _ in self._lines() if group is not None)

    def get_boolean(self, group: str, key: str) -> bool:
        """Return whether a value is there and `true` or `1`."""
        return (self.get(group, key) or "").strip(_SPACE) in ("true", "1")

    @property
    def values(self) -> dict[tuple[str, str], str]:
        """All values, unescaped, by group and key; the last one where there are several."""
        found = {}
        for group, line in self._lines():
            key, equals, value = line.partition("=")
            if group is not None and equals and not key.lstrip(_SPACE).startswith("#"):
                value = value.removesuffix("\r").lstrip(_SPACE)
                found[group, key.strip(_SPACE)] = _unescape(value)
        return found

    def get(self, group: str, key: str) -> str | None:
        """Return a value, unescaped; the last one when there are several."""
        return self.values.get((group, key))

    def with_value(self, group: str, key: str, value: str | None) -> Self:
        """Return the file with `key` set to `value`, or taken out when that is `None`."""
        lines: list[str] = []
        last_of_group = None
        for where, line in self._lines():
            name, equals, _ = line.partition("=")
            if where == group and equals and name.strip(_SPACE) == key:
                continue
            lines.append(line)
            if where == group and line.strip(_SPACE):
                last_of_group = len(lines)
        if value is not None:
            new = f"{key}={_escape(value)}"
            if last_of_group is None:
                while lines and not lines[-1].strip(_SPACE):
                    lines.pop()
                lines += ["", f"[{group}]", new] if lines else [f"[{group}]", new]
            else:
                lines.insert(last_of_group, new)
        text = "\n".join(lines)
        return type(self)(text if text.endswith("\n") or not text else text + "\n")

    def without_group(self, group: str) -> Self:
        """Return the file without a group and all that is in it."""
        kept = [line for where, line in self._lines() if where != group]
        return type(self)("\n".join(kept).strip("\n") + "\n" if any(kept) else "")

    def _lines(self) -> list[tuple[str | None, str]]:
        result: list[tuple[str | None, str]] = []
        group = None
        for line in self.text.split("\n"):
            stripped = line.strip(_SPACE)
            if stripped.startswith("[") and stripped.endswith("]"):
                group = stripped[1:-1]
            result.append((group, line))
        return result


def _escape(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    escaped = escaped.replace("\t", "\\t")
    # GKeyFile drops spaces around a value: those that belong to it are written as \\s.
    rest = escaped.lstrip(" ")
    body = rest.rstrip(" ")
    return "\\s" * (len(escaped) - len(rest)) + body + "\\s" * (len(rest) - len(body))


def _unescape(value: str) -> str:
    result: list[str] = []
    characters = iter(value)
    for character in characters:
        if character != "\\":
            result.append(character)
            continue
        following = next(characters, "")
        result.append(_ESCAPES.get(following, "\\" + following))
    return "".join(result)
