"""The repository's `config`: a GKeyFile with a `[core]` and, on hosts, a `[sysroot]` group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from bridge.errors import BridgeError, DamagedRepository, UsageError
from bridge.limits import GIB, MIB
from bridge.ostree.keyfile import KeyFile

MODES = {"bare": "bare", "bare-user": "bare-user", "archive": "archive-z2"}
"""Modes that we write, by the name the user gives, and the name in the file."""

_NAMES = {"archive": "archive", "archive-z2": "archive", "bare": "bare", "bare-user": "bare-user"}
_PERCENT = re.compile("[0-9]{1,2}")
_SIZE = re.compile("([0-9]{1,9}) *(MB|GB|TB)")


@dataclass(frozen=True, slots=True)
class Config:
    """What we need to know of a repository."""

    mode: str
    min_free_percent: int = 3
    min_free_bytes: int = 0
    """Where it is not 0, it counts and the percentage does not."""
    values: dict[tuple[str, str], str] = field(default_factory=dict)
    """All values by (group, key), as they stand."""

    def must_stay_free(self, total: int) -> int:
        """Return the bytes that have to stay free on a file system of `total` bytes."""
        return self.min_free_bytes or total * self.min_free_percent // 100


def parse(text: str) -> Config:
    """Parse a `config` file; `DamagedRepository` when it is not a repository's."""
    try:
        values = KeyFile.parse(text).values
    except BridgeError as error:
        raise DamagedRepository(f"the repository's config cannot be read: {error}") from None
    if values.get(("core", "repo_version")) != "1":
        raise DamagedRepository("the repository's repo_version is not 1")
    raw_mode = values.get(("core", "mode"), "bare")
    size = values.get(("core", "min-free-space-size"))
    # libostree's default for the percentage holds only where neither is given.
    percent = values.get(("core", "min-free-space-percent"), "3" if size is None else "0")
    if raw_mode not in _NAMES:
        raise UsageError(f"repository mode {raw_mode!r:.100} is not supported; use bare or archive")
    if not _PERCENT.fullmatch(percent):
        raise DamagedRepository(f"min-free-space-percent is {percent!r:.100}, which is not 0 to 99")
    return Config(
        mode=_NAMES[raw_mode],
        min_free_percent=int(percent),
        min_free_bytes=0 if size is None else _parse_size(size),
        values=values,
    )


def render(mode: str, values: Iterable[tuple[str, str, str]] = ()) -> str:
    """Return the `config` of a new repository, as `ostree init` writes it.

    More `values` are each a group, a key and the value.
    """
    if mode not in MODES:
        raise UsageError(f"repository mode {mode!r} is none of {', '.join(MODES)}")
    text = f"[core]\nrepo_version=1\nmode={MODES[mode]}\n"
    for group, key, value in values:
        text = set_value(text, group, key, value)
    return text


def set_value(text: str, group: str, key: str, value: str) -> str:
    """Return the config `text` with one value set, everything else as it was."""
    lines = text.removesuffix("\n").split("\n")
    header = f"[{group}]"
    if header not in lines:
        return "\n".join([*lines, "", header, f"{key}={value}"]) + "\n"
    start = lines.index(header) + 1
    end = start
    while end < len(lines) and not lines[end].startswith("["):
        if lines[end].partition("=")[0].strip() == key:
            lines[end] = f"{key}={value}"
            return "\n".join(lines) + "\n"
        end += 1
    lines.insert(start, f"{key}={value}")
    return "\n".join(lines) + "\n"


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise DamagedRepository(
            f"min-free-space-size {text!r:.100} is not a number with MB, GB or TB"
        )
    unit = {"MB": MIB, "GB": GIB, "TB": 1024 * GIB}[match[2]]
    return int(match[1]) * unit
