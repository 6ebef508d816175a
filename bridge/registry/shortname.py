"""Short names (`fedora/httpd:1`) made whole through registries.conf, and never by a guess.

As containers-registries.conf(5) has it: an alias wins; else the one registry of
`unqualified-search-registries` is taken. With several, podman asks or tries one after the other,
which may fetch a squatter's image; here that is an error that names the candidates, whatever
`short-name-mode` is (`enforcing` without a terminal).
"""

from __future__ import annotations

from bridge.errors import UsageError
from bridge.oci.model import shown
from bridge.oci.reference import is_short_name, parse_registry_reference
from bridge.registry.registriesconf import RegistriesConf


def expand(text: str, conf: RegistriesConf) -> str:
    """Return `text`, or what it stands for when it is a short name; raises `UsageError`."""
    if not is_short_name(text):
        return text
    name = text.partition("@")[0].partition(":")[0]
    if alias := conf.aliases.get(name):
        return alias + text.removeprefix(name)
    search = conf.search or ()
    if len(search) == 1:
        return f"{search[0]}/{text}"
    if search:
        candidates = ", ".join(f"{registry}/{text}" for registry in search)
        raise UsageError(f"{text!r:.300} is a short name; say which is meant: {shown(candidates)}")
    raise UsageError(
        f"{text!r:.300} is a short name and no search registry is configured; write it in "
        f"full, for instance {parse_registry_reference(text)}"
    )
