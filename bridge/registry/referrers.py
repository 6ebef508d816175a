"""Which manifests of a registry refer to an image, and one more that does.

What signatures, bills of materials and deltas are found by. A registry that has the referrers API
keeps the list itself, and says so when it takes a manifest with a `subject`. For any other there is
an index under a tag made from the subject's digest: whoever adds a manifest adds it there, too.
A tag has no lock: what is written is read again, and an entry that another writer's index lacks,
theirs or ours, is put back.
Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urljoin

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, NetworkError, NotFound
from bridge.oci import strict_json
from bridge.oci.artifact import chosen, described, descriptor_of, fallback_tag, with_referrer
from bridge.oci.digest import Digest
from bridge.oci.model import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Index,
    parse_document,
)
from bridge.registry.auth import describe
from bridge.registry.endpoint import EndpointClient
from bridge.registry.message import next_page, origin
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.push import Pusher
from bridge.registry.support import Support
from bridge.registry.transport import Response, TooLarge

_NONE = frozenset({303, 400, 404, 405, 406, 501})
"""Answers of registries without the API: GitHub's redirects to a page, say."""


def find(
    asking: EndpointClient,
    at: Endpoint,
    subject: Digest,
    artifact_type: str | None,
    support: Support,
    meter: Meter | None = None,
) -> tuple[Descriptor, ...]:
    """Return what the repository at `at` lists as referring to `subject`.

    All of it, or what has one artifact type. It is a hint: `artifact.require_subject` holds a
    manifest to it. Raises `NotAuthorised`, `NetworkError`, and `MalformedImage` for a list that is
    none or too long.
    """
    listed = None
    if support.of(at.host) is not False:
        listed = from_api(asking, at, subject, artifact_type, support, meter)
    if listed is None:
        index = _tagged(asking, at, fallback_tag(subject), meter)
        listed = list(index[0].manifests) if index else []
    return chosen(listed, artifact_type)


def push(pusher: Pusher, raw: bytes, media_type: str, tag: str | None, support: Support) -> Digest:
    """Put a manifest as `Pusher.push_manifest` does; where it has a subject, it is listed there.

    Raises what that does, and `NetworkError` where other writers kept changing the list.
    """
    document = parse_document(raw, media_type)
    put = pusher.put_manifest(raw, media_type, tag)
    if document.subject is None:
        return put.digest
    at = pusher.endpoint
    support.learn(at.host, put.subject == document.subject.digest)
    if put.subject != document.subject.digest:
        listing = _Listing(pusher, fallback_tag(document.subject.digest))
        listing.add(described(descriptor_of(document)))
    return put.digest


def from_api(
    asking: EndpointClient,
    at: Endpoint,
    subject: Digest,
    artifact_type: str | None,
    support: Support,
    meter: Meter | None,
) -> list[Descriptor] | None:
    """Return the list of the API, with what `find` leaves out; None where there is no such. Same
    errors."""
    what = f"referrers of {subject} in {at.name}"
    path = f"referrers/{subject}"
    if artifact_type is not None:
        path += f"?artifactType={quote(artifact_type, safe='')}"
    found: list[Descriptor] = []
    for page in range(limits.REFERRERS_PAGES_MAX):
        try:
            reply = asking.send("GET", at, path, {"Accept": OCI_INDEX}, limits.MANIFEST_MAX, meter)
        except TooLarge as error:
            raise MalformedImage(f"{what}: {error}") from None
        index = _as_index(reply) if reply.status == 200 else None
        if index is None:
            if page == 0 and (reply.status == 200 or reply.foreign or reply.status in _NONE):
                reply.close()
                # Of a repository that is not there yet some say the same, API or not.
                if "NAME_UNKNOWN" not in describe(reply):
                    support.learn(at.host, False)
                return None
            if reply.status == 200:
                raise MalformedImage(f"{what}: the answer is not an image index")
            raise asking.failure(at, what, reply)
        support.learn(at.host, True)
        found += index.manifests
        if len(found) > limits.INDEX_ENTRIES_MAX:
            raise MalformedImage(f"{what}: more than {limits.INDEX_ENTRIES_MAX}")
        link = next_page(reply.headers.get("Link", ""))
        if link is None:
            return found
        path = urljoin(reply.url, link)
        if origin(path) != origin(reply.url):
            raise NetworkError(f"{what}: the next page is on another host; refused")
    raise NetworkError(f"{what}: more than {limits.REFERRERS_PAGES_MAX} pages")


def _as_index(reply: Response) -> Index | None:
    media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in (OCI_INDEX, "application/json"):
        return None
    try:
        document = parse_document(reply.body)
    except MalformedImage:
        return None
    return document if isinstance(document, Index) else None


def _tagged(
    asking: EndpointClient, at: Endpoint, tag: str, meter: Meter | None
) -> tuple[Index, dict[str, Any]] | None:
    """Return the index under a fallback tag, parsed and as JSON has it; None where none is."""
    what = f"the referrers' index {at.name}:{tag}"
    try:
        reply = asking.send(
            "GET", at, f"manifests/{tag}", {"Accept": OCI_INDEX}, limits.MANIFEST_MAX, meter
        )
    except TooLarge as error:
        raise MalformedImage(f"{what}: {error}") from None
    if reply.status == 404:
        reply.close()
        return None
    if reply.status != 200:
        raise asking.failure(at, what, reply)
    try:
        document = parse_document(reply.body)
    except MalformedImage as error:
        raise MalformedImage(f"{what}: {error}") from None
    if not isinstance(document, Index):
        raise MalformedImage(f"{what} is no index; nothing can be added where that tag is taken")
    parsed = strict_json.parse(reply.body)
    assert isinstance(parsed, dict)
    return document, parsed


class _Listing:
    """The index under a fallback tag, as it is changed."""

    def __init__(self, pusher: Pusher, tag: str) -> None:
        self._pusher = pusher
        self._tag = tag
        self._entries: dict[str, dict[str, Any]] = {}
        """All that were seen there, and ours: none of them may be missing at the end."""
        self._deleted: set[str] = set()
        """What the list names and the registry has no more: some take no such list."""

    def add(self, entry: dict[str, Any]) -> None:
        """Have the entry there, and all that others put there."""
        self._entries[entry["digest"]] = entry
        settled = True
        for _ in range(limits.REFERRERS_TRIES):
            listed = self._read()
            there = {each["digest"] for each in (listed or {}).get("manifests", ())}
            if self._entries.keys() - self._deleted <= there:
                if settled:
                    return
                # Who read the list before we wrote it may write theirs just now.
                settled = True
                self._pusher.transport.pause(limits.REFERRERS_SETTLE)
            else:
                settled = False
                self._write(listed)
        raise self._lost()

    def _write(self, listed: dict[str, Any] | None) -> None:
        raw = with_referrer(listed, self._entries.values(), without=self._deleted)
        try:
            self._pusher.put_manifest(raw, OCI_INDEX, self._tag)
        except (NetworkError, NotFound):
            deleted = {each for each in self._entries if not self._has(each)}
            if not deleted - self._deleted:
                raise
            self._deleted |= deleted

    def _has(self, digest: str) -> bool:
        kinds = ", ".join(MANIFEST_TYPES + INDEX_TYPES)
        reply = self._pusher.send("HEAD", f"manifests/{digest}", {"Accept": kinds})
        reply.close()
        return reply.status != 404

    def _read(self) -> dict[str, Any] | None:
        pusher = self._pusher
        found = _tagged(pusher.asking, pusher.endpoint, self._tag, None)
        if found is None:
            return None
        for each in found[1]["manifests"]:
            self._entries.setdefault(each["digest"], each)
        return found[1]

    def _lost(self) -> BridgeError:
        return NetworkError(
            f"the referrers' index {self._pusher.endpoint.name}:{self._tag}: others write it all "
            "the time; try again when they are done"
        )
