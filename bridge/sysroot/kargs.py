"""Lists of kernel arguments, with libostree's rules (ostree-kernel-args).

A list is a tuple of `key` or `key=value` texts. Double quotes keep spaces inside one argument and
stay part of it, as the kernel has it. Those that images bring are `bridge.sysroot.kargs_d`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge import limits
from bridge.errors import BridgeError, UsageError

Arguments = tuple[str, ...]


def split(text: str) -> Arguments:
    """Split a command line. A quote that is not closed reaches to the end."""
    arguments: list[str] = []
    current: list[str] = []
    quoted = False
    for character in text:
        if character == '"':
            quoted = not quoted
        if character in " \t\n" and not quoted:
            if current:
                arguments.append("".join(current))
            current = []
        else:
            current.append(character)
    if current:
        arguments.append("".join(current))
    return tuple(arguments)


def join(arguments: Iterable[str]) -> str:
    """Return the command line of a list."""
    return " ".join(arguments)


def key(argument: str) -> str:
    """Return the part of an argument before the first `=`."""
    return argument.partition("=")[0]


def append(arguments: Arguments, more: Iterable[str]) -> Arguments:
    """Return the list with `more` at its end; each of `more` may hold several arguments."""
    return (*arguments, *(argument for text in more for argument in split(text)))


def replace(arguments: Arguments, argument: str) -> Arguments:
    """Put `argument` where its key first occurs, and drop the key's other values.

    At the end when the key is new.
    """
    name = key(argument)
    result: list[str] = []
    placed = False
    for existing in arguments:
        if key(existing) != name:
            result.append(existing)
        elif not placed:
            result.append(argument)
            placed = True
    return tuple(result) if placed else (*result, argument)


def without(arguments: Arguments, name: str) -> Arguments:
    """Return the list without any value of the key `name`."""
    return tuple(argument for argument in arguments if key(argument) != name)


def delete(arguments: Arguments, text: str) -> Arguments:
    """Take out `key=value`, or `key` when it has one value only.

    `text` may hold several. Raises `UsageError` when there is no such argument, or when a key
    alone does not say which of its values is meant.
    """
    for unwanted in split(text):
        name = key(unwanted)
        same_key = [argument for argument in arguments if key(argument) == name]
        if not same_key:
            raise UsageError(f"no kernel argument {name!r} to delete; see `status --verbose`")
        if unwanted in same_key:
            found = arguments.index(unwanted)
        elif "=" in unwanted:
            raise UsageError(f"no kernel argument {unwanted!r} to delete; {name} has {same_key}")
        elif len(same_key) > 1:
            raise UsageError(f"kernel argument {name!r} has several values; name one of {same_key}")
        else:
            found = arguments.index(same_key[0])
        arguments = (*arguments[:found], *arguments[found + 1 :])
    return arguments


def check(arguments: Arguments) -> None:
    """Raise `BridgeError` for what cannot be in a boot entry, or what a kernel would cut off."""
    text = join(arguments)
    if not text.isprintable():
        raise BridgeError(f"kernel arguments cannot have control characters in them: {text!r:.300}")
    size = len(text.encode())
    if size > limits.KARGS_MAX:
        raise BridgeError(
            f"the kernel arguments take {size} bytes, and a kernel may cut off what is beyond "
            f"{limits.KARGS_MAX}; remove some with `bootc-py kargs --delete`"
        )
