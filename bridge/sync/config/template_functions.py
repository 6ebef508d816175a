"""What Go templates can do here: the functions of `text/template` and of regclient's package
`template`, and the members of what they give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote_plus

from bridge import limits
from bridge.sync.config import go_time

SPACE = " \t\r\n"
CONSTANTS = {"true": True, "false": False, "nil": None}
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_VERB = re.compile(r"%([-+0 #]*)([0-9]{0,3})(?:\.([0-9]{0,3}))?(.)", re.DOTALL)


class TemplateError(Exception):
    """A template is wrong, or wants what is not supported. Never leaves `config`."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What templates reach beside their data."""

    variable: Callable[[str], str]
    """The value of an environment variable, or nothing."""
    file: Callable[[str], str]
    """The content of a file, or nothing, if it cannot be read."""
    now: Callable[[], datetime]


class _Clock:
    """What the function `time` gives."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside


def unquoted(text: str) -> str:
    """Return what a literal of Go's stands for."""
    if text[0] == "`":
        return text[1:-1]

    def meant(matched: re.Match[str]) -> str:
        code = matched[1] or matched[2] or matched[3]
        if code:
            if int(code, 16) > 0x10FFFF:
                raise TemplateError(f"no such character: {matched[0]!r}")
            return chr(int(code, 16))
        if matched[4]:
            return chr(int(matched[4], 8))
        if matched[5] not in _ESCAPES:
            raise TemplateError(f"no such escape: {matched[0]!r}")
        return _ESCAPES[matched[5]]

    return _ESCAPE.sub(meant, text[1:-1])


def number(text: str) -> int | float:
    """Return the number of a literal."""
    if len(text) > 30:
        raise TemplateError("a number that is too long")
    return float(text.replace("_", "")) if "." in text else int(text.replace("_", ""))


def truth(value: object) -> bool:
    """Tell whether a value counts as true: what is not empty, and not zero."""
    return (
        bool(value)
        if isinstance(value, str | int | float | Sequence | Mapping)
        else (value is not None)
    )


def printed(value: object) -> str:
    """Return a value as Go prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.17g}" if f"{value:g}" != repr(value).removesuffix(".0") else f"{value:g}"
    if value is None:
        return "<no value>"
    if isinstance(value, datetime):
        return go_time.format_time(value, go_time.DEFAULT_LAYOUT)
    if isinstance(value, list | tuple):
        return f"[{' '.join(printed(each) for each in value)}]"
    raise TemplateError("a value that has no text of its own; name one of its fields")


def member(value: object, name: str, arguments: list[object]) -> object:
    """Return a field of a value, or what a method of it gives."""
    if isinstance(value, _Clock):
        if name != "Now" or arguments:
            raise TemplateError(f"time.{name:.50} is not supported here; time.Now is")
        return value.outside.now()
    if isinstance(value, datetime):
        return _of_time(value, name, arguments)
    if arguments:
        raise TemplateError(f".{name:.50} takes no arguments")
    if not isinstance(value, Mapping):
        raise TemplateError(f"no field .{name:.50} of a value that has none")
    if name not in value:
        raise TemplateError(f"no field .{name:.50}; there are {', '.join(map(str, sorted(value)))}")
    found: object = value[name]
    return found


def _of_time(value: datetime, name: str, arguments: list[object]) -> object:
    if name == "Format":
        (layout,) = _texts(".Format", arguments, 1)
        return go_time.format_time(value, layout)
    if arguments:
        raise TemplateError(f".{name:.50} of a time takes no arguments")
    simple: dict[str, Callable[[], object]] = {
        "UTC": lambda: value.astimezone(UTC),
        "Local": value.astimezone,
        "Unix": lambda: int(value.timestamp()),
        "Year": lambda: value.year,
        "Month": lambda: go_time.month_name(value.month),
        "Day": lambda: value.day,
        "Weekday": lambda: go_time.day_name(value),
        "YearDay": lambda: value.timetuple().tm_yday,
        "Hour": lambda: value.hour,
        "Minute": lambda: value.minute,
        "Second": lambda: value.second,
        "String": lambda: printed(value),
    }
    if name not in simple:
        raise TemplateError(f".{name:.50} of a time is not supported here")
    return simple[name]()


def call(name: str, arguments: list[object], outside: Outside) -> object:
    """Return what a function of `NAMES` gives."""
    if name == "time":
        if arguments:
            raise TemplateError("time takes no arguments")
        return _Clock(outside)
    if name in ("env", "file"):
        (text,) = _texts(name, arguments, 1)
        return (outside.variable if name == "env" else outside.file)(text)
    try:
        return _FUNCTIONS[name](*arguments)
    except TypeError:
        raise TemplateError(f"{name:.50} does not take these arguments") from None


def _texts(name: str, values: list[object], count: int) -> list[str]:
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != count or len(values) != count:
        raise TemplateError(f"{name:.50} takes {count} text{'' if count == 1 else 's'}")
    return texts


def _default(default: object, value: object) -> object:
    return value if truth(value) else default


def _join(values: object, separator: object) -> str:
    if not isinstance(values, list | tuple) or not isinstance(separator, str):
        raise TypeError
    return _bounded(separator.join(_text(each) for each in values))


def _split(text: object, separator: object) -> list[str]:
    if separator == "":
        return list(_text(text))
    return _text(text).split(_text(separator))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _bounded(text: str) -> str:
    if len(text) > limits.SYNC_TEMPLATE_MAX:
        raise TemplateError("a text that is too long")
    return text


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
            continue
        if not isinstance(value, list | tuple) or type(key) is not int:
            raise TypeError
        if not 0 <= key < len(value):
            raise TemplateError(f"index: {key} of {len(value)}")
        value = value[key]
    return value


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, str | list | tuple) or len(bounds) > 2:
        raise TypeError
    whole = [bound for bound in bounds if type(bound) is int]
    first, last = (*whole, *(0, len(value))[len(whole) :])
    if len(whole) != len(bounds) or not 0 <= first <= last <= len(value):
        raise TemplateError("slice: out of range")
    return value[first:last]


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | tuple | Mapping):
        return len(value)
    raise TypeError


def _print(*values: object) -> str:
    """Go puts a space between two values neither of which is a text."""
    out = ""
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            out += " "
        out += _shown(value)
    return _bounded(out)


def _shown(value: object) -> str:
    return "<nil>" if value is None else printed(value)


def _printf(form: object, *values: object) -> str:
    left = list(values)

    def shown(matched: re.Match[str]) -> str:
        flags, width, precision, verb = matched.groups()
        if verb == "%":
            return "%"
        if not left:
            raise TemplateError("printf: fewer values than the form has")
        value = left.pop(0)
        digits = None if precision is None else int(precision or 0)
        text = _verb(verb, value, digits, "+" in flags)
        if "0" in flags and verb in "dxXf" and "-" not in flags:
            sign = text[:1] if text[:1] in ("-", "+") else ""
            return sign + text[len(sign) :].rjust(int(width or 0) - len(sign), "0")
        return text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0))

    text = _VERB.sub(shown, _text(form))
    if left:
        raise TemplateError("printf: more values than the form has")
    return _bounded(text)


def _verb(verb: str, value: object, digits: int | None, plus: bool) -> str:
    if verb in "sv":
        text = _shown(value)
        return text if digits is None or verb == "v" else text[:digits]
    if verb == "q" and isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return printed(value)
    if verb in "dxX" and isinstance(value, int) and not isinstance(value, bool):
        text = format(value, verb)
        return f"+{text}" if plus and value >= 0 else text
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    if verb == "f" and isinstance(value, float):
        return f"{value:.{6 if digits is None else digits}f}"
    raise TemplateError(f"printf: {verb!r} of such a value is not supported here")


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise TypeError
    return any(_pair(first, other) and first == other for other in others)


def _pair(one: object, other: object) -> bool:
    if type(one) is not type(other):
        raise TemplateError("values of different types are compared")
    return True


def _less(one: object, other: object) -> bool:
    _pair(one, other)
    if isinstance(one, str | int | float) and not isinstance(one, bool):
        return one < other  # type: ignore[operator]
    raise TypeError


def _and(*values: object) -> object:
    return next((value for value in values if not truth(value)), values[-1])


def _or(*values: object) -> object:
    return next((value for value in values if truth(value)), values[-1])


def _json(value: object, indent: int | None = None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n"


_FUNCTIONS: dict[str, Callable[..., object]] = {
    "default": _default,
    "join": _join,
    "split": _split,
    "lower": lambda text: _text(text).lower(),
    "upper": lambda text: _text(text).upper(),
    "trimSpace": lambda text: _text(text).strip(),
    "json": lambda value: _json(value),
    "jsonPretty": lambda value: _json(value, 2),
    "printPretty": lambda value: _json(value, 2),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "println": lambda *values: " ".join(map(_shown, values)) + "\n",
    "printf": _printf,
    "urlquery": lambda *values: quote_plus(_print(*values)),
    "eq": _equal,
    "ne": lambda one, other: not _equal(one, other),
    "lt": _less,
    "le": lambda one, other: _less(one, other) or _equal(one, other),
    "gt": lambda one, other: _less(other, one),
    "ge": lambda one, other: not _less(one, other),
    "and": lambda first, *others: _and(first, *others),
    "or": lambda first, *others: _or(first, *others),
    "not": lambda value: not truth(value),
}
NAMES = frozenset(_FUNCTIONS) | {"env", "file", "time"}
