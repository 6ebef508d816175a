"""Asking a document for its keys, and keeping what is wrong with it, all of it.

Each getter returns None for what is not there, and for what is wrong, which it notes. What nobody
asked for is unknown: `Section.end` says so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from bridge import limits
from bridge.errors import ConfigurationError, UsageError
from bridge.sync.config.document import Node

T = TypeVar("T")
_FLAGS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OLD_FLAGS = {
    **dict.fromkeys(("y", "Y", "yes", "on"), True),
    **dict.fromkeys(("n", "N", "no", "off"), False),
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


class Mistakes:
    """What is wrong with a file, each with line and key; notes, too, which are no mistakes."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[tuple[int, str]] = []
        self._notes: list[tuple[int, str]] = []

    def add(self, line: int, path: str, message: str) -> None:
        """Keep a mistake."""
        self._found.append((line, self._told(line, path, message)))

    def note(self, line: int, path: str, message: str) -> None:
        """Keep something that whoever wrote the file should know."""
        self._notes.append((line, self._told(line, path, message)))

    def _told(self, line: int, path: str, message: str) -> str:
        return f"{self._file}:{line}: " + (f"{path}: " if path else "") + message

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes, by line."""
        return tuple(dict.fromkeys(text for _, text in sorted(self._notes)))

    def check(self) -> None:
        """Raise `ConfigurationError` with all mistakes, if there are any."""
        # An alias's mistake is found wherever it stands for something.
        found = list(dict.fromkeys(text for _, text in sorted(self._found)))
        if not found:
            return
        most = limits.SYNC_MISTAKES_MAX
        if len(found) > most:
            found[most:] = [f"{self._file}: {len(found) - most} more mistakes"]
        raise ConfigurationError(tuple(found))


class Section:
    """A mapping of the document, and which of its keys are known."""

    def __init__(self, node: Node, path: str, mistakes: Mistakes, *, lenient: bool = False) -> None:
        """`lenient`: a key without a value is one that is not there, as Go's libraries have it."""
        self._entries = node.entries or {}
        self._lines = node.lines
        self._known: list[str] = []
        self._lenient = lenient
        self.path = path
        self.line = node.line
        self.mistakes = mistakes
        if node.entries is None and not (lenient and node.text is None and node.items is None):
            mistakes.add(node.line, path, f"a mapping is wanted; this is {node.kind}")

    def wrong(self, key: str | None, message: str) -> None:
        """Keep a mistake, in a key or all in all."""
        line, path = self.place(key)
        self.mistakes.add(line, path, message)

    def note(self, key: str | None, message: str) -> None:
        """Keep a note."""
        line, path = self.place(key)
        self.mistakes.note(line, path, message)

    def place(self, key: str | None) -> tuple[int, str]:
        """Return line and path of a key's value."""
        if key is None or key not in self._entries:
            return self.line, self.path
        # An anchor may stand somewhere else altogether; the key is what has to be changed.
        return self._lines[key], self._path(key)

    def _path(self, key: str) -> str:
        name = key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else f"[{key!r:.100}]"
        if not self.path:
            return name
        return f"{self.path}{name}" if name.startswith("[") else f"{self.path}.{name}"

    @property
    def given(self) -> list[str]:
        """The keys that are there."""
        return list(self._entries)

    def has(self, key: str) -> bool:
        """Tell whether a key is there, with a value."""
        return self.node(key) is not None

    def node(self, key: str) -> Node | None:
        """Return the value of a key."""
        if key not in self._known:
            self._known.append(key)
        node = self._entries.get(key)
        if node is None or (node.kind == "empty" and self._lenient):
            return None
        return node

    def text(self, key: str) -> str | None:
        """Return a text; a number or a flag is one, as it was written."""
        node = self.node(key)
        return None if node is None else self._text(key, node)

    def _text(self, key: str, node: Node, wanted: str = "one value") -> str | None:
        if node.text is None:
            self.wrong(key, f"{wanted} is wanted; this is {node.kind}")
        return node.text

    def texts(self, key: str, *, single: bool = False) -> tuple[str, ...]:
        """Return a list of texts; with `single` one that is no list counts as a list of it."""
        return tuple(text for text, _ in self.lines(key, single=single))

    def lines(self, key: str, *, single: bool = False) -> Iterator[tuple[str, Callable[..., None]]]:
        """Yield the texts of a list, each with what tells a mistake in it."""
        node = self.node(key)
        if node is None:
            return
        if node.items is None and single and node.text is not None:
            yield node.text, lambda message: self.wrong(key, message)
            return
        if node.items is None:
            self.wrong(key, f"a list is wanted; this is {node.kind}")
            return
        for number, item in enumerate(node.items):
            path = f"{self._path(key)}[{number}]"
            if item.text is None:
                self.mistakes.add(item.line, path, f"one value is wanted; this is {item.kind}")
                continue

            def wrong(message: str, line: int = item.line, path: str = path) -> None:
                self.mistakes.add(line, path, message)

            yield item.text, wrong

    def each(self, key: str, made: Callable[[str], T], *, single: bool = False) -> tuple[T, ...]:
        """Return what `made` makes of the texts of a list; it raises `UsageError`."""
        found = []
        for text, wrong in self.lines(key, single=single):
            try:
                found.append(made(text))
            except UsageError as error:
                wrong(str(error))
        return tuple(found)

    def made(self, key: str, make: Callable[[str], T]) -> T | None:
        """Return what `make` makes of a text; it raises `UsageError`. Not for what is secret."""
        text = self.text(key)
        if text is None:
            return None
        try:
            return make(text)
        except UsageError as error:
            self.wrong(key, str(error))
            return None

    def flag(self, key: str, *, old: bool = False) -> bool | None:
        """Return a flag; with `old`, those of YAML 1.1 are some, too, as Go's yaml.v3 has it."""
        node = self.node(key)
        if node is None:
            return None
        text = node.text or ""
        value = None if node.quoted else _FLAGS.get(text)
        if old and value is None:
            value = _OLD_FLAGS.get(text)
        if value is None:
            self.wrong(key, f"true or false is wanted; this is {_shown(node)}")
        return value

    def whole(self, key: str, least: int = 0, most: int = 2**53) -> int | None:
        """Return a whole number in a range."""
        node = self.node(key)
        if node is None:
            return None
        matched = None if node.quoted else _WHOLE.fullmatch(node.text or "")
        if matched is None or not least <= int(matched[0]) <= most:
            bound = f", {least} or more," if most == 2**53 else f" from {least} to {most}"
            wanted = f"{least}" if least == most else f"a whole number{bound}"
            self.wrong(key, f"{wanted} is wanted; this is {_shown(node)}")
            return None
        return int(matched[0])

    def decimal(self, key: str, *, zero: bool = False) -> float | None:
        """Return a number above zero, with or without decimals; with `zero` that, too."""
        node = self.node(key)
        if node is None:
            return None
        matched = None if node.quoted else _DECIMAL.fullmatch(node.text or "")
        if matched is None or (float(matched[0]) <= 0 and not zero):
            self.wrong(key, f"a number above 0 is wanted; this is {_shown(node)}")
            return None
        return float(matched[0])

    def section(self, key: str) -> Section | None:
        """Return a mapping."""
        node = self.node(key)
        if node is None:
            return None
        if node.entries is None:
            self.wrong(key, f"a mapping is wanted; this is {node.kind}")
            return None
        return Section(node, self._path(key), self.mistakes, lenient=self._lenient)

    def sections(self, key: str) -> list[Section]:
        """Return a list of mappings."""
        node = self.node(key)
        if node is None:
            return []
        if node.items is None:
            self.wrong(key, f"a list is wanted; this is {node.kind}")
            return []
        return [
            Section(each, f"{self._path(key)}[{number}]", self.mistakes, lenient=self._lenient)
            for number, each in enumerate(node.items)
        ]

    def end(self, *, extensions: bool = False) -> None:
        """Refuse keys that nobody asked for; with `extensions` not those that begin with `x-`."""
        for key in self._entries:
            if key in self._known or (extensions and key.startswith("x-")):
                continue
            meant = difflib.get_close_matches(key, self._known, 1)
            hint = f"; did you mean {meant[0]}?" if meant else ""
            self.mistakes.add(self._lines[key], self._path(key), f"no such key{hint}")


def _shown(node: Node) -> str:
    return node.kind if node.text is None else f"{node.text!r:.100}"
