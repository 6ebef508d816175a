"""Settings of this host: TOML files, of which later ones override single keys of earlier ones.

`/usr/lib/bootc-py/settings.toml` is the image's, `/etc/bootc-py/settings.toml` the
administrator's.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge import limits
from bridge.errors import UsageError

_FILES = ("usr/lib/bootc-py/settings.toml", "etc/bootc-py/settings.toml")


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


def load(root: Path = Path("/")) -> HealthSettings:
    """Return the settings below `root`; `UsageError` where a file cannot be read or is wrong."""
    found = HealthSettings()
    for name in _FILES:
        path = root / name
        try:
            document = tomllib.loads(path.read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}") from None
        found = health(document.get("health", {}), found, str(path))
    return found


def health(table: Any, default: HealthSettings, where: str) -> HealthSettings:
    """Return what the table `[health]` says; keys that it lacks are those of `default`."""
    if not isinstance(table, dict):
        raise UsageError(f"{where}: health is no table")
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        good = {
            "attempts": is_whole,
            "check_timeout": is_whole and value > 0,
            "disabled_checks": isinstance(value, list)
            and all(isinstance(each, str) for each in value),
            "retry_failed_images": isinstance(value, bool),
        }.get(name)
        if good is None:
            continue  # of another version
        if not good:
            raise UsageError(f"{where}: health.{key} cannot be {value!r:.100}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return HealthSettings(**{**{f: getattr(default, f) for f in default.__slots__}, **values})
