"""The repository's `config`: a GKeyFile with a `[core]` and, on hosts, a `[sysroot]` group."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass, field

from bridge.errors import DamagedRepository, UsageError
from bridge.limits import GIB, MIB

MODES = {"bare": "bare", "bare-user": "bare-user", "archive": "archive-z2"}
"""Modes that we write, by the name the user gives, and the name in the file."""

_NAMES = {"archive": "archive", "archive-z2": "archive", "bare": "bare", "bare-user": "bare-user"}
_SIZE = re.compile(r"(\d+)\s*(MB|GB|TB)")


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
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
        if parser.get("core", "repo_version") != "1":
            raise DamagedRepository("the repository's repo_version is not 1")
        raw_mode = parser.get("core", "mode", fallback="bare")
        size = parser.get("core", "min-free-space-size", fallback=None)
        # libostree's default for the percentage holds only where neither is given.
        default = 3 if size is None else 0
        percent = parser.getint("core", "min-free-space-percent", fallback=default)
    except (configparser.Error, ValueError) as error:
        message = " ".join(str(error).split())
        raise DamagedRepository(f"the repository's config cannot be read: {message}") from None
    if raw_mode not in _NAMES:
        raise UsageError(f"repository mode {raw_mode!r} is not supported; use bare or archive")
    if not 0 <= percent <= 99:
        raise DamagedRepository(f"min-free-space-percent is {percent}, which is not 0 to 99")
    return Config(
        mode=_NAMES[raw_mode],
        min_free_percent=percent,
        min_free_bytes=0 if size is None else _parse_size(size),
        values={(g, key): value for g in parser.sections() for key, value in parser[g].items()},
    )


def render(mode: str) -> str:
    """Return the `config` of a new repository, as `ostree init` writes it."""
    if mode not in MODES:
        raise UsageError(f"repository mode {mode!r} is none of {', '.join(MODES)}")
    return f"[core]\nrepo_version=1\nmode={MODES[mode]}\n"


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
        raise DamagedRepository(f"min-free-space-size {text!r} is not a number with MB, GB or TB")
    unit = {"MB": MIB, "GB": GIB, "TB": 1024 * GIB}[match[2]]
    return int(match[1]) * unit
