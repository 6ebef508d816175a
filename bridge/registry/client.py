"""A registry's read side: manifests, blobs and tags of the OCI distribution-spec, verified.

Manifests are raw bytes with the digest we computed; which instance of an index is meant is
decided above. Where a reference is asked for, `bridge.registry.mirrors` tells; how one place is
asked, `bridge.registry.endpoint`. Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from bridge import limits
from bridge.errors import MalformedImage, RangeRefused, VerificationFailed
from bridge.oci.digest import Digest, Verifier
from bridge.oci.model import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from bridge.oci.reference import RegistryReference
from bridge.registry import referrers
from bridge.registry.auth import Authenticator
from bridge.registry.authfile import CredentialStore
from bridge.registry.blob import BlobStream, body_length
from bridge.registry.catalog import iter_repositories
from bridge.registry.conffiles import load_registries
from bridge.registry.connection import Connection
from bridge.registry.endpoint import EndpointClient, api_host
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint, Route, Turn, along, endpoints, only_endpoint
from bridge.registry.observed import Observed
from bridge.registry.options import NetworkOptions
from bridge.registry.ranges import Ranges
from bridge.registry.registriesconf import RegistriesConf
from bridge.registry.support import Support
from bridge.registry.tags import iter_tags
from bridge.registry.transport import Response, TooLarge, Transport

_ACCEPT = ", ".join(MANIFEST_TYPES + INDEX_TYPES)
_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)


_NO_HEAD = frozenset({200, 405, 501})
"""Answers to a HEAD, without a digest, that a GET may have one for."""


class FetchedManifest(NamedTuple):
    """A manifest or index: its bytes as served, the Content-Type, the digest of the bytes."""

    raw: bytes
    media_type: str
    digest: Digest


class ManifestHead(NamedTuple):
    """What a registry says of a manifest without sending it; nothing of it is verified."""

    media_type: str
    digest: Digest | None
    size: int | None


class WholeBlob(NamedTuple):
    """All of a blob, on its way from the endpoint that was asked for a part of it."""

    turn: Turn
    stream: BlobStream


class Client:
    """Reads registries. Safe for several threads; each request counts into the meter given.

    References are those that users name: `registries` (by default the files of this host) says
    where they are asked for, and `tell` takes a line whenever that is not the first such place.
    """

    def __init__(
        self,
        options: NetworkOptions | None = None,
        meter: Meter | None = None,
        *,
        credentials: CredentialStore | None = None,
        transport: Transport | None = None,
        registries: RegistriesConf | None = None,
        tell: Callable[[str], None] = lambda text: None,
        connection: Connection | None = None,
    ) -> None:
        """`connection` is one that others use, too; it stays open, and is all that is needed."""
        self.meter = meter or Meter()
        if connection is None:
            options = options or NetworkOptions()
            self._transport = transport or Transport(options)
            self._registries = load_registries() if registries is None else registries
            if credentials is None:
                credentials = CredentialStore(options, helpers=self._registries.credential_helpers)
            auth, reached = Authenticator(credentials), None
            self._referrers = Support()
        else:
            options = connection.options
            self._transport, auth = connection.transport, connection.auth
            self._registries, reached = connection.registries, connection.reached
            self._referrers = connection.support
        self._shared = connection is not None
        self._tls_verify = options.tls_verify
        self._endpoint = EndpointClient(self._transport, auth, self.meter, reached=reached)
        self._ranges = Ranges(self._endpoint)
        self._tell = tell
        self._routes: dict[RegistryReference, Route] = {}
        self._lock = threading.Lock()

    def get_manifest(
        self,
        ref: RegistryReference,
        meter: Meter | None = None,
        *,
        instance: Digest | None = None,
    ) -> FetchedManifest:
        """Return the manifest or index that `ref` names, held to its digest if it has one.

        `instance` is the digest of one that the index of that name lists, which is asked for
        instead. Raises `NotFound`, `NotAuthorised`, `NetworkError`, `VerificationFailed`
        (`Blocked` among them), and `MalformedImage` for what is too large or of Docker's schema 1.
        """

        def get(at: Endpoint) -> FetchedManifest:
            return self._get_manifest(at.with_digest(instance) if instance else at, meter)

        return self._route(ref).ask(get)

    def _get_manifest(self, ref: Endpoint, meter: Meter | None) -> FetchedManifest:
        try:
            reply = self._manifest("GET", ref, limits.MANIFEST_MAX, meter)
        except TooLarge as error:
            raise MalformedImage(f"manifest {ref}: {error}") from None
        raw, media_type = reply.body, _media_type(reply)
        if media_type in _SCHEMA1:
            raise MalformedImage(f"{ref}: Docker's manifest schema 1 is not supported")
        claimed = ref.digest or _claimed_digest(ref, reply)
        if claimed is not None:
            verifier = Verifier(f"manifest {ref}", claimed)
            verifier.update(raw)
            verifier.finish()
        return FetchedManifest(raw, media_type, ref.digest or Digest.of(raw))

    def head_manifest(self, ref: RegistryReference, meter: Meter | None = None) -> ManifestHead:
        """Return what the registry says of the manifest that `ref` names; same errors."""

        def head(at: Endpoint) -> ManifestHead:
            reply = self._manifest("HEAD", at, None, meter)
            reply.close()
            return ManifestHead(_media_type(reply), _claimed_digest(at, reply), body_length(reply))

        return self._route(ref).ask(head)

    def current(
        self, ref: RegistryReference, meter: Meter | None = None, *, itself: bool = False
    ) -> ManifestHead:
        """Return what `ref` names now, its digest in any case: asked for with HEAD, and fetched
        where a registry does not answer that with a digest. With `itself` no mirror is asked, nor
        another location. Same errors."""

        def ask(at: Endpoint) -> ManifestHead:
            path = f"manifests/{at.identifier}"
            reply = self._endpoint.send("HEAD", at, path, {"Accept": _ACCEPT}, None, meter)
            reply.close()
            if reply.status == 200 and (digest := _claimed_digest(at, reply)) is not None:
                return ManifestHead(_media_type(reply), digest, body_length(reply))
            if reply.status not in _NO_HEAD:
                raise self._endpoint.failure(at, f"image {at}", reply)
            found = self._get_manifest(at, meter)
            return ManifestHead(found.media_type, found.digest, len(found.raw))

        if itself:
            return ask(only_endpoint(ref, self._registries, self._tls_verify))
        return self._route(ref).ask(ask)

    def iter_blob(
        self,
        ref: RegistryReference,
        descriptor: Descriptor,
        start: int = 0,
        meter: Meter | None = None,
        *,
        end: int | None = None,
        opened: WholeBlob | None = None,
    ) -> Generator[bytes, None, None]:
        """Yield a blob's bytes from `start` to its size, each once, resuming when the body breaks.

        With `end` they may end there, and do where ranges are served. `opened` is a body of the
        blob that `iter_range` met, to be used up. What one endpoint does not give goes on at the
        next. The caller verifies the digest, and says `distrust` if it is wrong. Raises `NotFound`,
        `NotAuthorised`, `NetworkError`, and `VerificationFailed` when a registry announces another
        size than the descriptor's.
        """
        ready = [opened.stream] if opened is not None else []

        def body(at: Endpoint, done: int) -> Generator[bytes, None, None]:
            stream = ready.pop() if ready else None
            until = None if self._ranges.refused(at) else end
            return self._endpoint.iter_blob(at, descriptor, done, meter, until, stream)

        route = self._route(ref)
        turn = opened.turn if opened is not None else route.turn(descriptor.digest)
        return along(route, turn, descriptor.digest, start, body)

    def iter_range(
        self,
        ref: RegistryReference,
        descriptor: Descriptor,
        start: int,
        end: int,
        meter: Meter | None = None,
        on_whole: Callable[[WholeBlob], None] = lambda whole: whole.stream.close(),
    ) -> Generator[bytes, None, None]:
        """Yield a blob's bytes from `start` to `end` (exclusive), as `iter_blob` does.

        Raises `RangeRefused` where the host does not serve parts of blobs: without a request, once
        that is known. `on_whole` is given the body where it answered with the whole blob instead.
        """
        route = self._route(ref)
        turn = route.turn(descriptor.digest)

        def whole(stream: BlobStream) -> None:
            on_whole(WholeBlob(turn, stream))

        def body(at: Endpoint, done: int) -> Generator[bytes, None, None]:
            return self._ranges.iterate(at, descriptor, done, end, meter, whole)

        return along(route, turn, descriptor.digest, start, body)

    def distrust(self, ref: RegistryReference, blob: Digest) -> bool:
        """Take that `iter_blob` gave wrong bytes; tell whether to try again may bring others."""
        return self._route(ref).distrust(blob)

    def read_range(
        self,
        ref: RegistryReference,
        descriptor: Descriptor,
        start: int,
        length: int,
        meter: Meter | None = None,
    ) -> bytes | None:
        """Return a few bytes of a blob, unverified: a hint. None where ranges are not served.

        The endpoint is asked that the blob itself would be asked for first, and no other: nothing
        is handed over for a hint. Raises `NotFound`, `NotAuthorised`, `NetworkError`.
        """
        at = self._route(ref).turn(descriptor.digest).endpoint
        try:
            with self._ranges.open(at, descriptor, start, start + length, meter) as stream:
                return None if stream.whole else b"".join(stream)
        except RangeRefused:
            return None

    def observed(self, ref: RegistryReference) -> Observed:
        """Return how fast the host was seen to be that the image's blobs come from."""
        at = self._route(ref).turn().endpoint
        registry = self._transport.observed(api_host(at))
        storage = self._ranges.storage(at)
        if storage is None:
            return registry
        seen = self._transport.observed(storage)
        # Nothing better is known of a storage that was asked only once.
        return Observed(seen.round_trip or registry.round_trip, seen.bytes_per_second)

    def read_blob(
        self,
        ref: RegistryReference,
        descriptor: Descriptor,
        limit: int = limits.CONFIG_MAX,
        meter: Meter | None = None,
    ) -> bytes:
        """Return a small blob (a config, say), held to its digest and size."""
        what = f"blob {descriptor.digest} of {ref.name}"
        if descriptor.size > limit:
            raise MalformedImage(f"{what}: {descriptor.size} bytes; the limit is {limit}")
        while True:
            verifier = Verifier(what, descriptor.digest, descriptor.size)
            parts = []
            for chunk in self.iter_blob(ref, descriptor, meter=meter):
                verifier.update(chunk)
                parts.append(chunk)
            try:
                verifier.finish()
            except VerificationFailed:
                if not self.distrust(ref, descriptor.digest):
                    raise
            else:
                return b"".join(parts)

    def tags(self, ref: RegistryReference, meter: Meter | None = None) -> Iterator[str]:
        """Yield the tags of a repository, in the registry's order, as their pages come.

        Mirrors are not asked, nor is another location: they are for images, as in containers.
        Raises what `iter_tags` raises, and `Blocked`.
        """
        return iter_tags(
            self._endpoint, only_endpoint(ref, self._registries, self._tls_verify), meter
        )

    def repositories(self, host: str, meter: Meter | None = None) -> Iterator[str]:
        """Yield the names of a registry's repositories, in its order; raises as
        `catalog.iter_repositories`, and `Blocked`."""
        ref = RegistryReference(host, "catalog")
        at = only_endpoint(ref, self._registries, self._tls_verify)
        return iter_repositories(self._endpoint, at, meter)

    def list_tags(self, ref: RegistryReference, meter: Meter | None = None) -> list[str]:
        """Return all that `tags` yields."""
        return list(self.tags(ref, meter))

    def list_referrers(
        self,
        ref: RegistryReference,
        subject: Digest,
        artifact_type: str | None = None,
        meter: Meter | None = None,
    ) -> tuple[Descriptor, ...]:
        """Return the manifests that refer to `subject`, of one artifact type or of all.

        A hint: `oci.artifact.require_subject` holds what `get_manifest` returns to it. Whoever has
        the image is asked, a mirror too. Same errors as `get_manifest`.
        """
        return self._route(ref).ask(
            lambda at: referrers.find(
                self._endpoint, at, subject, artifact_type, self._referrers, meter
            )
        )

    def has_referrers(
        self, ref: RegistryReference, subject: Digest, meter: Meter | None = None
    ) -> bool:
        """Tell whether the registry lists by itself what refers to a manifest; it is asked if that
        is not known of it. Same errors as `get_manifest`."""
        known = self._referrers.of(ref.host)
        if known is not None:
            return known
        return self._route(ref).ask(
            lambda at: (
                referrers.from_api(self._endpoint, at, subject, None, self._referrers, meter)
                is not None
            )
        )

    def close(self) -> None:
        """Close the idle connections, unless they are shared."""
        if not self._shared:
            self._transport.close()

    def _route(self, ref: RegistryReference) -> Route:
        with self._lock:
            if ref not in self._routes:
                places = endpoints(ref, self._registries, self._tls_verify)
                self._routes[ref] = Route(ref, places, self._tell)
            return self._routes[ref]

    def _manifest(
        self, method: str, ref: Endpoint, limit: int | None, meter: Meter | None
    ) -> Response:
        path = f"manifests/{ref.identifier}"
        reply = self._endpoint.send(method, ref, path, {"Accept": _ACCEPT}, limit, meter)
        if reply.status == 200:
            return reply
        raise self._endpoint.failure(ref, f"image {ref}", reply)


def _media_type(reply: Response) -> str:
    return reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _claimed_digest(ref: RegistryReference, reply: Response) -> Digest | None:
    value = reply.headers.get("Docker-Content-Digest")
    if value is None:
        return None
    try:
        return Digest.parse(value)
    except MalformedImage as error:
        raise VerificationFailed(f"{ref}: in Docker-Content-Digest, {error}") from None
