"""One endpoint of a registry, asked: authenticated, its failures told, its blobs as they come.

Which endpoint that is, and who comes after it, is `bridge.registry.client`'s matter.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from urllib.parse import urljoin

from bridge import limits
from bridge.errors import BridgeError, NetworkError, NotFound, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import DOCKER_HUB
from bridge.registry.auth import Authenticator, describe
from bridge.registry.blob import NO_RANGE, BlobStream, body_length, is_range
from bridge.registry.body import FileBody
from bridge.registry.message import Request, origin
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.retry import Backoff
from bridge.registry.token import Scope
from bridge.registry.transport import Interrupted, Response, Transport


class EndpointClient:
    """Asks the endpoint that each call names. Safe for several threads.

    What a call is given no meter for counts into `meter`. `actions` are what tokens are asked for.
    """

    def __init__(
        self, transport: Transport, auth: Authenticator, meter: Meter, actions: str = "pull"
    ) -> None:
        self._actions = actions
        self._transport = transport
        self._auth = auth
        self._meter = meter

    def send(
        self,
        method: str,
        ref: Endpoint,
        path: str,
        headers: dict[str, str],
        limit: int | None,
        meter: Meter | None,
        backoff: Backoff | None = None,
        body: bytes | FileBody | None = None,
    ) -> Response:
        """Send a request below the repository, authenticating as the registry demands.

        `path` may also be a URL, which is not that registry's perhaps: then nothing secret goes
        there.

        The answer may be any; `failure` makes an error of it. Raises `NetworkError` when there is
        none, `NotAuthorised` when a token server refuses, and `TooLarge` beyond `limit`.
        """
        counted = meter or self._meter
        host = "registry-1.docker.io" if ref.host == DOCKER_HUB else ref.host
        base = self._transport.base_url(host, counted, insecure=ref.insecure)
        url = urljoin(f"{base}/v2/{ref.repository}/", path)
        request = Request(method, url, headers, body, limit, ref.insecure)
        if origin(url) != origin(base):
            return self._transport.exchange(request, counted, backoff)
        with closing(self._auth.flow(request, self._scope(ref))) as flow:
            outgoing = next(flow)
            while True:
                try:
                    reply = self._transport.exchange(outgoing, counted, backoff)
                except NetworkError as error:
                    flow.throw(error)
                    raise
                try:
                    outgoing = flow.send(reply)
                except StopIteration:
                    return reply

    def failure(self, ref: Endpoint, what: str, reply: Response) -> BridgeError:
        """Close an answer that is no success; return the error for it, about `what`."""
        reply.close()
        if reply.foreign:
            host = origin(reply.url)[1]
            return NetworkError(
                f"{what}: {host}, where {ref.host} keeps it, answered {reply.status}"
            )
        if reply.status in (401, 403):
            return self._auth.refusal(self._scope(ref), reply)
        if reply.status == 404:
            return NotFound(f"{what} is not in the registry: {ref.host} answered {describe(reply)}")
        if after := reply.headers.get("Retry-After"):
            return NetworkError(
                f"{what}: {ref.host} answered {describe(reply)}; try again later, as it asks: "
                f"Retry-After {after!r:.60}"
            )
        return NetworkError(f"{what}: {ref.host} answered {describe(reply)}")

    def open_blob(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int = 0,
        meter: Meter | None = None,
        backoff: Backoff | None = None,
    ) -> BlobStream:
        """Open a blob for reading from `start` on, or from 0 where ranges are not served.

        `.start` of the result tells; `backoff` holds the tries that are left. Raises `NotFound`,
        `NotAuthorised`, `NetworkError`, and `VerificationFailed` when the registry announces
        another size than the descriptor's.
        """
        what = f"blob {descriptor.digest} of {ref.name}"
        size = descriptor.size
        headers = {"Range": f"bytes={start}-"} if start else {}
        path = f"blobs/{Digest.parse(descriptor.digest)}"
        reply = self.send("GET", ref, path, headers, None, meter, backoff)
        if start and reply.status == 206 and is_range(reply, start, size):
            return BlobStream(what, reply, start, size)
        if start and reply.status in NO_RANGE:  # it cannot: take the blob whole
            with suppress(Interrupted):
                reply.read(limits.ERROR_BODY_MAX)
            return self.open_blob(ref, descriptor, 0, meter, backoff)
        if reply.status != 200:
            raise self.failure(ref, what, reply)
        length = body_length(reply)
        if length is not None and length != size:
            reply.close()
            raise VerificationFailed(
                f"{what}: the registry has {length} bytes where its descriptor gives {size}"
            )
        return BlobStream(what, reply, 0, size)

    def iter_blob(
        self, ref: Endpoint, descriptor: Descriptor, start: int, meter: Meter | None
    ) -> Generator[bytes, None, None]:
        """Yield a blob's bytes from `start` to its size, each once, resuming when the body breaks.

        A try that brought `limits.RESUME_PROGRESS` is not counted. Raises what `open_blob` does,
        and `NetworkError` when the tries are used up.
        """
        counted = meter or self._meter
        backoff = self._transport.backoff()
        done = kept = start
        while True:
            try:
                with self.open_blob(ref, descriptor, done, counted, backoff) as stream:
                    skip = done - stream.start
                    for chunk in stream:
                        fresh = chunk[skip:] if skip else chunk
                        skip = max(0, skip - len(chunk))
                        done += len(fresh)
                        if fresh:
                            yield fresh
                return
            except Interrupted as error:
                if done >= descriptor.size > 0:
                    return
                if done - kept >= limits.RESUME_PROGRESS:
                    backoff = self._transport.backoff()
                kept = done
                if not self._transport.wait(backoff, counted):
                    raise NetworkError(
                        f"blob {descriptor.digest} of {ref.name}, {done} of {descriptor.size} "
                        f"bytes: {error} ({backoff.tries} tries)"
                    ) from None

    def _scope(self, ref: Endpoint) -> Scope:
        return Scope(ref.host, ref.repository, self._actions, ref.named)
