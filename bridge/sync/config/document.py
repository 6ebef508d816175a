"""A YAML document as nodes that know their lines; text in, values out.

YAML is read event by event, by the rules of PyYAML's `SafeLoader` but for one: a scalar stays the
text that it is, and whoever asks for it says what it has to be. So `3.10` may be a tag, and `no`
one, too. Keys that are there twice are refused, merge keys (`<<`) are honoured, and what aliases
stand for is counted wherever they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bridge import limits
from bridge.sync.extra import extra

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS = frozenset(
    {None, "!"} | {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool")}
)
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_PLAIN_TAGS = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


class Malformed(Exception):
    """The text is no such document: at `line`, with a message. Never leaves `config`."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Node:
    """A value of the document. One of `text`, `items` and `entries` is its content, or none."""

    line: int
    text: str | None = None
    quoted: bool = False
    """Whether it cannot be anything but a text."""
    items: list[Node] | None = None
    entries: dict[str, Node] | None = None
    lines: dict[str, int] = field(default_factory=dict)
    """Of the keys."""
    count: int = 1
    """Nodes here and below."""
    height: int = 1

    @property
    def kind(self) -> str:
        """What it is, as a message calls it."""
        if self.entries is not None:
            return "a mapping"
        if self.items is not None:
            return "a list"
        return "empty" if self.text is None else "one value"


def parse(content: bytes) -> Node:
    """Return the root of the one document; raises `Malformed`."""
    yaml = extra("yaml")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Malformed(line, "not UTF-8") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(yaml, yaml.parse(text, Loader=loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be read"
        # At the end of the text, a mark is on a line that there is not.
        line = min(mark.line + 1 if mark else 1, max(1, len(text.splitlines())))
        raise Malformed(line, f"not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Malformed(line, "not YAML: a character that may not be in it") from None


class _Composer:
    """Makes nodes of events."""

    def __init__(self, yaml: Any, events: Iterator[Any]) -> None:
        self._yaml = yaml
        self._events = events
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def document(self) -> Node:
        yaml = self._yaml
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise Malformed(_line(event), "a second document; one is read")
                root = self._node(next(self._events), 1)
        return root or Node(1)

    def _node(self, event: Any, depth: int) -> Node:
        yaml = self._yaml
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            node = self._anchors.get(event.anchor)
            if node is None:
                raise Malformed(line, f"no such anchor before it: {event.anchor!r:.100}")
        elif isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, line)
        else:
            # Before what is in it, which might be without end.
            self._bounded(1, depth, line)
            sequence = isinstance(event, yaml.SequenceStartEvent)
            node = self._sequence(line, depth) if sequence else self._mapping(line, depth)
            if event.tag not in _PLAIN_TAGS:
                raise Malformed(line, f"a tag that means nothing here: {event.tag!r:.100}")
        if isinstance(event, yaml.AliasEvent | yaml.ScalarEvent):
            self._bounded(node.count, depth + node.height - 1, line)
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._anchors[event.anchor] = node
        return node

    def _bounded(self, count: int, depth: int, line: int) -> None:
        self._count += count
        if self._count > limits.SYNC_CONFIG_NODES_MAX:
            raise Malformed(
                line, f"more than {limits.SYNC_CONFIG_NODES_MAX:,} values, those of aliases counted"
            )
        if depth > limits.SYNC_CONFIG_DEPTH_MAX:
            raise Malformed(
                line, f"more than {limits.SYNC_CONFIG_DEPTH_MAX} lists and mappings in one another"
            )

    def _scalar(self, event: Any, line: int) -> Node:
        if event.tag == "tag:yaml.org,2002:null":
            return Node(line)
        if event.tag not in _TAGS:
            raise Malformed(line, f"a tag that means nothing here: {event.tag!r:.100}")
        plain = event.implicit[0] if event.tag is None else event.tag not in _TEXT_TAGS
        quoted = not plain
        if not quoted and event.value in _NULLS:
            return Node(line)
        return Node(line, text=event.value, quoted=quoted)

    def _sequence(self, line: int, depth: int) -> Node:
        node = Node(line, items=[])
        assert node.items is not None
        for event in self._until(self._yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            node.items.append(item)
            _grow(node, item)
        return node

    def _mapping(self, line: int, depth: int) -> Node:
        node = Node(line, entries={})
        assert node.entries is not None
        merged: list[Node] = []
        for event in self._until(self._yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            _grow(node, key)
            _grow(node, value)
            if key.text is None:
                raise Malformed(key.line, f"a key that is {key.kind}")
            if key.text == "<<" and not key.quoted:
                merged += self._merged(value)
                continue
            if key.text in node.entries:
                first = node.lines[key.text]
                raise Malformed(
                    key.line, f"the key {key.text!r:.100} again, which is in line {first} already"
                )
            node.entries[key.text] = value
            node.lines[key.text] = key.line
        for each in merged:
            assert each.entries is not None
            for name, value in each.entries.items():
                if name not in node.entries:
                    node.entries[name] = value
                    node.lines[name] = each.lines[name]
        return node

    def _merged(self, value: Node) -> list[Node]:
        each = value.items if value.items is not None else [value]
        for one in each:
            if one.entries is None:
                raise Malformed(value.line, "what << brings in is no mapping")
        return each

    def _until(self, end: Any) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event


def _grow(node: Node, child: Node) -> None:
    node.count += child.count
    node.height = max(node.height, child.height + 1)


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1
