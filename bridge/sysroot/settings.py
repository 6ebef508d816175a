"""Settings of a host: TOML files, of which later ones override single keys of earlier ones.

`/usr/lib/bootc-py/settings.toml` and `settings.d/*.toml` beside it are the image's, the same names
in `/etc/bootc-py` the administrator's.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bridge import limits
from bridge.errors import UsageError
from bridge.sysroot import files

T = TypeVar("T")

_PLACES = ("usr/lib/bootc-py", "etc/bootc-py")
_AGE = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """The table `[health]`."""

    attempts: int = limits.BOOT_ATTEMPTS
    """Boots that a new deployment has to be found healthy in; 0: never reboot, never roll back."""
    check_timeout: float = limits.CHECK_TIMEOUT
    """Seconds for one check."""
    disabled_checks: tuple[str, ...] = ()
    """Names of checks that are not run."""
    retry_failed_images: bool = False
    """Whether images that failed here may be staged by the timer again."""


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """The table `[deployments]`."""

    keep: int | None = None
    """How many stay when a new one comes, the new one counted and pinned ones not. Without it
    `DEPLOYMENTS_KEPT`, or with `keep_age` any number."""
    keep_age: int | None = None
    """Seconds after which those go that need not stay."""


def load(root: Path = Path("/")) -> HealthSettings:
    """Return `[health]` below `root`; `UsageError` where a file cannot be read or is wrong."""
    fd = files.open_directory(root)
    try:
        return _load(fd, "health", HealthSettings(), health)
    finally:
        os.close(fd)


def load_deployments(tree: int) -> DeploymentSettings:
    """Return `[deployments]` in a deployed tree; `UsageError` where a file is wrong."""
    return _load(tree, "deployments", DeploymentSettings(), deployments)


def health(table: Any, default: HealthSettings, where: str) -> HealthSettings:
    """Return what the table `[health]` says; keys that it lacks are those of `default`."""
    return replace(
        default,
        **_values(
            table,
            f"{where}: health",
            {
                "attempts": _is_whole,
                "check_timeout": lambda value: _is_whole(value) and value > 0,
                "disabled_checks": lambda value: (
                    isinstance(value, list) and all(isinstance(each, str) for each in value)
                ),
                "retry_failed_images": lambda value: isinstance(value, bool),
            },
        ),
    )


def deployments(table: Any, default: DeploymentSettings, where: str) -> DeploymentSettings:
    """Return what the table `[deployments]` says; keys that it lacks are those of `default`."""
    values = _values(
        table,
        f"{where}: deployments",
        {
            "keep": lambda value: _is_whole(value) and value >= limits.DEPLOYMENTS_KEPT,
            "keep_age": lambda value: parse_age(value) is not None,
        },
    )
    if "keep_age" in values:
        values["keep_age"] = parse_age(values["keep_age"])
    return replace(default, **values)


def parse_age(text: Any) -> int | None:
    """Return the seconds in a text such as `12h`, `30d` or `8w`; None where that is none."""
    found = _AGE.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def _load(root: int, table: str, default: T, read: Callable[[Any, T, str], T]) -> T:
    found = default
    for where, text in _texts(root):
        found = read_text(text, where, table, found, read)
    return found


def read_text(text: str, where: str, table: str, default: T, read: Callable[[Any, T, str], T]) -> T:
    """Return what one file says in `table`, `where` being its name in messages."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{where}: it is nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    return read(document[table], default, where) if table in document else default


def _texts(root: int) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file, in the order in which they count."""
    for place in _PLACES:
        names = ["settings.toml"]
        try:
            with files.directory(root, f"{place}/settings.d") as fd:
                drop_ins = sorted(each for each in os.listdir(fd) if each.endswith(".toml"))
            names += [f"settings.d/{each}" for each in drop_ins]
        except (FileNotFoundError, NotADirectoryError):
            pass
        for name in names:
            parent, _, last = f"{place}/{name}".rpartition("/")
            try:
                with files.directory(root, parent) as fd:
                    data = files.read_bytes(fd, last, limits.SETTINGS_MAX)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise UsageError(f"/{place}/{name}: {error.strerror}") from None
            try:
                yield f"/{place}/{name}", data.decode()
            except UnicodeDecodeError:
                raise UsageError(f"/{place}/{name}: it is not text") from None


def _values(table: Any, where: str, good: Mapping[str, Callable[[Any], bool]]) -> dict[str, Any]:
    """Return the values of a table by the names of fields; what is not known is passed over, for
    another version may know it."""
    if not isinstance(table, dict):
        raise UsageError(f"{where} is no table")
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in good:
            continue
        if not good[name](value):
            raise UsageError(f"{where}.{key} cannot be {value!r:.100}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return values


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
