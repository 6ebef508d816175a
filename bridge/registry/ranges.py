"""Parts of blobs, asked for one range at a time: the only form of a range that all servers know.

A host that does not serve them is asked once; what it does instead is learned from that one answer.
Where a registry sends its clients on to (a signed URL, as a rule) is kept for each blob, so that
not every range takes two round trips. Sources: RFC 9110, section 14; the distribution-spec.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from urllib.parse import urlsplit

from bridge import limits
from bridge.errors import NetworkError, RangeRefused, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.registry import retry
from bridge.registry.blob import NO_RANGE, BlobStream, is_range
from bridge.registry.endpoint import EndpointClient
from bridge.registry.meter import Meter
from bridge.registry.mirrors import Endpoint
from bridge.registry.retry import Backoff
from bridge.registry.transport import Interrupted, Response

_RUN_OUT = frozenset({400, 401, 403, 404, 410})
"""What storages answer to a signed URL that has run out. The registry makes another at once."""


class Ranges:
    """Asks the endpoint that each call names. Safe for several threads."""

    def __init__(self, endpoint: EndpointClient) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._urls: dict[tuple[Endpoint, Digest], str] = {}
        self._storages: dict[Endpoint, str] = {}

    def refused(self, ref: Endpoint) -> bool:
        """Tell whether the endpoint's host is known to serve no ranges."""
        return self._host(ref).serves is False

    def storage(self, ref: Endpoint) -> str | None:
        """Return the host (with its port) that the endpoint's blobs come from, if it is another."""
        with self._lock:
            return self._storages.get(ref)

    def open(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int,
        end: int,
        meter: Meter | None,
        backoff: Backoff | None = None,
    ) -> BlobStream:
        """Open the bytes from `start` to `end` (exclusive) of a blob, or all of it.

        `.whole` of the result tells: a host that answers with the whole blob serves no ranges, and
        none is asked of it after that. Raises `RangeRefused` where it does not serve them, which
        takes no request once it is known; and what `EndpointClient.open_blob` does.
        """
        host = self._host(ref)
        if host.serves is None:
            with host.probing:  # whoever asks first finds out for all others, who wait
                if host.serves is None:
                    return self._open(ref, descriptor, start, end, meter, backoff)
        if host.serves is False:
            raise RangeRefused(f"{ref.host} serves no parts of blobs")
        return self._open(ref, descriptor, start, end, meter, backoff)

    def _open(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int,
        end: int,
        meter: Meter | None,
        backoff: Backoff | None,
    ) -> BlobStream:
        what = f"bytes {start} to {end} of blob {descriptor.digest} of {ref.name}"
        reply = self._ask(ref, descriptor, start, end, meter, backoff)
        if reply.status == 206 and is_range(reply, start, descriptor.size, end):
            host = self._host(ref)
            with self._lock:
                host.serves = host.serves is not False  # a refusal elsewhere is not taken back
            return BlobStream(what, reply, start, end)
        if reply.status == 200:
            self._host(ref).serves = False
            return self._endpoint.whole_blob(ref, descriptor, reply)
        if reply.status in NO_RANGE:
            with suppress(Interrupted):  # a wrong range, which is no error's text
                reply.read(limits.ERROR_BODY_MAX)
            said = "another part, or several" if reply.status == 206 else str(reply.status)
            raise self._refusal(ref, f"{what}: {ref.host} answered {said}")
        raise self._endpoint.failure(ref, what, reply)

    def iterate(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int,
        end: int,
        meter: Meter | None,
        on_whole: Callable[[BlobStream], None] = BlobStream.close,
    ) -> Generator[bytes, None, None]:
        """Yield the bytes from `start` to `end`, each once, resuming when the body breaks.

        `on_whole` is given the whole blob where that is the answer; then, too, `RangeRefused` is
        raised. Raises what `open` does.
        """

        def opened(at: int, backoff: Backoff) -> BlobStream:
            stream = self.open(ref, descriptor, at, end, meter, backoff)
            if stream.whole:
                on_whole(stream)
                raise RangeRefused(f"{ref.host} answers a request for a part with the whole blob")
            return stream

        try:
            yield from self._endpoint.resuming(ref, descriptor, opened, start, end, meter)
        except VerificationFailed as error:
            raise self._refusal(
                ref, f"{ref.host} sends something else than the part asked for: {error}"
            ) from None

    def _ask(
        self,
        ref: Endpoint,
        descriptor: Descriptor,
        start: int,
        end: int,
        meter: Meter | None,
        backoff: Backoff | None,
    ) -> Response:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        backoff = backoff or self._endpoint.backoff()
        key = (ref, descriptor.digest)
        with self._lock:
            kept = self._urls.get(key)
        if kept is not None:
            reply = self._ask_kept(ref, kept, headers, meter, backoff)
            if reply is not None:
                return reply
            with self._lock:
                if self._urls.get(key) == kept:
                    del self._urls[key]
        path = f"blobs/{Digest.parse(descriptor.digest)}"
        reply = self._endpoint.send("GET", ref, path, headers, None, meter, backoff)
        if reply.foreign and reply.status in (200, 206):
            with self._lock:
                self._urls[key] = reply.url
                self._storages[ref] = urlsplit(reply.url).netloc
        return reply

    def _ask_kept(
        self,
        ref: Endpoint,
        url: str,
        headers: dict[str, str],
        meter: Meter | None,
        backoff: Backoff,
    ) -> Response | None:
        """Ask where the registry led to before; None when it is to be asked again where that is."""
        failed: NetworkError | None = None
        try:
            reply = self._endpoint.send_once(url, headers, ref.insecure, meter)
        except NetworkError as error:
            failed = error
        else:
            if reply.status in _RUN_OUT:
                self._endpoint.count_retry(meter)
                return None
            if reply.status not in retry.STATUSES:
                return reply
        if not self._endpoint.wait(backoff, meter):
            if failed is not None:
                raise failed
            return reply
        return None

    def _host(self, ref: Endpoint) -> _Host:
        with self._lock:
            return self._hosts.setdefault(ref.host, _Host())

    def _refusal(self, ref: Endpoint, message: str) -> RangeRefused:
        self._host(ref).serves = False
        return RangeRefused(message)


class _Host:
    def __init__(self) -> None:
        self.probing = threading.Lock()
        self.serves: bool | None = None
