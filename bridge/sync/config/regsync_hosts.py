"""The list `creds` of regsync's configuration: what is known of each registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import UsageError
from bridge.oci.reference import DOCKER_HUB, is_host
from bridge.sync.config import values
from bridge.sync.config.reading import Section
from bridge.sync.model import Host

_HUB = {DOCKER_HUB, "registry-1.docker.io", "index.docker.io", "https://index.docker.io/v1/"}
_TLS: dict[str, dict[str, Any]] = {
    "": {},
    "enabled": {"tls_verify": True, "plain_http": False},
    "insecure": {"tls_verify": False, "plain_http": False},
    "disabled": {"tls_verify": False, "plain_http": True},
}
_HELPER = re.compile(r"docker-credential-([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_NEVER = 2**62
"""Bytes that no blob has."""


@dataclass(slots=True)
class _Known:
    host: Host
    priority: int = 0


def read_hosts(
    sections: list[Section], expanded: Callable[[Section, str], str | None]
) -> tuple[Host, ...]:
    """Return the hosts. Of entries for the same one, what a later one says holds.

    `expanded` returns a key's text with its templates expanded.
    """
    known: dict[str, _Known] = {}
    for section in sections:
        name, fields, priority = _fields(section, expanded)
        if name is None:
            continue
        entry = known.setdefault(name, _Known(Host(name)))
        if fields.get("credential_helper"):
            fields = {**fields, "username": None, "password": None, "token": None}
        elif fields.get("password") or entry.host.token:
            fields = {"credential_helper": None, **fields}
        entry.host = replace(entry.host, **fields)
        entry.priority = priority or entry.priority
    return tuple(_with_order(each, known) for each in known.values())


def _with_order(entry: _Known, known: dict[str, _Known]) -> Host:
    """Return the host with its mirrors in the order in which regsync asks them."""

    def priority(name: str) -> int:
        return known[name].priority if name in known else 0

    return replace(entry.host, mirrors=tuple(sorted(entry.host.mirrors, key=priority)))


def _fields(
    section: Section, expanded: Callable[[Section, str], str | None]
) -> tuple[str | None, dict[str, Any], int]:
    """Return the host's name, those of its fields that are given, and its priority."""
    registry = expanded(section, "registry") or ""
    name, plain = _name(registry)
    if not name:
        given = "no registry" if not registry else f"{registry!r:.100} is not a registry's host"
        section.wrong("registry", given)
    tls = section.made("tls", _tls)
    helper = section.made("credHelper", _helper)
    part, whole = section.whole("blobChunk"), section.whole("blobMax", -1)
    found: dict[str, Any] = {
        "username": expanded(section, "user"),
        "password": expanded(section, "pass"),
        "token": section.text("token"),
        "credential_helper": helper,
        "credential_host": section.text("credHost"),
        "address": section.made("hostname", _hostname),
        "authority": expanded(section, "regcert"),
        "client_certificate": expanded(section, "clientCert"),
        "client_key": expanded(section, "clientKey"),
        "path_prefix": (section.text("pathPrefix") or "").strip("/"),
        "mirrors": section.each("mirrors", _mirror),
        "requests_at_once": section.whole("reqConcurrent", 0, 1000),
        "requests_per_second": section.decimal("reqPerSec", zero=True),
        "upload_part": part,
        "upload_whole": _NEVER if whole == -1 else whole,
    }
    fields = {key: value for key, value in found.items() if value}
    fields.update({"plain_http": True, "tls_verify": False} if plain else {})
    fields.update(tls or {})
    section.made("credExpire", values.go_positive)
    priority = section.whole("priority") or 0
    section.flag("repoAuth")
    section.text("api")
    section.text("scheme")
    options = section.section("apiOpts")
    if options is not None:
        for key in options.given:
            options.text(key)
    for key, why in (
        ("credExpire", "a helper is asked again when a registry refuses what it gave"),
        ("repoAuth", "each repository has a token of its own always"),
        ("api", "regsync ignores it, too"),
        ("scheme", "regsync ignores it, too; write tls: disabled for http"),
        ("apiOpts", "none of them changes what is synced"),
    ):
        if section.has(key):
            section.note(key, f"is ignored: {why}")
    section.end()
    return name, fields, priority


def _name(text: str) -> tuple[str | None, bool]:
    """Return the host in `[http[s]://]HOST`, and whether it is plain HTTP."""
    if text in _HUB:
        return DOCKER_HUB, False
    scheme, mark, rest = text.rpartition("://")
    host = rest.partition("/")[0]
    return (host.lower() if is_host(host) else None), bool(mark) and scheme == "http"


def _tls(text: str) -> dict[str, Any]:
    found = _TLS.get(text.lower())
    if found is None:
        raise UsageError(f"{text!r:.100} is none of enabled, insecure and disabled")
    return found


def _helper(text: str) -> str:
    matched = _HELPER.fullmatch(text)
    if matched is None:
        raise UsageError(
            f"{text!r:.100} is not a program docker-credential-NAME; others are not run"
        )
    return matched[1]


def _hostname(text: str) -> str:
    if not is_host(text):
        raise UsageError(f"{text!r:.100} is not a HOST or HOST:PORT")
    return text


def _mirror(text: str) -> str:
    name, _ = _name(text)
    if name is None:
        raise UsageError(f"{text!r:.100} is not a registry's host")
    return name
