"""Bearer tokens: what to ask a token server, how to read its answer, and what to keep.

Sources: distribution's token specification (`GET realm?service=…&scope=…`) and its OAuth2 form
(`POST` with a refresh token, for identity tokens). No I/O here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from bridge import limits
from bridge.errors import NetworkError
from bridge.oci import strict_json
from bridge.registry.authfile import Credentials
from bridge.registry.challenge import Challenge
from bridge.registry.message import Request, origin


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is good for: actions (`pull`, `pull,push`) on one repository of one host."""

    host: str
    repository: str
    actions: str = "pull"
    named: bool = True
    """The user named the host, and not just registries.conf: `--creds` are for it."""

    def __str__(self) -> str:
        return f"repository:{self.repository}:{self.actions}"


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of an `Authorization` header and the Unix time from which it is not to be used."""

    value: str = field(repr=False)
    expires: float = float("inf")


def token_request(
    challenge: Challenge,
    scope: Scope,
    credentials: Credentials | None,
    *,
    secure: bool,
) -> Request:
    """Return the request for a token that answers a Bearer challenge.

    With `secure` the realm must be https: the password goes there. Raises `NetworkError`.
    """
    realm = challenge.parameters.get("realm", "")
    try:
        scheme, realm_host, _ = origin(realm)
    except NetworkError as error:
        raise NetworkError(f"{scope.host} names no token server: {error}") from None
    if secure and scheme != "https":
        raise NetworkError(
            f"{scope.host} asks for credentials to be sent to {realm_host} over plain HTTP; refused"
        )
    scopes = [str(scope)]
    if (asked := challenge.parameters.get("scope")) and asked not in scopes:
        scopes.append(asked)
    fields = [("scope", text) for text in scopes]
    if service := challenge.parameters.get("service"):
        fields.insert(0, ("service", service))
    if credentials is not None and credentials.identity_token:
        form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", credentials.identity_token),
            ("client_id", "bootc-py"),
            *((key, value) for key, value in fields if key != "scope"),
            ("scope", " ".join(scopes)),
        ]
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", realm, kind, urlencode(form).encode(), limits.TOKEN_MAX)
    parts = urlsplit(realm)
    query = urlencode([*parse_qsl(parts.query), *fields])
    url = urlunsplit(parts._replace(query=query, fragment=""))
    request = Request("GET", url, limit=limits.TOKEN_MAX)
    return request.authorized(credentials.basic if credentials else None)


def parse_token(raw: bytes, now: float, server: str) -> Authorization:
    """Read a token server's answer; `now` is Unix time. Raises `NetworkError`."""
    try:
        answer: Any = strict_json.parse(raw)
        token = answer.get("token") or answer.get("access_token")
        lifetime = max(0.0, float(answer.get("expires_in") or limits.TOKEN_LIFETIME))
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise NetworkError(f"the token server {server} gave an answer that is no token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise NetworkError(f"the token server {server} gave an answer without a token")
    age = now - _timestamp(answer.get("issued_at"), now)
    if 0 < age < lifetime:  # else one of the two clocks is wrong: count from now
        lifetime -= age
    margin = min(limits.TOKEN_MARGIN, lifetime / 10)
    return Authorization(f"Bearer {token}", now + lifetime - margin)


class TokenCache:
    """What was accepted last, one value for each scope. Safe for several threads."""

    def __init__(self) -> None:
        self._values: dict[Scope, Authorization] = {}
        self._renewing: dict[Scope, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, scope: Scope, now: float) -> str | None:
        """Return the header value for `scope` unless there is none or its time is over."""
        with self._lock:
            kept = self._values.get(scope)
        return kept.value if kept and now < kept.expires else None

    def put(self, scope: Scope, value: Authorization) -> None:
        with self._lock:
            self._values[scope] = value

    def drop(self, scope: Scope, value: str) -> None:
        """Forget a value that was refused, unless it has been replaced already."""
        with self._lock:
            if (kept := self._values.get(scope)) and kept.value == value:
                del self._values[scope]

    def renewing(self, scope: Scope) -> threading.Lock:
        """Return the lock under which one thread gets a new value and the others wait for it."""
        with self._lock:
            return self._renewing.setdefault(scope, threading.Lock())


def _timestamp(text: object, default: float) -> float:
    if not isinstance(text, str):
        return default
    try:
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return default
