"""Requests and replies as values, and the rules a redirect must keep. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from bridge.errors import NetworkError
from bridge.registry.body import FileBody

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-z0-9._-]+)?")

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")

_LINK = re.compile(
    r'<([^<>]*)>((?:[ \t]*;[ \t]*[^\s;,="<>]+(?:[ \t]*=[ \t]*(?:"[^"<>]*"|[^\s;,"<>]+))?)*)'
)
"""Without `<` in the address, so that a header full of them is not searched from each anew."""
_RELATION = re.compile(r';[ \t]*rel[ \t]*=[ \t]*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)

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
    body: bytes | FileBody | None = field(default=None, repr=False)
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
    if not _HOST.fullmatch(parts.hostname):  # others may read another host in it
        raise NetworkError(f"{url!r:.300} is not a URL with a valid host")
    if parts.username is not None or parts.password is not None:
        raise NetworkError(f"a URL on {parts.hostname!r:.200} carries credentials; refused")
    bracketed = "[" in parts.netloc
    if not _HOST.fullmatch(parts.hostname) or bracketed != (":" in parts.hostname):
        raise NetworkError(f"{url!r:.300} names no host")
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]


def parse_content_range(value: str) -> tuple[int, int, int | None] | None:
    """Return first byte, last byte and size (None for `*`) of a Content-Range, RFC 9110, 14.4.

    None when it is anything else, one whose end is before its start or beyond its size included.
    """
    found = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    size = None if found[3] == "*" else int(found[3])
    if first > last or (size is not None and last >= size):
        return None
    return first, last, size


def next_page(header: str) -> str | None:
    """Return where a `Link` header says that a list goes on (RFC 8288); None where it ends."""
    for address, parameters in _LINK.findall(header):
        found = _RELATION.search(parameters)
        if found is not None and "next" in (found[1] or found[2] or "").lower().split():
            return str(address)
    return None


def located(asked: str, location: str) -> str:
    """Return the URL that a `Location` names in the answer of `asked`, where more is to be sent.

    `NetworkError` for one that is no http(s) URL, or leads from https to http.
    """
    try:
        url = urljoin(asked, location)
    except ValueError:
        raise NetworkError(f"{location!r:.300} is no URL") from None
    if origin(asked)[0] == "https" and origin(url)[0] == "http":
        raise NetworkError(f"{origin(url)[1]} wants what was to go over https over http; refused")
    return url


def redirected(request: Request, location: str) -> Request:
    """Return the request that a redirect to `location` asks for; `NetworkError` if refused.

    Only reads are redirected, never from https to http; credentials stay with their origin.
    """
    was, server = origin(request.url), urlsplit(request.url).netloc
    if request.method not in ("GET", "HEAD"):
        raise NetworkError(f"{server} redirects a {request.method}, which is not followed")
    try:
        url = urljoin(request.url, location)
        now = origin(url)
    except ValueError:
        raise NetworkError(f"{server} redirects to {location!r:.300}, no URL") from None
    except NetworkError as error:
        raise NetworkError(f"{server} redirects where nobody may go: {error}") from None
    if was[0] == "https" and now[0] == "http":
        raise NetworkError(f"{server} redirects from https to http on {now[1]}; refused")
    headers = request.headers
    if now != was:
        headers = {key: value for key, value in headers.items() if key.lower() not in _PRIVATE}
    return replace(request, url=url, headers=headers)
