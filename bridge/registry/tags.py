"""The list of a repository's tags, page by page: distribution-spec, "Listing Tags".

The next page is where the answer's `Link` says (RFC 8288), which may be relative. Registries give
pages of the size they like; some refuse to be told one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

from bridge import limits
from bridge.errors import NetworkError
from bridge.oci import strict_json
from bridge.oci.reference import is_tag
from bridge.registry.endpoint import EndpointClient
from bridge.registry.message import next_page, origin
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint

_FIRST = "tags/list?n=1000"
_PLAIN = "tags/list"


def iter_tags(client: EndpointClient, at: Endpoint, meter: Meter | None) -> Iterator[str]:
    """Yield the tags in the registry's order, each once, as the pages come.

    Raises `NotFound` where there is no such repository, `NotAuthorised`, `NetworkError` for what is
    no list of tags, one that leads to another host, has a page again or does not end.
    """
    what = f"tags of {at.name}"
    path = _FIRST
    seen: set[str] = set()
    pages: set[str] = set()
    for _ in range(limits.TAG_PAGES_MAX):
        reply = client.send("GET", at, path, {}, limits.TAG_PAGE_MAX, meter)
        if reply.status == 400 and path == _FIRST:
            path = _PLAIN  # its pages are smaller, and it says so by refusing
            reply = client.send("GET", at, path, {}, limits.TAG_PAGE_MAX, meter)
        if reply.status != 200:
            raise client.failure(at, f"repository {at.name}", reply)
        for tag in _parse(what, reply.body):
            if tag not in seen:
                seen.add(tag)
                yield tag
        if len(seen) > limits.TAGS_MAX:
            raise NetworkError(f"{what}: more than {limits.TAGS_MAX}")
        following = next_page(reply.headers.get("Link", ""))
        if following is None:
            return
        path = resolved(what, reply.url, following)
        if path in pages:
            raise NetworkError(f"{what}: a page leads to one that was there before")
        pages.add(path)
    raise NetworkError(f"{what}: more than {limits.TAG_PAGES_MAX} pages")


def resolved(what: str, asked: str, address: str) -> str:
    """Return where the next page of a list is; `NetworkError` for no URL, or another host's."""
    try:
        found = urljoin(asked, address)
    except ValueError:
        raise NetworkError(f"{what}: the next page has the address {address!r:.300}") from None
    if origin(found) != origin(asked):
        raise NetworkError(f"{what}: the next page is on another host; refused")
    return found


def _parse(what: str, body: bytes) -> Iterator[str]:
    try:
        answer: Any = strict_json.parse(body)
        page = answer["tags"] or []
        if not isinstance(page, list):
            raise TypeError
    except (ValueError, LookupError, TypeError):
        raise NetworkError(f"{what}: the answer is no list of tags") from None
    return (tag for tag in page if isinstance(tag, str) and is_tag(tag))
