"""One endpoint of a registry, asked: authenticated, its failures told, its blobs as they come.

Which endpoint that is, and who comes after it, is `bridge.registry.client`'s matter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Reached:
    """Where and how a registry is asked that others name otherwise."""

    host: str
    """As in references."""
    address: str
    """Host and port."""
    path_prefix: str = ""
    """Of all its repositories."""


class EndpointClient:
    """Asks the endpoint that each call names. Safe for several threads.

    What a call is given no meter for counts into `meter`. `actions` are what tokens are asked for.
    """

    def __init__(
        self,
        transport: Transport,
        auth: Authenticator,
        meter: Meter,
        actions: str = "pull",
        reached: Reached | None = None,
    ) -> None:
        self._reached = reached
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
        host, repository = api_host(ref), ref.repository
        if self._reached is not None and ref.host == self._reached.host:
            host = self._reached.address
            repository = f"{self._reached.path_prefix}{repository}"
        base = self._transport.base_url(host, counted, insecure=ref.insecure)
        url = urljoin(f"{base}/v2/{repository}/", path)
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

    def send_once(
        self, url: str, headers: dict[str, str], insecure: bool, meter: Meter | None
    ) -> Response:
        """Ask another host, which the registry led to, without credentials and only once."""
        request = Request("GET", url, headers, insecure=insecure)
        return self._transport.follow(request, meter or self._meter)

    def backoff(self) -> Backoff:
        """Return the tries of a new request."""
        return self._transport.backoff()

    def count_retry(self, meter: Meter | None) -> None:
        """Count that the next request repeats one that failed."""
        (meter or self._meter).add(retries=1)

    def wait(self, backoff: Backoff, meter: Meter | None, after: float | None = None) -> bool:
        """Sleep before the next try and count it; False when there is to be none."""
        return self._transport.wait(backoff, meter or self._meter, after)

    def open_blob(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int = 0,
        meter: Meter | None = None,
        backoff: Backoff | None = None,
        end: int | None = None,
    ) -> BlobStream:
        """Open a blob for reading from `start` to `end`, all of it where ranges are not served.

        `.start` of the result tells, and `.whole`; `backoff` holds the tries that are left. Raises
        `NotFound`, `NotAuthorised`, `NetworkError`, and `VerificationFailed` when the registry
        announces another size than the descriptor's.
        """
        what = f"blob {descriptor.digest} of {ref.name}"
        size = descriptor.size
        part = start > 0 or end is not None
        last = "" if end is None else str(end - 1)
        headers = {"Range": f"bytes={start}-{last}"} if part else {}
        path = f"blobs/{Digest.parse(descriptor.digest)}"
        reply = self.send("GET", ref, path, headers, None, meter, backoff)
        if part and reply.status == 206 and is_range(reply, start, size, end):
            return BlobStream(what, reply, start, size if end is None else end)
        if part and reply.status in NO_RANGE:  # it cannot: take the blob whole
            with suppress(Interrupted):
                reply.read(limits.ERROR_BODY_MAX)
            return self.open_blob(ref, descriptor, 0, meter, backoff)
        if reply.status != 200:
            raise self.failure(ref, what, reply)
        return self.whole_blob(ref, descriptor, reply)

    def whole_blob(self, ref: Endpoint, descriptor: Descriptor, reply: Response) -> BlobStream:
        """Take an answer as all of a blob; `VerificationFailed` when it has another size."""
        what = f"blob {descriptor.digest} of {ref.name}"
        length = body_length(reply)
        if length is not None and length != descriptor.size:
            reply.close()
            raise VerificationFailed(
                f"{what}: the registry has {length} bytes where its descriptor gives "
                f"{descriptor.size}"
            )
        return BlobStream(what, reply, 0, descriptor.size, whole=True)

    def iter_blob(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int,
        meter: Meter | None,
        end: int | None = None,
        opened: BlobStream | None = None,
    ) -> Generator[bytes, None, None]:
        """Yield a blob's bytes from `start` to its size, each once, resuming when the body breaks.

        With `end` no more need come than to there; it does where ranges are not served. `opened`
        is a body that is there already, which is taken first. Raises what `open_blob` does, and
        `NetworkError` when the tries are used up.
        """
        ready = [opened] if opened is not None else []

        def opening(at: int, backoff: Backoff) -> BlobStream:
            return (
                ready.pop() if ready else self.open_blob(ref, descriptor, at, meter, backoff, end)
            )

        until = descriptor.size if end is None else end
        return self.resuming(ref, descriptor, opening, start, until, meter)

    def resuming(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        opening: Callable[[int, Backoff], BlobStream],
        start: int,
        end: int,
        meter: Meter | None,
    ) -> Generator[bytes, None, None]:
        """Yield the bytes that `opening` opens from an offset on, anew where a body breaks off.

        A try that brought `limits.RESUME_PROGRESS` is not counted.
        """
        counted = meter or self._meter
        backoff = self._transport.backoff()
        done = kept = start
        while True:
            try:
                with opening(done, backoff) as stream:
                    skip = done - stream.start
                    for chunk in stream:
                        fresh = chunk[skip:] if skip else chunk
                        skip = max(0, skip - len(chunk))
                        done += len(fresh)
                        if fresh:
                            yield fresh
                return
            except Interrupted as error:
                if done >= end > 0:
                    return
                if done - kept >= limits.RESUME_PROGRESS:
                    backoff = self._transport.backoff()
                kept = done
                if not self._transport.wait(backoff, counted):
                    raise NetworkError(
                        f"blob {descriptor.digest} of {ref.name}, {done} of {end} "
                        f"bytes: {error} ({backoff.tries} tries)"
                    ) from None

    def _scope(self, ref: Endpoint) -> Scope:
        return Scope(ref.host, ref.repository, self._actions, ref.named)


def api_host(ref: Endpoint) -> str:
    """Return the host, with its port, where the endpoint's registry is spoken to."""
    return api_host_of(ref.host)


def api_host_of(host: str) -> str:
    """Return where a registry is spoken to, by its name in references."""
    return "registry-1.docker.io" if host == DOCKER_HUB else host
