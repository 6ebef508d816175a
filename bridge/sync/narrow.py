"""What of an index is copied where a job names platforms.

Of one platform it is that image's manifest, by its own digest. Of several it is an index that lists
these alone, made anew, so that its digest is another; or, `sparse`, the index as it is, which then
lists what is not there: many registries refuse that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.errors import MalformedImage
from bridge.oci.artifact import dumps
from bridge.oci.model import Descriptor, Index, Manifest, Platform, parse_document, shown
from bridge.push.origin import Origin
from bridge.sync.model import Job


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A document that is put under the tag, and which entries of it are copied."""

    top: Manifest | Index
    wants: Callable[[Descriptor], bool] = lambda entry: True


def narrow(job: Job, origin: Origin, top: Manifest | Index) -> Narrowed:
    """Return what the job wants of an image; `MalformedImage` where that is nothing."""
    if not job.platforms or isinstance(top, Manifest):
        return Narrowed(top)
    platforms = [parsed(each) for each in job.platforms]

    def wants(entry: Descriptor) -> bool:
        found = entry.platform
        return found is not None and any(each.accepts(found) for each in platforms)

    chosen = [entry for entry in top.manifests if wants(entry)]
    if not chosen:
        offered = ", ".join(str(each.platform) for each in top.manifests if each.platform)
        raise MalformedImage(
            f"index {top.digest} has no image for {', '.join(job.platforms)}; it has: "
            f"{shown(offered) or 'none'}"
        )
    if job.sparse:
        return Narrowed(top, wants)
    if len(platforms) == 1:
        return Narrowed(origin.document(chosen[0]))
    if len(chosen) == len(top.manifests):
        return Narrowed(top)
    return Narrowed(_only(top, {each.digest for each in chosen}))


def _only(top: Index, digests: set[Any]) -> Index:
    document: dict[str, Any] = json.loads(top.raw)
    document["manifests"] = [each for each in document["manifests"] if each["digest"] in digests]
    made = parse_document(dumps(document), top.media_type)
    assert isinstance(made, Index)
    return made


def parsed(text: str) -> Platform:
    """Return `os/arch[/variant]` as a platform."""
    parts = text.split("/", 2)
    if len(parts) == 1:
        return Platform("linux", parts[0])
    return Platform(parts[0], parts[1], parts[2] if len(parts) > 2 else "")
