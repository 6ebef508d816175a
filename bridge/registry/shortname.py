"""Short names (`fedora/httpd:1`) made whole through registries.conf, and never by a guess.

As containers-registries.conf(5) has it: an alias wins; else the one registry of
`unqualified-search-registries` is taken. With several, podman asks or tries one after the other,
which may fetch a squatter's image; here that is an error that names the candidates
(`short-name-mode = "enforcing"` without a terminal).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.errors import UsageError
from bridge.oci.reference import is_short_name, parse_registry_reference


@dataclass(frozen=True, slots=True)
class ShortNames:
    """What the configuration says of short names."""

    search: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> ShortNames:
        """Read the files that are there, a later one overriding; `UsageError` if one is broken."""
        search: tuple[str, ...] = ()
        aliases: dict[str, str] = {}
        for path in _files(environ):
            try:
                document = tomllib.loads(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            except (OSError, ValueError) as error:
                raise UsageError(f"reading {path}: {error}") from None
            listed = document.get("unqualified-search-registries")
            if listed is not None:
                search = tuple(_texts(listed, f"{path}: unqualified-search-registries"))
            table = document.get("aliases", {})
            if not isinstance(table, dict):
                raise UsageError(f"{path}: aliases is not a table")
            _texts(list(table.values()), f"{path}: aliases")
            aliases |= table
        return cls(search, aliases)

    def expand(self, text: str) -> str:
        """Return `text`, or what it stands for when it is a short name; raises `UsageError`."""
        if not is_short_name(text):
            return text
        name = text.partition("@")[0].partition(":")[0]
        if alias := self.aliases.get(name):
            return alias + text.removeprefix(name)
        if len(self.search) == 1:
            return f"{self.search[0]}/{text}"
        if self.search:
            candidates = ", ".join(f"{registry}/{text}" for registry in self.search)
            raise UsageError(f"{text!r:.300} is a short name; say which is meant: {candidates}")
        raise UsageError(
            f"{text!r:.300} is a short name and no search registry is configured; write it in "
            f"full, for instance {parse_registry_reference(text)}"
        )


def _files(environ: Mapping[str, str]) -> list[Path]:
    home = Path(environ.get("HOME") or "/")
    system = Path("/etc/containers")
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers"
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    if os.geteuid() == 0:
        cache = Path("/var/cache")
    if override := environ.get("CONTAINERS_REGISTRIES_CONF"):
        main = Path(override)
    else:
        main = user / "registries.conf"
        main = main if main.exists() else system / "registries.conf"
    drop_ins = [
        path
        for directory in (system, user)
        for path in sorted((directory / "registries.conf.d").glob("*.conf"))
    ]
    # Last, and so the strongest: what podman's users chose when they were asked.
    return [main, *drop_ins, cache / "containers/short-name-aliases.conf"]


def _texts(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{what} holds something that is not a text")
    return value
