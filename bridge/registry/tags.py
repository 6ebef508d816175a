"""The list of a repository's tags: distribution-spec, "Listing Tags"."""

from __future__ import annotations

from collections.abc import Iterator

from bridge import limits
from bridge.oci.reference import is_tag
from bridge.registry.endpoint import EndpointClient
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.pages import Listing, iter_names


def iter_tags(client: EndpointClient, at: Endpoint, meter: Meter | None) -> Iterator[str]:
    """Yield the tags in the registry's order, each once, as the pages come.

    Raises `NotFound` where there is no such repository, `NotAuthorised`, and as `iter_names` does.
    """
    listing = Listing(
        what=f"tags of {at.name}",
        path="tags/list",
        member="tags",
        is_name=is_tag,
        page_max=limits.TAG_PAGE_MAX,
        pages_max=limits.TAG_PAGES_MAX,
        names_max=limits.TAGS_MAX,
    )
    return iter_names(
        client, at, meter, listing, lambda reply: client.failure(at, f"repository {at.name}", reply)
    )
