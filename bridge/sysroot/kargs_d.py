"""Kernel arguments that an image brings: `/usr/lib/bootc/kargs.d/*.toml`.

`kargs` is a list of arguments, `match-architectures` says for which machines, as Rust names them.
Files count in the order of their names. From one deployment to the next the difference is applied,
so that what was changed on the machine stays. Source: bootc,
docs/src/building/kernel-arguments.md.
"""

from __future__ import annotations

import os
import platform
import tomllib
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.sysroot import files, kargs

DIRECTORY = "usr/lib/bootc/kargs.d"
_RUST_NAMES = {"ppc64le": "powerpc64", "ppc64": "powerpc64", "i686": "x86", "armv7l": "arm"}
"""Where uname has another name than Rust."""


def architecture(machine: str | None = None) -> str:
    """Return Rust's name, which bootc's files have, of a machine as uname names it; this one's."""
    machine = machine or platform.machine()
    return _RUST_NAMES.get(machine, machine)


def read(tree: int, what: str, machine: str | None = None) -> kargs.Arguments:
    """Return what the deployed tree `tree` brings; `MalformedImage` where a file is none.

    `what` names the tree in messages. `machine` is by default this one, as uname names it.
    """
    rust_name = architecture(machine)
    found: kargs.Arguments = ()
    try:
        with files.directory(tree, DIRECTORY) as fd:
            for name in sorted(each for each in os.listdir(fd) if each.endswith(".toml")):
                place = f"{what}: /{DIRECTORY}/{name}"
                try:
                    text = files.read_bytes(fd, name, limits.KARGS_FILE_MAX).decode()
                except UnicodeDecodeError:
                    raise MalformedImage(f"{place} is not text") from None
                except OSError as error:
                    raise MalformedImage(f"{place}: {error.strerror}") from None
                found += parse(text, place, rust_name)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found


def parse(text: str, what: str, machine: str) -> kargs.Arguments:
    """Return the arguments of one file for `machine`, by its Rust name; none where it is for
    others."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise MalformedImage(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise MalformedImage(f"{what}: {error}") from None
    unknown = document.keys() - {"kargs", "match-architectures"}
    if unknown:
        raise MalformedImage(f"{what} has the unknown key {min(unknown)!r:.100}")
    if "kargs" not in document:
        raise MalformedImage(f"{what} has no kargs")
    wanted = _strings(document.get("match-architectures", [machine]), what)
    arguments = _strings(document["kargs"], what)
    if machine not in wanted:
        return ()
    return kargs.append((), arguments)


def change(
    current: kargs.Arguments, before: kargs.Arguments, after: kargs.Arguments
) -> kargs.Arguments:
    """Return the machine's arguments `current` as the image went from `before` to `after`.

    What only the old one brings goes, one for one; what only the new one brings is added at the
    end, if it is not there already.
    """
    old, new = {_meaning(each) for each in before}, {_meaning(each) for each in after}
    left = list(current)
    for each in before:
        if _meaning(each) not in new:
            same = next((one for one in left if _meaning(one) == _meaning(each)), None)
            if same is not None:
                left.remove(same)
    for each in after:
        if _meaning(each) not in old and _meaning(each) not in {_meaning(one) for one in left}:
            left.append(each)
    return tuple(left)


def _meaning(argument: str) -> str:
    """Return the argument as the kernel compares it: `-` and `_` are the same in a key."""
    key, sign, value = argument.partition("=")
    return f"{key.replace('-', '_')}{sign}{value}"


def _strings(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise MalformedImage(f"{what}: what should be a list of texts is none")
    for each in value:
        if not each.isprintable():
            raise MalformedImage(f"{what}: the argument {each!r:.100} is not printable")
    return value
