"""HTTP as a registry client needs it: counted, bounded, retried, redirected by hand.

requests does the protocol. Nothing of its environment is trusted (`~/.netrc` would replace our
token), no body is read behind our back, and every body byte is counted as it came off the wire.
"""

from __future__ import annotations

import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.utils import get_environ_proxies

from bridge import __version__, limits
from bridge.errors import NetworkError
from bridge.registry import retry
from bridge.registry.body import FileBody, Paced
from bridge.registry.causes import causes, reason
from bridge.registry.message import REDIRECTS, Request, origin, redirected
from bridge.registry.meter import Meter, RateLimit
from bridge.registry.observed import BEGINNING, HostSpeed, Observed
from bridge.registry.options import NetworkOptions
from bridge.registry.session import Session
from bridge.registry.throttle import Throttle
from bridge.registry.tls import tls_context

_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.SSLError,
    urllib3.exceptions.ProxyError,
)

_Peer = tuple[str, str, bool]
"""Scheme, host with port, and whether any certificate will do: what a connection is good for."""
_HEADERS = {"User-Agent": f"bootc-py/{__version__}", "Accept-Encoding": "identity"}


class Interrupted(NetworkError):
    """A connection failed or broke: another try may do."""


class TooLarge(NetworkError):
    """An answer is larger than what it answers may be."""


class Response:
    """An answer. Its body is a stream, or in `body` already: see `Request.limit`."""

    def __init__(
        self,
        raw: requests.Response,
        meter: Meter,
        rate: RateLimit | None,
        idle: float,
        clock: Callable[[], float],
        speed: HostSpeed,
        done: Callable[[bool], None],
    ) -> None:
        self.status: int = raw.status_code
        self.headers: Mapping[str, str] = raw.headers
        self.url: str = raw.url or ""
        self.body = b""
        self.foreign = False
        self._raw = raw
        self._meter = meter
        self._rate = rate
        self._idle = idle
        self._clock = clock
        self._speed = speed
        self._came = 0
        self._measured = self._ended = False
        self._done: Callable[[bool], None] | None = done

    def chunks(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield the body, at most `limit` bytes of it; `Interrupted` when it stalls or breaks."""
        left = limit
        size = min(limits.BLOB_BUFFER, self._rate.chunk if self._rate else limits.BLOB_BUFFER)
        host = urlsplit(self.url).netloc
        waited, came = 0.0, 0
        while left is None or left > 0:
            try:
                # read1: one receive each, so that bytes that came before a stall are not lost.
                amount = size if left is None else min(size, left)
                before = self._clock()
                chunk = self._raw.raw.read1(amount, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Interrupted(f"{host}: {reason(error, self._idle)}") from None
            if not chunk:
                self._ended = True
                return
            self._meter.add(received=len(chunk))
            self._measure(len(chunk))
            waited, came = waited + self._clock() - before, came + len(chunk)
            if waited > self._idle:
                if came < limits.SLOWEST_BODY:
                    raise Interrupted(f"{host}: only {came} bytes came in {waited:.0f} seconds")
                waited, came = 0.0, 0
            if self._rate is not None:
                self._rate.take(len(chunk))
            if left is not None:
                left -= len(chunk)
            yield chunk

    def read(self, limit: int) -> None:
        """Take the rest of the body, at most `limit` bytes, into `body` and close."""
        try:
            self.body = b"".join(self.chunks(limit))
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, or up when the body was not read to its end."""
        if self._done is not None:
            self._raw.close()
            if self._measured:
                self._speed.end()
            self._done(self._ended)
            self._done = None

    def _measure(self, count: int) -> None:
        self._came += count
        if self._measured:
            self._speed.came(count)
        elif self._came >= BEGINNING:
            self._measured = True
            self._speed.begin()


class Transport:
    """Sends requests from any thread. `clock`, `sleep` and `random` can be replaced for tests."""

    def __init__(
        self,
        options: NetworkOptions,
        *,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        rate: RateLimit | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self.options = options
        self.throttle = throttle or Throttle()
        self._headers = _HEADERS | (
            {"User-Agent": options.user_agent} if options.user_agent else {}
        )
        self._clock = clock
        self._sleep = sleep
        self._random = random
        if rate is None and options.limit_rate:
            rate = RateLimit(options.limit_rate)
        self._rate = rate
        # Whoever is insecure, the user has said so; no need to tell them each time.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._lock = threading.Lock()
        self._sessions: dict[_Peer, queue.SimpleQueue[Session]] = {}
        self._contexts: dict[_Peer, ssl.SSLContext] = {}
        self._schemes: dict[str, str] = {}
        self._speeds: dict[str, HostSpeed] = {}

    def base_url(self, host: str, meter: Meter, *, insecure: bool = False) -> str:
        """Return `https://HOST`; if it is `insecure`, `http://HOST` where there is no TLS."""
        if self.options.plain_http:
            return f"http://{host}"
        if not insecure:
            return f"https://{host}"
        with self._lock:
            known = self._schemes.get(host)
        if known is None:
            try:
                probe = self._once(Request("GET", f"https://{host}/v2/", insecure=True), meter)
            except NetworkError:
                known = "http"
            else:
                probe.close()
                known = "https"
            with self._lock:
                self._schemes[host] = known
        return f"{known}://{host}"

    def exchange(
        self, request: Request, meter: Meter, backoff: retry.Backoff | None = None
    ) -> Response:
        """Send a request, following redirects, until it is answered or the tries are used up.

        `backoff` holds the tries that are left, when this is not the first. Returns whatever answer
        came last. Raises `NetworkError` when none came.
        """
        backoff = backoff or self.backoff()
        while True:
            failure: Interrupted | None = None
            after = None
            try:
                response = self.follow(request, meter)
            except Interrupted as error:
                failure = error
            else:
                # A signed URL that a redirect led to may have run out: the registry makes another.
                expired = response.foreign and response.status in (401, 403)
                if response.status not in retry.STATUSES and not expired:
                    return response
                after = retry.parse_retry_after(response.headers.get("Retry-After"), time.time())
            if not self.wait(backoff, meter, after):
                if failure is None:
                    return response
                if backoff.tries == 1:
                    raise failure from None
                raise NetworkError(f"{failure} ({backoff.tries} tries)") from None

    def backoff(self, retries: int | None = None) -> retry.Backoff:
        """Return the waits for a new request, by default as many as the user wants."""
        times = self.options.retry_times if retries is None else retries
        return retry.Backoff(times, self._random)

    def pause(self, seconds: float) -> None:
        """Sleep for about so long: other clients are not to wait for the same time."""
        self._sleep(seconds * (0.5 + self._random()))

    def wait(self, backoff: retry.Backoff, meter: Meter, after: float | None = None) -> bool:
        """Sleep before the next try and count it; False when there is to be none."""
        pause = backoff.next(after)
        if pause is None:
            return False
        meter.add(retries=1)
        self._sleep(pause)
        return True

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            pools, self._sessions = list(self._sessions.values()), {}
        for pool in pools:
            while not pool.empty():
                pool.get().close()

    def observed(self, host: str) -> Observed:
        """Return how fast a host (with its port) was seen to be."""
        return self._speed(host).observed()

    def follow(self, request: Request, meter: Meter) -> Response:
        """Send a request once, following redirects; `Interrupted` when another try may do."""
        start = origin(request.url)
        for _ in range(limits.REDIRECTS_MAX + 1):
            response = self._once(request, meter)
            if not 200 <= response.status < 300:
                response.read(limits.ERROR_BODY_MAX)
            elif request.method == "HEAD":
                response.read(1)  # to its end, which is here: the connection stays good
            elif request.limit is not None:
                response.read(request.limit + 1)
                if len(response.body) > request.limit:
                    host = urlsplit(request.url).netloc
                    raise TooLarge(f"{host}: an answer of more than {request.limit} bytes")
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                response.foreign = origin(request.url) != start
                return response
            request = redirected(request, location)
        raise NetworkError(f"{start[1]}: more than {limits.REDIRECTS_MAX} redirects")

    def _once(self, request: Request, meter: Meter) -> Response:
        """Send one request; `Interrupted` when another try may do, else `NetworkError`."""
        origin(request.url)  # refuses what is not http(s), and credentials in the URL
        parts = urlsplit(request.url)
        key = (parts.scheme, parts.netloc, request.insecure)
        leave = self.throttle.enter(streams=request.method == "GET" and request.limit is None)
        try:
            return self._sent(request, key, meter, leave)
        except BaseException:
            leave()
            raise

    def _sent(
        self, request: Request, key: _Peer, meter: Meter, leave: Callable[[], None]
    ) -> Response:
        netloc, idle = key[1], self.options.timeouts.idle
        session = self._take(key, request.url)
        warm, asked = session.warm, time.monotonic()
        try:
            body: Any = request.body
            if isinstance(body, FileBody):
                body = Paced(body, self._rate)
            elif body and self._rate is not None:
                self._rate.take(len(body))
            raw = session.send(
                request.method,
                request.url,
                {**self._headers, **request.headers},
                body,
                (self.options.timeouts.connect, idle),
            )
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            session.close()
            if not any(isinstance(cause, _NEVER_SENT) for cause in causes(error)):
                meter.add(requests=1)
            message = f"{netloc}: {reason(error, idle)}"
            if isinstance(error, requests.exceptions.SSLError):
                raise NetworkError(
                    f"{message}; give its authority with --cert-dir, or --tls-verify=false"
                ) from None
            if isinstance(error, ValueError):  # requests' own words for what it cannot send
                raise NetworkError(message) from None
            raise Interrupted(message) from None
        meter.add(requests=1)
        self.throttle.see(raw.headers)
        speed = self._speed(netloc)
        if warm:
            speed.answered(time.monotonic() - asked)

        def done(whole: bool) -> None:
            session.warm = whole
            self._give_back(key, session)
            leave()

        return Response(raw, meter, self._rate, idle, self._clock, speed, done)

    def _speed(self, host: str) -> HostSpeed:
        with self._lock:
            return self._speeds.setdefault(host, HostSpeed())

    def _take(self, key: _Peer, url: str) -> Session:
        """Return a session that no other thread uses until it is given back."""
        with self._lock:
            pool = self._sessions.setdefault(key, queue.SimpleQueue())
        try:
            return pool.get_nowait()
        except queue.Empty:
            context = self._context(key) if key[0] == "https" else None
            proxies = get_environ_proxies(url, None)
            return Session(context, verify=not key[2], proxies=proxies)

    def _context(self, key: _Peer) -> ssl.SSLContext:
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = tls_context(key[1], self.options, insecure=key[2])
            return self._contexts[key]

    def _give_back(self, key: _Peer, session: Session) -> None:
        with self._lock:
            pool = self._sessions.setdefault(key, queue.SimpleQueue())
        pool.put(session)
