"""The list of a registry's repositories: distribution's `_catalog`.

It is no part of the distribution-spec, and registries that many share do not answer it, or only
to some of their users. Source: https://distribution.github.io/distribution/spec/api/#catalog
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.errors import BridgeError, NotAuthorised, NotFound
from bridge.oci.reference import is_repository
from bridge.registry.auth import describe
from bridge.registry.endpoint import EndpointClient
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.pages import Listing, iter_names
from bridge.registry.transport import Response

_HINT = "; name the repositories instead"


def iter_repositories(client: EndpointClient, at: Endpoint, meter: Meter | None) -> Iterator[str]:
    """Yield the names of the repositories in the registry's order, each once, as the pages come.

    `at` is the registry, whatever repository it names. Raises `NotFound` where there is no such
    list, `NotAuthorised`, and what `iter_names` does.
    """
    listing = Listing(
        what=f"the catalog of {at.host}",
        path="/v2/_catalog",
        member="repositories",
        is_name=is_repository,
        page_max=limits.CATALOG_PAGE_MAX,
        pages_max=limits.CATALOG_PAGES_MAX,
        names_max=limits.REPOSITORIES_MAX,
        hint=_HINT,
    )

    def failure(reply: Response) -> BridgeError:
        if reply.status in (401, 403):
            reply.close()
            return NotAuthorised(f"{listing.what}: it answered {describe(reply)}{_HINT}")
        if reply.status in (404, 405):
            reply.close()
            return NotFound(f"{listing.what}: it has none, and answered {describe(reply)}{_HINT}")
        return client.failure(at, listing.what, reply)

    return iter_names(client, at, meter, listing, failure)
