"""A list of names that a registry gives page by page: a repository's tags, a registry's catalog.

The next page is where the answer's `Link` says (RFC 8288), which may be relative. Registries give
pages of the size they like; some refuse to be told one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from bridge.errors import BridgeError, NetworkError
from bridge.oci import strict_json
from bridge.registry.endpoint import EndpointClient
from bridge.registry.message import next_page, origin
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.transport import Response

_SIZE = "?n=1000"


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, and how much of it is taken."""

    what: str
    """For messages."""
    path: str
    """Where it is: below the repository, or from the registry's root."""
    member: str
    """Of a page's JSON object: that with the names."""
    is_name: Callable[[str], bool]
    """What is none is passed over."""
    page_max: int
    """Bytes of one page."""
    pages_max: int
    names_max: int
    hint: str = ""
    """What to do where there are more."""


def iter_names(
    client: EndpointClient,
    at: Endpoint,
    meter: Meter | None,
    listing: Listing,
    failure: Callable[[Response], BridgeError],
) -> Iterator[str]:
    """Yield the names in the registry's order, each once, as the pages come.

    `failure` makes an error of an answer that is no page. Raises that, and `NetworkError` for what
    is no such list, one that leads to another host, has a page again or does not end.
    """
    what, path = listing.what, listing.path + _SIZE
    seen: set[str] = set()
    pages: set[str] = set()
    for _ in range(listing.pages_max):
        reply = client.send("GET", at, path, {}, listing.page_max, meter)
        if reply.status == 400 and path == listing.path + _SIZE:
            path = listing.path  # its pages are smaller, and it says so by refusing
            reply = client.send("GET", at, path, {}, listing.page_max, meter)
        if reply.status != 200:
            raise failure(reply)
        for name in _parse(listing, reply.body):
            if name not in seen:
                seen.add(name)
                yield name
        if len(seen) > listing.names_max:
            raise NetworkError(f"{what}: more than {listing.names_max}{listing.hint}")
        following = next_page(reply.headers.get("Link", ""))
        if following is None:
            return
        path = _resolved(what, reply.url, following)
        if path in pages:
            raise NetworkError(f"{what}: a page leads to one that was there before")
        pages.add(path)
    raise NetworkError(f"{what}: more than {listing.pages_max} pages")


def _resolved(what: str, asked: str, address: str) -> str:
    try:
        found = urljoin(asked, address)
    except ValueError:
        raise NetworkError(f"{what}: the next page has the address {address!r:.300}") from None
    if origin(found) != origin(asked):
        raise NetworkError(f"{what}: the next page is on another host; refused")
    return found


def _parse(listing: Listing, body: bytes) -> Iterator[str]:
    try:
        answer: Any = strict_json.parse(body)
        page = answer[listing.member] or []
        if not isinstance(page, list):
            raise TypeError
    except (ValueError, LookupError, TypeError):
        raise NetworkError(f"{listing.what}: the answer is no list of {listing.member}") from None
    return (name for name in page if isinstance(name, str) and listing.is_name(name))
