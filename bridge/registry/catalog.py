"""The list of a registry's repositories, page by page: distribution's `_catalog`.

It is no part of the distribution-spec, and registries that many share do not answer it, or only
to some of their users. Source: https://distribution.github.io/distribution/spec/api/#catalog
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge import limits
from bridge.errors import NetworkError, NotAuthorised, NotFound
from bridge.oci import strict_json
from bridge.oci.reference import is_repository
from bridge.registry.auth import describe
from bridge.registry.endpoint import EndpointClient
from bridge.registry.message import next_page
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.tags import resolved

_FIRST = "/v2/_catalog?n=1000"
_PLAIN = "/v2/_catalog"
_HINT = "name the repositories instead"


def iter_repositories(client: EndpointClient, at: Endpoint, meter: Meter | None) -> Iterator[str]:
    """Yield the names of the repositories in the registry's order, each once, as the pages come.

    `at` is the registry, whatever repository it names. Raises `NotFound` where there is no such
    list, `NotAuthorised`, `NetworkError` for what is none, one that leads to another host, has a
    page again or does not end.
    """
    what = f"the catalog of {at.host}"
    path = _FIRST
    seen: set[str] = set()
    pages: set[str] = set()
    for _ in range(limits.CATALOG_PAGES_MAX):
        reply = client.send("GET", at, path, {}, limits.CATALOG_PAGE_MAX, meter)
        if reply.status == 400 and path == _FIRST:
            path = _PLAIN  # its pages are smaller, and it says so by refusing
            reply = client.send("GET", at, path, {}, limits.CATALOG_PAGE_MAX, meter)
        if reply.status in (401, 403):
            reply.close()
            raise NotAuthorised(f"{what}: it answered {describe(reply)}; {_HINT}")
        if reply.status in (404, 405):
            reply.close()
            raise NotFound(f"{what}: it has none, and answered {describe(reply)}; {_HINT}")
        if reply.status != 200:
            raise client.failure(at, what, reply)
        for name in _parse(what, reply.body):
            if name not in seen:
                seen.add(name)
                yield name
        if len(seen) > limits.REPOSITORIES_MAX:
            raise NetworkError(f"{what}: more than {limits.REPOSITORIES_MAX}; {_HINT}")
        following = next_page(reply.headers.get("Link", ""))
        if following is None:
            return
        path = resolved(what, reply.url, following)
        if path in pages:
            raise NetworkError(f"{what}: a page leads to one that was there before")
        pages.add(path)
    raise NetworkError(f"{what}: more than {limits.CATALOG_PAGES_MAX} pages")


def _parse(what: str, body: bytes) -> Iterator[str]:
    try:
        answer: Any = strict_json.parse(body)
        page = answer["repositories"] or []
        if not isinstance(page, list):
            raise TypeError
    except (ValueError, LookupError, TypeError):
        raise NetworkError(f"{what}: the answer is no list of repositories") from None
    return (name for name in page if isinstance(name, str) and is_repository(name))
