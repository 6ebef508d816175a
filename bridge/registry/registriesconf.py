"""registries.conf, version 2: mirrors, blocked and insecure registries, short names.

Text in, values out; `bridge.registry.conffiles` reads the files. The format is that of
containers-registries.conf(5), read as containers/image (`sysregistriesv2`) reads it: unknown keys
are passed over, keys are known in upper case too, and of two tables with one prefix in one file
the first counts.
"""

from __future__ import annotations

import enum
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import UsageError
from bridge.oci.reference import RegistryReference, is_host, is_short_name, parse_registry_reference

AUTH_FILES = "containers-auth.json"
"""The entry of `credential-helpers` that stands for the auth files."""
_SEPARATORS = (":", "/", "@", "")
"""What may follow a prefix in a name. The colon also begins a port, as in containers/image."""


class PullFrom(enum.Enum):
    """Which references a mirror is asked for; the values of `pull-from-mirror`."""

    ALL = "all"
    DIGEST_ONLY = "digest-only"
    TAG_ONLY = "tag-only"

    def accepts(self, ref: RegistryReference) -> bool:
        """Tell whether `ref` is to be asked for here."""
        return self is PullFrom.ALL or (self is PullFrom.DIGEST_ONLY) == (ref.digest is not None)


@dataclass(frozen=True, slots=True)
class Location:
    """Where images are, up to the part of their names that follows the table's prefix."""

    location: str
    insecure: bool = False
    pull_from: PullFrom = PullFrom.ALL


@dataclass(frozen=True, slots=True)
class Registry:
    """A `[[registry]]` table: what holds for the images whose names begin with `prefix`."""

    prefix: str
    primary: Location
    """Its `location` is empty when names stay as they are, which a `*.` prefix may have."""
    mirrors: tuple[Location, ...] = ()
    blocked: bool = False
    path: str = ""
    """The file it stands in."""

    def rest(self, name: str) -> str | None:
        """Return what follows the prefix in `name`, None if `name` does not begin with it.

        The prefix ends where a part of the name does, never within one. `*.example.com` is the
        host's end, and stands for any number of labels.
        """
        start = 0
        prefix = self.prefix
        if prefix.startswith("*."):
            prefix = prefix.removeprefix("*")
            host = name.partition("/")[0].partition("@")[0].partition(":")[0]
            start = len(host) - len(prefix)
        if start < 0 or not name.startswith(prefix, start):
            return None
        rest = name[start + len(prefix) :]
        return rest if rest[:1] in _SEPARATORS else None


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    """What the files say, merged."""

    registries: Mapping[str, Registry] = field(default_factory=dict)
    """By prefix."""
    search: tuple[str, ...] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    """By short name; an empty value takes an alias of an earlier file back."""
    short_name_mode: str | None = None
    credential_helpers: tuple[str, ...] | None = None

    def merged(self, later: RegistriesConf) -> RegistriesConf:
        """Return this with what `later` says: settings and whole tables replace earlier ones."""
        return RegistriesConf(
            {**self.registries, **later.registries},
            self.search if later.search is None else later.search,
            {**self.aliases, **later.aliases},
            later.short_name_mode or self.short_name_mode,
            self.credential_helpers
            if later.credential_helpers is None
            else later.credential_helpers,
        )

    def find(self, name: str) -> Registry | None:
        """Return the table with the longest prefix that `name` (`HOST/REPOSITORY[:…]`) has."""
        found = [each for _, each in sorted(self.registries.items()) if each.rest(name) is not None]
        return max(found, key=lambda each: len(each.prefix), default=None)


def parse(text: str, path: str) -> RegistriesConf:
    """Parse a file's text; `UsageError` with `path` and the key where it breaks the format."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {str(error)[:200]}") from None
    top = _Table(path, "", document)
    _refuse_version_1(top)
    registries: dict[str, Registry] = {}
    tables = [_registry(each) for each in top.tables("registry")]
    for each in tables:
        _refuse_conflicts(each, tables)
        registries.setdefault(each.prefix, each)
    search = top.texts("unqualified-search-registries")
    for host in search or ():
        if not is_host(host):
            raise top.wrong("unqualified-search-registries", f"{host!r:.200} is not a HOST[:PORT]")
    mode = top.text("short-name-mode")
    if mode not in ("", "enforcing", "permissive", "disabled"):
        raise top.wrong("short-name-mode", f"{mode!r:.200} is not a mode")
    return RegistriesConf(
        registries,
        search,
        _aliases(top.table("aliases")),
        mode or None,
        top.texts("credential-helpers"),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """A TOML table, whose values are held to their types."""

    path: str
    name: str
    values: Mapping[str, Any]

    def wrong(self, key: str, why: str) -> UsageError:
        return UsageError(f"{self.path}: {self.name}{key}: {why}")

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            # Go's decoder also takes `Blocked` for `blocked`; to pass over that would open a door.
            value = next((v for k, v in self.values.items() if k.lower() == key), default)
        if not isinstance(value, kind):
            raise self.wrong(key, f"{value!r:.200} is not {_KINDS[kind]}")
        return value

    def text(self, key: str) -> str:
        text: str = self.get(key, str, "")
        return text

    def flag(self, key: str) -> bool:
        flag: bool = self.get(key, bool, False)
        return flag

    def texts(self, key: str) -> tuple[str, ...] | None:
        listed = self.get(key, list, _MISSING)
        if listed is _MISSING:
            return None
        if not all(isinstance(each, str) for each in listed):
            raise self.wrong(key, "it holds something that is not a text")
        return tuple(listed)

    def table(self, key: str) -> _Table:
        return _Table(self.path, f"{self.name}{key}.", self.get(key, dict, {}))

    def tables(self, key: str) -> list[_Table]:
        listed = self.get(key, list, [])
        if not all(isinstance(each, dict) for each in listed):
            raise self.wrong(key, "it is not written as [[tables]]")
        return [
            _Table(self.path, f"{self.name}{key}[{number}].", each)
            for number, each in enumerate(listed, 1)
        ]

    def location(self, key: str = "location") -> str:
        text = self.text(key).rstrip("/")
        if text.startswith(("http://", "https://")):
            raise self.wrong(key, f"{text!r:.200}: it is HOST[:PORT][/PATH], without a scheme")
        host, slash, path = text.partition("/")
        return f"{host.lower()}{slash}{path}"


_MISSING: list[str] = []
_KINDS: dict[type, str] = {
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def _registry(table: _Table) -> Registry:
    location = table.location()
    prefix = table.location("prefix") or location
    if not prefix:
        raise table.wrong("location", "neither it nor prefix is set")
    wild = prefix.startswith("*.")
    if not location and not wild:
        raise table.wrong("location", f"it is not set, and prefix {prefix!r:.200} is no *.HOST")
    if wild and any(char in prefix for char in "/@:"):
        raise table.wrong("prefix", f"{prefix!r:.200}: with a wildcard it is *.HOST and no more")
    if table.text("pull-from-mirror"):
        raise table.wrong("pull-from-mirror", "it belongs to a mirror")
    digest_only = table.flag("mirror-by-digest-only")
    return Registry(
        prefix,
        Location(location, table.flag("insecure")),
        tuple(_mirror(each, digest_only) for each in table.tables("mirror")),
        table.flag("blocked"),
        table.path,
    )


def _mirror(table: _Table, digest_only: bool) -> Location:
    location = table.location()
    if not location:
        raise table.wrong("location", "a mirror must have one")
    text = table.text("pull-from-mirror")
    if text and digest_only:
        raise table.wrong("pull-from-mirror", "it cannot go with mirror-by-digest-only")
    try:
        pull_from = PullFrom(text or "all")
    except ValueError:
        raise table.wrong(
            "pull-from-mirror", f"{text!r:.200} is not all, digest-only or tag-only"
        ) from None
    if digest_only:
        pull_from = PullFrom.DIGEST_ONLY
    return Location(location, table.flag("insecure"), pull_from)


def _refuse_conflicts(one: Registry, tables: list[Registry]) -> None:
    place = one.primary.location or one.prefix
    for other in tables:
        if (other.primary.location or other.prefix) != place:
            continue
        for key, differ in (
            ("insecure", one.primary.insecure != other.primary.insecure),
            ("blocked", one.blocked != other.blocked),
        ):
            if differ:
                raise UsageError(f"{one.path}: registry: {place!r:.200} is {key} in one place only")


def _refuse_version_1(top: _Table) -> None:
    old = top.table("registries")
    for key in ("search", "insecure", "block"):
        if "registries" in old.table(key).values:
            raise old.wrong(
                key,
                "this is version 1 of the format; write unqualified-search-registries and "
                "[[registry]] tables instead, as containers-registries.conf(5) has it",
            )


def _aliases(table: _Table) -> dict[str, str]:
    for name, value in table.values.items():
        if not is_short_name(name) or any(char in name for char in ":@"):
            raise table.wrong(repr(name)[:200], "an alias is for a short name, without tag")
        if not isinstance(value, str):
            raise table.wrong(name, f"{value!r:.200} is not a text")
        try:
            parse_registry_reference(name)
            tail = value.partition("/")[2]
            if value and (is_short_name(value) or any(char in tail for char in ":@")):
                raise UsageError(f"{value!r:.200} is not HOST/REPOSITORY, without tag")
            parse_registry_reference(value or name)
        except UsageError as error:
            raise table.wrong(repr(name)[:200], str(error)) from None
    return dict(table.values)
