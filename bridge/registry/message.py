"""Requests and replies as values, and the rules a redirect must keep. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from bridge.errors import NetworkError

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_PRIVATE = ("authorization", "cookie", "proxy-authorization")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
"""Names and addresses. Readers of URLs disagree on what ends a host that has anything else."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    limit: int | None = None
    """Read a success whole, up to so many bytes, as part of the try; None leaves it a stream."""
    insecure: bool = False
    """Take any certificate, wherever this leads."""

    def authorized(self, authorization: str | None) -> Request:
        """Return this request with the given `Authorization`, or unchanged without one."""
        if authorization is None:
            return self
        return replace(self, headers={**self.headers, "Authorization": authorization})


class Reply(Protocol):
    """What the authentication flow needs to see of an answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes:
        """The body, when the answer is no success or the request had a limit."""
        ...

    @property
    def foreign(self) -> bool:
        """True when a redirect led to another origin, which this answer is from."""
        ...


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an http(s) URL; `NetworkError` for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NetworkError(f"{url!r:.300} is not a valid URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise NetworkError(f"{url!r:.300} is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise NetworkError(f"a URL on {parts.hostname!r:.200} carries credentials; refused")
    bracketed = "[" in parts.netloc
    if not _HOST.fullmatch(parts.hostname) or bracketed != (":" in parts.hostname):
        raise NetworkError(f"{url!r:.300} names no host")
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]


def redirected(request: Request, location: str) -> Request:
    """Return the request that a redirect to `location` asks for; `NetworkError` if refused.

    Only reads are redirected, never from https to http; credentials stay with their origin.
    """
    was = origin(request.url)
    if request.method not in ("GET", "HEAD"):
        raise NetworkError(f"{was[1]} redirects a {request.method}, which is not followed")
    try:
        url = urljoin(request.url, location)
    except ValueError:
        raise NetworkError(f"{was[1]} redirects to {location!r:.300}") from None
    now = origin(url)
    if was[0] == "https" and now[0] == "http":
        raise NetworkError(f"{was[1]} redirects from https to http on {now[1]}; refused")
    headers = request.headers
    if now != was:
        headers = {key: value for key, value in headers.items() if key.lower() not in _PRIVATE}
    return replace(request, url=url, headers=headers)
