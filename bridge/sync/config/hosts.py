"""The section `registries` of our own format: what is known of each host."""

from __future__ import annotations

import os.path
import re

from bridge import limits
from bridge.errors import UsageError
from bridge.oci.reference import is_host
from bridge.sync.config import secrets, values
from bridge.sync.config.reading import Section
from bridge.sync.model import Host

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def read_hosts(section: Section, directory: str, with_secrets: bool) -> tuple[Host, ...]:
    """Return the hosts of `registries`. Without secrets, no file or variable is looked at."""
    found: dict[str, Host] = {}
    for key in section.given:
        each = section.section(key)
        if not is_host(key):
            section.wrong(key, f"{key!r:.100} is not a registry's HOST or HOST:PORT")
            continue
        name = key.lower()
        if name in found:
            section.wrong(key, f"the registry {name} again")
        if each is not None:
            found[name] = _host(name, each, directory, with_secrets)
    return tuple(found.values())


def _host(name: str, section: Section, directory: str, with_secrets: bool) -> Host:
    username = section.text("username")
    password = _secret(section, "password", directory, with_secrets)
    token = _secret(section, "token", directory, with_secrets)
    helper = section.made("credential-helper", _helper)
    has_password = section.has("password-file") or section.has("password-env")
    if (username is not None) != has_password:
        section.wrong(None, "username and password-file or password-env go together")
    ways = (username is not None, token is not None, helper is not None)
    if sum(ways) > 1:
        section.wrong(None, "one of username, token and credential-helper, not more of them")
    cert_dir = section.text("cert-dir")
    host = Host(
        name,
        username=username,
        password=password,
        token=token,
        credential_helper=helper,
        address=section.made("address", _host_name),
        tls_verify=section.flag("tls-verify"),
        plain_http=section.flag("plain-http") or False,
        cert_dir=None if cert_dir is None else os.path.join(directory, cert_dir),
        mirrors=section.each("mirrors", _mirror),
        requests_at_once=section.whole("requests-at-once", 1, 1000) or limits.SYNC_REQUESTS_AT_ONCE,
        requests_per_second=section.decimal("requests-per-second"),
        bandwidth=section.made("bandwidth", values.rate),
        upload_part=section.made("upload-part", values.size),
        upload_whole=section.made("upload-whole", values.size),
    )
    section.end()
    return host


def _secret(section: Section, name: str, directory: str, with_secrets: bool) -> str | None:
    """Return what the keys `NAME-file` and `NAME-env` lead to."""
    if section.node(name) is not None:
        section.wrong(
            name, f"a {name} is not kept in this file; write {name}-file or {name}-env instead"
        )
    file, variable = section.text(f"{name}-file"), section.text(f"{name}-env")
    if file is not None and variable is not None:
        section.wrong(f"{name}-env", f"one of {name}-file and {name}-env, not both")
    if not with_secrets or (file is None and variable is None):
        return "" if file or variable else None
    try:
        if file is not None:
            return secrets.from_file(os.path.join(directory, file))
        return secrets.from_environment(variable or "")
    except UsageError as error:
        section.wrong(f"{name}-file" if file is not None else f"{name}-env", str(error))
        return ""


def _helper(text: str) -> str:
    name = text.removeprefix("docker-credential-")
    if not _HELPER.fullmatch(name):
        raise UsageError(f"{text!r:.100} is not the NAME of a program docker-credential-NAME")
    return name


def _host_name(text: str) -> str:
    if not is_host(text):
        raise UsageError(f"{text!r:.100} is not a HOST or HOST:PORT")
    return text


def _mirror(text: str) -> str:
    host, _, path = text.rstrip("/").partition("/")
    if not is_host(host) or (path and not re.fullmatch(r"[a-z0-9._/-]+", path)):
        raise UsageError(f"{text!r:.100} is not a HOST or HOST/PATH")
    return text.rstrip("/")
