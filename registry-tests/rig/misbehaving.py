"""What a registry, a proxy or a storage may do wrong: each a named fault for `CountingProxy.spoil`.

A fault takes the answer that the registry gave and returns the one that the client gets.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

from rig.answer import (
    Action,
    Answer,
    Connection,
    Exchange,
    Fault,
    Item,
    hang_up,
    pause,
    reset,
    stall,
)

TICK = 0.02
"""Seconds between two bytes of what trickles."""


def nothing(exchange: Exchange, answer: Answer) -> Answer:
    """The answer goes through as it is."""
    return answer


class Gate:
    """Where a body is held up: `reached` is set when it is there; it goes on after `open`."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def after(self, count: int) -> Fault:
        """A body is held up after so many bytes."""
        return then(count, self._hold)

    def _hold(self, connection: Connection) -> None:
        self.reached.set()
        self.open.wait(60)


def together(*faults: Fault) -> Fault:
    """All of them, the first one first."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        for each in faults:
            answer = each(exchange, answer)
        return answer

    return fault


# -- bodies that break off -----------------------------------------------------------------------


def cut(after: int) -> Fault:
    """The connection ends after so many bytes of the body."""
    return _then(after, hang_up)


def resets(after: int) -> Fault:
    """The connection is reset after so many bytes of the body."""
    return _then(after, reset)


def stalls(after: int) -> Fault:
    """Nothing comes after so many bytes of the body, and the connection stays open."""
    return _then(after, stall)


def trickles(after: int) -> Fault:
    """After so many bytes of the body the rest comes byte by byte."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        answer.body = _after(answer.body, after, _slowly)
        return answer

    return fault


def then(after: int, action: Action) -> Fault:
    """`action` happens after so many bytes of the body, which goes on."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        answer.body = _after(answer.body, after, lambda rest: itertools.chain([action], rest))
        return answer

    return fault


def ends(after: int) -> Fault:
    """The body is whole by its own framing, but only so many bytes long."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        answer.send_data(answer.data()[:after])
        return answer

    return fault


def _then(after: int, action: Action) -> Fault:
    def fault(exchange: Exchange, answer: Answer) -> Answer:
        answer.body = _after(answer.body, after, lambda rest: [action])
        return answer

    return fault


# -- bodies that are not the right ones ----------------------------------------------------------


def flips(at: int) -> Fault:
    """One bit of the body's byte `at` is wrong."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        def changed(rest: Iterable[Item]) -> Iterator[Item]:
            for item in rest:
                if isinstance(item, bytes) and item:
                    yield bytes([item[0] ^ 1]) + item[1:]
                    break
                yield item
            yield from rest

        answer.body = _after(answer.body, at, lambda rest: changed(iter(rest)))
        return answer

    return fault


def longer(by: int | None) -> Fault:
    """So many bytes too much, None for no end; as the headers say, if they say a length."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        if length := answer.header("Content-Length"):
            answer.set("Content-Length", str(int(length) + (10**15 if by is None else by)))
        more = itertools.repeat(bytes(1 << 16)) if by is None else [bytes(by)]
        answer.body = itertools.chain(answer.body, more)
        return answer

    return fault


def garbage(exchange: Exchange, answer: Answer) -> Answer:
    """As many bytes as there should be, and all of them wrong."""
    answer.body = (bytes(255 - byte for byte in item) for item in _only_bytes(answer.body))
    return answer


def garbage_after(exchange: Exchange, answer: Answer) -> Answer:
    """Bytes follow an answer that is complete and right."""
    answer.trailer = [b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"]
    return chunked(exchange, answer)


def gzipped(exchange: Exchange, answer: Answer) -> Answer:
    """The body comes compressed, though nobody asked for that."""
    answer.send_data(gzip.compress(answer.data(), mtime=0))
    answer.set("Content-Encoding", "gzip")
    return answer


# -- framing -------------------------------------------------------------------------------------


def chunked(exchange: Exchange, answer: Answer) -> Answer:
    """No Content-Length, but chunks."""
    answer.without("content-length")
    answer.chunked = True
    return answer


def until_close(exchange: Exchange, answer: Answer) -> Answer:
    """No Content-Length: the end of the connection is the end of the body."""
    answer.without("content-length")
    answer.chunked = False
    return answer


def chunk_extensions(exchange: Exchange, answer: Answer) -> Answer:
    """Chunks of one byte, each with 60,000 bytes of extension."""
    answer.body = (
        bytes([byte]) for item in answer.body if isinstance(item, bytes) for byte in item
    )
    answer.frame = lambda data: b"%x;%b\r\n%b\r\n" % (len(data), b"x" * 60_000, data)
    return chunked(exchange, answer)


def trickling_chunk_size(exchange: Exchange, answer: Answer) -> Answer:
    """The size of the first chunk has leading zeros without end, one now and then."""
    zeros = itertools.cycle([b"0", pause(TICK)])
    answer.head = lambda head: itertools.chain([head], zeros)
    return chunked(exchange, answer)


def trailers(exchange: Exchange, answer: Answer) -> Answer:
    """Trailers without end after the last chunk."""
    answer.trailer = itertools.repeat(b"x-trailer: " + b"x" * 8000 + b"\r\n")
    return chunked(exchange, answer)


# -- headers -------------------------------------------------------------------------------------


def headers(*more: tuple[str, str]) -> Fault:
    """Headers are added, or take the place of those of the same name."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        for name, value in more:
            answer.set(name, value)
        return answer

    return fault


def lacks(*names: str) -> Fault:
    """Headers are left out."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        answer.without(*(name.lower() for name in names))
        return answer

    return fault


def many_headers(count: int) -> Fault:
    def fault(exchange: Exchange, answer: Answer) -> Answer:
        answer.headers += [(f"X-{number}", "x") for number in range(count)]
        return answer

    return fault


def long_header(size: int) -> Fault:
    return headers(("X-Long", "x" * size))


def no_header(exchange: Exchange, answer: Answer) -> Answer:
    """A line among the headers is none."""
    answer.head = lambda head: [head.replace(b"\r\n", b"\r\nno header at all\r\n", 1)]
    return answer


def not_http(exchange: Exchange, answer: Answer) -> Answer:
    answer.head = lambda head: [b"SSH-2.0-OpenSSH_9.2\r\n", hang_up]
    return answer


def says_nothing(exchange: Exchange, answer: Answer) -> Answer:
    """The connection ends where an answer should begin."""
    answer.head = lambda head: [hang_up]
    return answer


def resets_at_once(exchange: Exchange, answer: Answer) -> Answer:
    answer.head = lambda head: [reset]
    return answer


def stalls_in_headers(exchange: Exchange, answer: Answer) -> Answer:
    answer.head = lambda head: [head[:30], stall]
    return answer


def trickles_headers(exchange: Exchange, answer: Answer) -> Answer:
    """A header without end, of which a byte comes now and then."""
    answer.head = lambda head: [head[:-2], b"X-Slow: ", *_slowly([bytes(100_000)])]
    return answer


def continues_for_ever(exchange: Exchange, answer: Answer) -> Answer:
    """100 Continue, and again, and again."""
    answer.head = lambda head: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    return answer


# -- other answers -------------------------------------------------------------------------------


def answers(
    status: int,
    body: bytes = b"",
    *more: tuple[str, str | Callable[[Exchange], str]],
) -> Fault:
    """Another answer altogether; a header's value may depend on the request."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        values = [
            (name, value if isinstance(value, str) else value(exchange)) for name, value in more
        ]
        return Answer(status, [*values, ("Content-Length", str(len(body)))], [body])

    return fault


def busy(status: int, after: str | Callable[[Exchange], str]) -> Fault:
    """No answer now, but after so many seconds, or at a date."""
    return answers(status, b"busy", ("Retry-After", after))


def redirects(location: str | Callable[[Exchange], str], status: int = 307) -> Fault:
    return answers(status, b"gone", ("Location", location))


def challenges(challenge: str) -> Fault:
    return answers(401, b"{}", ("WWW-Authenticate", challenge))


def document(raw: bytes, media_type: str, digest: str | None = None) -> Fault:
    """A manifest or index, with the right Docker-Content-Digest or the one that is given."""
    digest = digest or f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return answers(200, raw, ("Content-Type", media_type), ("Docker-Content-Digest", digest))


# -- ranges --------------------------------------------------------------------------------------


def whole(blob: bytes) -> Fault:
    """The whole blob, whatever was asked for."""
    return answers(200, blob)


def part(blob: bytes, first: int, last: int, where: str | None) -> Fault:
    """A 206 with the bytes `first` to `last`, negative from the end, under any Content-Range."""
    last += len(blob) if last < 0 else 0
    named = () if where is None else (("Content-Range", where),)
    return answers(206, blob[first : last + 1], *named)


def multipart(blob: bytes) -> Fault:
    """The range that was asked for, as a part of a multipart body; its Content-Range twice."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        end = exchange.end or len(blob)
        where = f"bytes {exchange.start}-{end - 1}/{len(blob)}"
        inner = f"--x\r\nContent-Range: {where}\r\n\r\n".encode()
        body = inner + blob[exchange.start : end] + b"\r\n--x--\r\n"
        kind = ("Content-Type", "multipart/byteranges; boundary=x")
        return answers(206, body, kind, ("Content-Range", where))(exchange, answer)

    return fault


def for_ranges(fault: Fault) -> Fault:
    """Only a request with a Range meets the fault."""

    def met(exchange: Exchange, answer: Answer) -> Answer:
        return fault(exchange, answer) if exchange.range else answer

    return met


def for_many_ranges(fault: Fault) -> Fault:
    """Only a request for several ranges at once meets the fault, as at GHCR (501), zot (416)."""

    def met(exchange: Exchange, answer: Answer) -> Answer:
        return fault(exchange, answer) if has_many(exchange.range or "") else answer

    return met


def has_many(ranges: str) -> bool:
    """Tell whether a Range header asks for several: S3 answers such with all of the blob."""
    return "," in ranges


def shifted(by: int) -> Fault:
    """The Content-Range says another place than the one that was asked for."""

    def fault(exchange: Exchange, answer: Answer) -> Answer:
        end = exchange.end
        assert end is not None
        total = (answer.header("Content-Range") or "").rpartition("/")[2]
        answer.set("Content-Range", f"bytes {exchange.start + by}-{end - 1 + by}/{total}")
        return answer

    return fault


class Signed:
    """Redirects to a storage with a URL that is good for so many requests; the storage's side."""

    def __init__(self, host: str, uses: int) -> None:
        self._host = host
        self._uses = uses
        self._made = itertools.count(1)
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def redirect(self, exchange: Exchange, answer: Answer) -> Answer:
        """A URL that was never given out before."""
        where = f"http://{self._host}{exchange.path}?signature={next(self._made)}"
        return redirects(where)(exchange, answer)

    def storage(self, exchange: Exchange, answer: Answer) -> Answer:
        """403 when the URL has been used up."""
        with self._lock:
            used = self._used[exchange.path] = self._used.get(exchange.path, 0) + 1
        return answer if used <= self._uses else answers(403, b"expired")(exchange, answer)


# -- helpers -------------------------------------------------------------------------------------


def _after(
    items: Iterable[Item], count: int, change: Callable[[Iterable[Item]], Iterable[Item]]
) -> Iterator[Item]:
    """The first `count` bytes as they are, and what `change` makes of all that follows."""
    rest = iter(items)
    left = count
    while left > 0:
        item = next(rest, None)
        if item is None:
            break
        if isinstance(item, bytes):
            if len(item) > left:
                rest = itertools.chain([item[left:]], rest)
                item = item[:left]
            left -= len(item)
        yield item
    yield from change(rest)


def _only_bytes(items: Iterable[Item]) -> Iterator[bytes]:
    return (item for item in items if isinstance(item, bytes))


def _slowly(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        if not isinstance(item, bytes):
            yield item
            continue
        for byte in item:
            yield bytes([byte])
            yield pause(TICK)
