"""Go templates, as far as regsync's users need them: parsing.

Text with `{{…}}` in it: fields (`.Ref.Tag`), functions with arguments, pipes, parentheses, `if`,
`else` and `end`, comments, and `{{-`, `-}}` that take the white space beside them. Loops, variables
and templates in templates are refused. Source of the format: the documentation of Go's package
`text/template`. What functions do is in `bridge.sync.config.template_functions`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bridge import limits
from bridge.errors import UsageError
from bridge.sync.config import template_functions as functions
from bridge.sync.config.template_functions import Outside, TemplateError

_ACTION = re.compile(
    r"\{\{(?P<left>-(?=\s))?\s*(?:(?P<comment>/\*.*?\*/)|"
    r"(?P<body>(?:\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|'(?:[^'\\\n]|\\.)+'|[^\"`'}]|\}(?!\}))*?))"
    r"\s*(?P<right>(?<=\s)-)?\}\}",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`)|"
    r"(?P<number>[+-]?[0-9][0-9_]*(?:\.[0-9]+)?(?![A-Za-z0-9_]))|"
    r"(?P<field>(?:\.[A-Za-z_][A-Za-z0-9_]*)+)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|"
    r"(?P<sign>[.$()|])"
)
_REFUSED = {"range", "with", "define", "template", "block", "break", "continue"}


@dataclass(slots=True)
class _Operand:
    """A literal, a function, the data (`.`) or a pipeline in parentheses, and fields of it."""

    kind: str
    value: Any = None
    fields: tuple[str, ...] = ()


_Command = list[_Operand]
_Pipeline = list[_Command]


@dataclass(slots=True)
class _If:
    branches: list[tuple[_Pipeline | None, list[Any]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Template:
    """A template that can be expanded."""

    text: str
    _nodes: list[Any] = field(repr=False, compare=False)

    @property
    def has_actions(self) -> bool:
        """Whether there is anything in it but text."""
        return any(not isinstance(node, str) for node in self._nodes)

    def expand(self, data: object, outside: Outside) -> str:
        """Return the text that it makes of the data; raises `UsageError`."""
        out: list[str] = []
        try:
            _run(self._nodes, data, outside, out)
        except TemplateError as error:
            raise UsageError(f"the template {self.text!r:.200}: {error}") from None
        result = "".join(out)
        if len(result) > limits.SYNC_TEMPLATE_MAX:
            raise UsageError(f"the template {self.text!r:.200} makes too long a text")
        return result


def parse(text: str) -> Template:
    """Return the template; raises `UsageError` for what is wrong or not supported."""
    if len(text) > limits.SYNC_TEMPLATE_MAX:
        raise UsageError(f"a template of more than {limits.SYNC_TEMPLATE_MAX} characters")
    try:
        return Template(text, _Parser(_pieces(text)).nodes())
    except TemplateError as error:
        raise UsageError(f"the template {text!r:.200}: {error}") from None


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Return texts and the inner sides of actions, in order; True: an action."""
    pieces: list[tuple[str, bool]] = []
    position = 0
    trim = False
    while (start := text.find("{{", position)) >= 0:
        matched = _ACTION.match(text, start)
        if matched is None:
            raise TemplateError("an action that begins with {{ has no end")
        before = text[position:start]
        before = before.lstrip(functions.SPACE) if trim else before
        pieces.append((before.rstrip(functions.SPACE) if matched["left"] else before, False))
        if not matched["comment"]:
            pieces.append((matched["body"], True))
        trim = matched["right"] is not None
        position = matched.end()
    rest = text[position:]
    pieces.append((rest.lstrip(functions.SPACE) if trim else rest, False))
    return [piece for piece in pieces if piece[0] or piece[1]]


class _Parser:
    """Makes a tree of the pieces."""

    def __init__(self, pieces: list[tuple[str, bool]]) -> None:
        self._pieces = pieces
        self._position = 0

    def nodes(self) -> list[Any]:
        found, end = self._block(1)
        if end is not None:
            raise TemplateError(f"{{{{{' '.join(end)}}}}} without an if before it")
        return found

    def _block(self, depth: int) -> tuple[list[Any], tuple[str, str] | None]:
        """Return nodes, and what ended them: `else`, perhaps with a condition, or `end`."""
        if depth > limits.SYNC_CONFIG_DEPTH_MAX:
            raise TemplateError("conditions in one another, too many")
        found: list[Any] = []
        while self._position < len(self._pieces):
            text, is_action = self._pieces[self._position]
            self._position += 1
            if not is_action:
                found.append(text)
                continue
            word, _, rest = text.strip().partition(" ")
            if word in _REFUSED:
                raise TemplateError(f"{word} is not supported here")
            if word in ("else", "end"):
                return found, (word, rest.strip())
            found.append(self._if(rest, depth) if word == "if" else _pipeline(text))
        return found, None

    def _if(self, condition: str, depth: int) -> _If:
        node = _If()
        pipeline: _Pipeline | None = _pipeline(condition)
        while True:
            inner, end = self._block(depth + 1)
            node.branches.append((pipeline, inner))
            if end is None:
                raise TemplateError("an if without an end")
            word, rest = end
            if word == "end":
                return node
            if pipeline is None:
                raise TemplateError("an else after an else")
            pipeline = _pipeline(rest.removeprefix("if ")) if rest else None
            if rest and not rest.startswith("if "):
                raise TemplateError(f"else {rest!r:.50} is not supported here")


def _tokens(text: str) -> list[tuple[str, str]]:
    found = []
    position = 0
    while position < len(text):
        matched = _TOKEN.match(text, position)
        if matched is None:
            raise TemplateError(f"{text[position : position + 20]!r} is not supported here")
        found.append((str(matched.lastgroup), matched[0]))
        position = matched.end()
    return found


def _pipeline(text: str) -> _Pipeline:
    tokens = _tokens(text)
    found, position = _commands(tokens, 0, 1)
    if position < len(tokens):
        raise TemplateError("a parenthesis that was not opened")
    return found


def _commands(tokens: list[tuple[str, str]], position: int, depth: int) -> tuple[_Pipeline, int]:
    if depth > limits.SYNC_CONFIG_DEPTH_MAX:
        raise TemplateError("parentheses in one another, too many")
    found: _Pipeline = [[]]
    spaced = True
    while position < len(tokens):
        kind, text = tokens[position]
        position += 1
        if kind == "space":
            spaced = True
            continue
        if text == "|":
            if not found[-1]:
                raise TemplateError("nothing before a |")
            found.append([])
            spaced = True
            continue
        if text == ")":
            position -= 1
            break
        if kind == "field" and not spaced and found[-1]:
            last = found[-1][-1]
            last.fields += tuple(text[1:].split("."))
            continue
        if not spaced:
            raise TemplateError(f"a space is missing before {text!r:.20}")
        operand, position = _operand(tokens, position, kind, text, depth)
        found[-1].append(operand)
        spaced = False
    if not found[-1]:
        raise TemplateError("an action with nothing in it")
    for command in found:
        if len(command) > 1 and command[0].kind == "literal":
            raise TemplateError("something that is no function has arguments")
        if command[0].kind == "literal" and command[0].value is None:
            raise TemplateError("nil is nothing that could be done")
    return found, position


def _operand(
    tokens: list[tuple[str, str]], position: int, kind: str, text: str, depth: int
) -> tuple[_Operand, int]:
    if kind == "string":
        return _Operand("literal", functions.unquoted(text)), position
    if kind == "number":
        return _Operand("literal", functions.number(text)), position
    if kind == "field":
        return _Operand("data", fields=tuple(text[1:].split("."))), position
    if kind == "word":
        if text in functions.CONSTANTS:
            return _Operand("literal", functions.CONSTANTS[text]), position
        if text not in functions.NAMES:
            raise TemplateError(f"no such function: {text:.50}")
        return _Operand("function", text), position
    if text in (".", "$"):
        if text == "$" and position < len(tokens) and tokens[position][0] == "word":
            raise TemplateError("variables are not supported here")
        return _Operand("data"), position
    inner, position = _commands(tokens, position, depth + 1)
    if position >= len(tokens):
        raise TemplateError("a parenthesis that is not closed")
    return _Operand("pipeline", inner), position + 1


def _run(nodes: list[Any], data: object, outside: Outside, out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, _If):
            for condition, inner in node.branches:
                if condition is None or functions.truth(_value(condition, data, outside)):
                    _run(inner, data, outside, out)
                    break
        else:
            out.append(functions.printed(_value(node, data, outside)))


def _value(pipeline: _Pipeline, data: object, outside: Outside) -> object:
    piped: list[object] = []
    for command in pipeline:
        first, *others = command
        arguments = [_operand_value(each, [], data, outside) for each in others] + piped
        piped = [_operand_value(first, arguments, data, outside)]
    return piped[0]


def _operand_value(
    operand: _Operand, arguments: list[object], data: object, outside: Outside
) -> object:
    fields = list(operand.fields)
    if operand.kind == "function":
        value = functions.call(str(operand.value), [] if fields else arguments, outside)
    elif operand.kind == "pipeline":
        value = _value(operand.value, data, outside)
    else:
        value = data if operand.kind == "data" else operand.value
    if arguments and not fields and operand.kind != "function":
        raise TemplateError("something that is no function has arguments")
    for number, name in enumerate(fields):
        value = functions.member(value, name, arguments if number == len(fields) - 1 else [])
    return value
