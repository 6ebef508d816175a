"""Where credentials come from: `--creds`, auth files, credential helpers.

The order, first find wins:

1. `--creds`, for every registry that the user names: not for mirrors on other hosts.
2. `--authfile`, else `$REGISTRY_AUTH_FILE`: then no other file is read, as in containers.
3. bootc's files: `/run/ostree`, `/etc/ostree` and `/usr/lib/ostree/auth.json` for root,
   `$XDG_RUNTIME_DIR/ostree` and `~/.config/ostree/auth.json` for others. bootc reads only the
   first of them that exists and nothing after; here the search goes on.
4. containers' files: `$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/UID` without that
   variable), `~/.config/containers/auth.json`, `~/.docker/config.json`, `~/.dockercfg`.

Within a file: the helper that `credHelpers` gives the host, the most specific entry of `auths`
(`host/ns/repo`, `host/ns`, `host`), and last Docker's `credsStore`. `credential-helpers` of
registries.conf, if set, says which helpers are asked before or instead of all files. Sources:
containers-auth.json(5), bootc's documentation of secrets, docker-credential-helpers.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge import limits
from bridge.errors import UsageError
from bridge.oci import strict_json
from bridge.oci.reference import DOCKER_HUB
from bridge.registry.options import NetworkOptions
from bridge.registry.registriesconf import AUTH_FILES

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,99}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password, or an identity token; `source` says where they were found."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = ""

    @property
    def basic(self) -> str:
        """The value of an `Authorization: Basic` header."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


@dataclass(frozen=True, slots=True)
class AuthFile:
    """A file to look into. `legacy`: the auths table is the whole document (`.dockercfg`)."""

    path: str
    explicit: bool = False
    legacy: bool = False


def auth_files(
    options: NetworkOptions, environ: Mapping[str, str], uid: int
) -> tuple[AuthFile, ...]:
    """Return the files to look into, in order."""
    explicit = options.authfile or environ.get("REGISTRY_AUTH_FILE")
    if explicit:
        return (AuthFile(explicit, explicit=True),)
    home = environ.get("HOME") or "/"
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    runtime = environ.get("XDG_RUNTIME_DIR")
    if uid == 0:
        ostree = ["/run/ostree", "/etc/ostree", "/usr/lib/ostree"]
    else:
        ostree = [f"{runtime}/ostree"] if runtime else []
        ostree.append(f"{config}/ostree")
    containers = f"{runtime}/containers" if runtime else f"/run/containers/{uid}"
    docker = environ.get("DOCKER_CONFIG") or f"{home}/.docker"
    return (
        *(AuthFile(f"{directory}/auth.json") for directory in ostree),
        AuthFile(f"{containers}/auth.json"),
        AuthFile(f"{config}/containers/auth.json"),
        AuthFile(f"{docker}/config.json"),
        AuthFile(f"{home}/.dockercfg", legacy=True),
    )


class CredentialStore:
    """Finds the credentials for a repository. Safe for several threads; each is asked for once."""

    def __init__(
        self,
        options: NetworkOptions,
        environ: Mapping[str, str] = os.environ,
        uid: int | None = None,
        helpers: tuple[str, ...] | None = None,
    ) -> None:
        """`helpers` are the `credential-helpers` of registries.conf."""
        self.files = auth_files(options, environ, os.geteuid() if uid is None else uid)
        self._environ = environ
        self._given = _parse_creds(options.creds)
        self._helpers = helpers or (AUTH_FILES,)
        self._found: dict[str, Credentials | None] = {}
        self._lock = threading.Lock()

    def find(self, host: str, repository: str, *, named: bool = True) -> Credentials | None:
        """Return credentials for `host/repository`, or None.

        `named`: the user named that host, so that what they gave with `--creds` is meant for it.
        Raises `UsageError` when a file cannot be understood or its helper cannot be run.
        """
        if self._given is not None and named:
            return self._given
        name = f"{host}/{repository}"
        with self._lock:
            if name not in self._found:
                searches = (self._consult(helper, host, name) for helper in self._helpers)
                self._found[name] = next(filter(None, searches), None)
            return self._found[name]

    def asked(self, helper: str, host: str) -> Credentials | None:
        """Return what a helper says of a host; it is asked once."""
        name = f"{helper} {host}"
        with self._lock:
            if name not in self._found:
                self._found[name] = self._ask_helper(helper, host, "the configuration")
            return self._found[name]

    def _consult(self, helper: str, host: str, name: str) -> Credentials | None:
        if helper != AUTH_FILES:
            return self._ask_helper(helper, host, "registries.conf")
        searches = (self._search(file, host, name) for file in self.files)
        return next(filter(None, searches), None)

    def _search(self, file: AuthFile, host: str, name: str) -> Credentials | None:
        document = _read(file)
        if file.legacy:
            document = {"auths": document}
        auths = _table(document, "auths", file.path)
        helper = _table(document, "credHelpers", file.path).get(host)
        if helper and (found := self._ask_helper(helper, host, f"auth file {file.path}")):
            return found
        for entry in _candidates(auths, host, name):
            if found := _decode(entry, file.path):
                return found
        if store := document.get("credsStore"):
            server = _DOCKER_HUB_KEY if host == DOCKER_HUB else host
            return self._ask_helper(store, server, f"auth file {file.path}")
        return None

    def _ask_helper(self, helper: object, server: str, file: str) -> Credentials | None:
        """Run `docker-credential-HELPER get`, which reads the server's name from stdin."""
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            raise UsageError(f"{file}: {helper!r:.100} is no name of a credential helper")
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"],
                input=server.encode(),
                capture_output=True,
                timeout=limits.CREDENTIAL_HELPER_TIMEOUT,
                env=dict(self._environ),
                check=False,
            )
        except FileNotFoundError:
            raise UsageError(
                f"{file} wants {program} for {server}, which is not installed; install "
                "it or give --creds"
            ) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"running {program} for {server}: {error}") from None
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
            if "credentials not found" in said:
                return None
            raise UsageError(f"{program} failed for {server}: {said!r:.300}")
        try:
            answer: Any = strict_json.parse(done.stdout)
            user, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{program} gave no credentials in JSON for {server}") from None
        if user == "<token>":
            return Credentials(identity_token=secret, source=program)
        return Credentials(user, secret, source=program)


def _parse_creds(text: str | None) -> Credentials | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise UsageError("--creds must be USER:PASSWORD")
    return Credentials(user, password, source="--creds")


def _read(file: AuthFile) -> dict[str, Any]:
    """Return a file's document, empty when there is none and it was not asked for by name."""
    try:
        with Path(file.path).open("rb") as stream:
            raw = stream.read(limits.AUTH_FILE_MAX + 1)
    except OSError as error:
        if file.explicit or not isinstance(
            error, FileNotFoundError | NotADirectoryError | PermissionError
        ):
            raise UsageError(f"reading auth file {file.path}: {error.strerror}") from None
        return {}
    try:
        if len(raw) > limits.AUTH_FILE_MAX:
            raise ValueError("it is too long")
        document = strict_json.parse(raw)
        if not isinstance(document, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as error:
        raise UsageError(f"auth file {file.path}: {str(error)[:200]}") from None
    return document


def _table(document: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    table = document.get(key) or {}
    if not isinstance(table, dict):
        raise UsageError(f"auth file {path}: {key} is not a JSON object")
    return table


def _candidates(auths: Mapping[str, Any], host: str, name: str) -> list[object]:
    """Return the entries for a repository, the most specific first."""
    keys = [name]
    while "/" in keys[-1]:
        keys.append(keys[-1].rpartition("/")[0])
    exact = [auths[key] for key in keys if key in auths]
    # `docker login` used to keep URLs, and still does for Docker Hub.
    return exact + [auths[key] for key in auths if key not in keys and _host_of(key) == host]


def _host_of(key: str) -> str:
    bare = key.removeprefix("https://").removeprefix("http://")
    if bare == key:
        return DOCKER_HUB if key in _DOCKER_HUB_HOSTS else ""
    host = bare.partition("/")[0]
    return DOCKER_HUB if host in _DOCKER_HUB_HOSTS else host


def _decode(entry: object, path: str) -> Credentials | None:
    """Return an entry's credentials; None for one without any, as `credsStore` leaves them."""
    if not isinstance(entry, dict):
        raise UsageError(f"auth file {path}: an entry of auths is not a JSON object")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            text = base64.b64decode(str(encoded), validate=True).decode("utf-8")
        except ValueError:
            raise UsageError(f"auth file {path}: an auth value is not base64") from None
        user, colon, password = text.partition(":")
        password = password.strip("\0")
        if not colon:
            return None
    token = str(entry.get("identitytoken") or "")
    if not token and not user:
        return None
    return Credentials(user, password, token, source=path)
