"""A reverse proxy on loopback that logs requests, counts what it sends, and misbehaves if asked.

Faults are in `rig.misbehaving`; without one, answers go through as they are.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rig.answer import Answer, Connection, Exchange, Fault, Item
from rig.certificates import Identity
from rig.ports import LOOPBACK

_BLOCK = 1 << 16
# What the kernel holds for a client that does not read: as little as does not cost time. It takes
# twice as much, which is just more than a segment on loopback: with less than that it sends a part
# of one, and waits 40 ms for the client's delayed acknowledgement before the next.
_SEND_BUFFER = 40_000
# For answers with a fault, which a client may stop to read: as little as the kernel allows.
_LEAST_BUFFER = 1 << 13
# Seconds of a limited wire that may be made up for: threads do not wake up on time.
_BURST = 0.02
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


class CountingProxy:
    """A proxy that runs: an address for clients, a log of what went through it, and its faults.

    Bytes are counted before they are sent, so whoever has received a body finds it counted.
    """

    def __init__(self, port: int, upstream_port: int, bits_per_second: float | None = None) -> None:
        self.port = port
        self.upstream_port = upstream_port
        self.ignores: Callable[[str], bool] = lambda ranges: False
        """Which Range headers the registry is not told of: it answers with all of the blob."""
        self.wire = Wire(bits_per_second)
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections = 0
        self._left = threading.Condition(self._lock)
        self._log: list[Exchange] = []
        self._faults: list[tuple[str, Fault, bool]] = []
        self.cut_uploads: list[int] = []
        """After so many bytes of a body each of the next PATCHes and PUTs of blobs breaks off."""
        self.refused: list[tuple[str, str, int]] = []
        """Method, part of the path, and status: such requests the registry does not get to see."""

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`, as it stands in an image reference."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log(self) -> list[Exchange]:
        """The exchanges so far, in the order they began."""
        with self._lock:
            return list(self._log)

    @property
    def requests(self) -> int:
        return len(self.log)

    @property
    def body_bytes(self) -> int:
        """Response body bytes sent to clients since the start or the last `reset`."""
        return sum(exchange.body_bytes for exchange in self.log)

    def asked(self, part: str) -> list[Exchange]:
        """The exchanges with `part` in their path."""
        return [exchange for exchange in self.log if part in exchange.path]

    def reset(self) -> None:
        """Forgets what was counted so far."""
        with self._lock:
            self._log.clear()

    def spoil(self, part: str, *faults: Fault, always: bool = False) -> None:
        """The next GETs with `part` in their path fare as `faults` say, one after the other.

        With `always` the last of them is for all that come after.
        """
        with self._lock:
            last = len(faults) - 1
            for place, fault in enumerate(faults):
                self._faults.append((part, fault, always and place == last))

    def forgive(self) -> None:
        """Forgets the faults that have not happened yet."""
        with self._lock:
            self._faults.clear()

    def fault(self, exchange: Exchange) -> Fault | None:
        """What is to happen to the answer of `exchange`, if anything."""
        with self._lock:
            for entry in self._faults:
                part, fault, always = entry
                if exchange.method == "GET" and part in exchange.path:
                    if not always:
                        self._faults.remove(entry)
                    return fault
        return None

    def upload_ends(self, exchange: Exchange) -> int | None:
        """After how many bytes of its body the request breaks off, None for not at all."""
        if exchange.method not in ("PATCH", "PUT") or "/blobs/" not in exchange.path:
            return None
        with self._lock:
            return self.cut_uploads.pop(0) if self.cut_uploads else None

    def refusal(self, exchange: Exchange) -> int | None:
        """The status that a request is refused with, None where it is not."""
        for method, part, status in self.refused:
            if exchange.method == method and part in exchange.path:
                return status
        return None

    def fetched(self, digest: str) -> int:
        """How many times the blob `digest` was asked for."""
        return sum(each.method == "GET" for each in self.asked(digest))

    @property
    def blob_requests(self) -> int:
        return len(self.asked("/blobs/"))

    def add(self, exchange: Exchange) -> Exchange:
        with self._lock:
            self._log.append(exchange)
        return exchange

    def count_connections(self, change: int) -> None:
        with self._left:
            self._connections += change
            self._left.notify_all()

    def wait_for_clients_to_leave(self) -> None:
        """Returns when no client is connected, and the registry has answered all they had asked.

        What a client sent before it was killed is still in the kernel then, or with the registry.
        """
        with self._left:
            if not self._left.wait_for(lambda: not self._connections, timeout=60):
                raise TimeoutError(f"{self._connections} clients stay connected")


class Wire:
    """What all connections share: so many bits of bodies a second, None for any number."""

    def __init__(self, bits_per_second: float | None) -> None:
        self._seconds_per_byte = 8 / bits_per_second if bits_per_second else 0.0
        self._lock = threading.Lock()
        self._free = 0.0

    @property
    def limited(self) -> bool:
        return self._seconds_per_byte > 0

    def wait(self, size: int) -> float:
        """The seconds until so many bytes more have gone over it; 0 at once where it idled."""
        if not self.limited:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free = max(now - _BURST, self._free) + size * self._seconds_per_byte
            return max(0.0, self._free - now)


@contextmanager
def run_proxy(
    upstream_port: int, tls: Identity | None = None, bits_per_second: float | None = None
) -> Iterator[CountingProxy]:
    """A proxy in front of the HTTP server on `upstream_port`, until the context ends.

    The client's Host header goes through unchanged, and so do all answers: the upstream
    is to answer with relative URLs, or with URLs made from that header. With `tls` it speaks
    TLS to its clients; bodies may be limited to `bits_per_second`, all connections together.
    """
    server = _Server((LOOPBACK, 0), _Handler)
    server.proxy = CountingProxy(server.server_address[1], upstream_port, bits_per_second)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate_file, tls.key_file)
        server.tls = context
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server.proxy
    finally:
        server.proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Cut(Exception):
    """A request that a test has break off."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: CountingProxy
    tls: ssl.SSLContext | None = None

    def process_request(self, request: object, client_address: object) -> None:
        self.proxy.count_connections(1)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self.proxy.count_connections(-1)

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        try:  # here, in the connection's own thread: a client may leave in the handshake
            wrapped = self.tls.wrap_socket(request, server_side=True)
        except OSError:
            return
        with wrapped:
            super().finish_request(wrapped, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One client connection, with one upstream connection of its own."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _upstream: http.client.HTTPConnection | None = None
    _got: http.client.HTTPResponse | None = None

    def setup(self) -> None:
        if not self.server.proxy.wire.limited:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        super().setup()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # the client left, or was left
            self.close_connection = True

    def finish(self) -> None:
        self._drop_upstream()
        with suppress(OSError):
            super().finish()
        if _lingers(self.request):  # a reset: closing it now, before it is shut down
            self.request.close()

    def _forward(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = Exchange(self.command, self.path, headers, time.monotonic())
        self.server.proxy.add(exchange)
        try:
            answer = self._refuse(exchange) or self._ask(self.server.proxy.upload_ends(exchange))
        except _Cut:
            self._drop_upstream()
            self.close_connection = True
            return
        except (OSError, http.client.HTTPException):
            self._drop_upstream()
            self.close_connection = True
            answer = Answer(502, [("Content-Length", "0")], [], reason="Bad Gateway")
        if fault := self.server.proxy.fault(exchange):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LEAST_BUFFER)
            answer = fault(exchange, answer)
        exchange.status = answer.status
        self._send_answer(answer, exchange)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward

    # -- the registry's side ---------------------------------------------------------------

    def _refuse(self, exchange: Exchange) -> Answer | None:
        status = self.server.proxy.refusal(exchange)
        if status is None:
            return None
        left = int(self.headers.get("Content-Length") or 0)
        while left and (block := self.rfile.read(min(_BLOCK, left))):
            left -= len(block)
        body = b'{"errors":[{"code":"DENIED","message":"not today"}]}'
        return Answer(status, [("Content-Length", str(len(body)))], [body])

    def _ask(self, cut: int | None) -> Answer:
        """Sends the client's request on; the answer, whose body comes as it is taken.

        After `cut` bytes of the request's body both sides see the connection end.
        """
        if self._upstream is None:
            port = self.server.proxy.upstream_port
            self._upstream = http.client.HTTPConnection(LOOPBACK, port, timeout=300)
        upstream = self._upstream
        unsaid = _HOP_BY_HOP | {"expect"}
        if self.server.proxy.ignores(self.headers.get("Range", "")):
            unsaid |= {"range"}
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        length = self.headers.get("Content-Length")
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in unsaid:
                upstream.putheader(name, value)
        if chunked:
            upstream.putheader("Transfer-Encoding", "chunked")
        upstream.endheaders()
        if chunked:
            for block in self._chunks():
                upstream.send(b"%x\r\n%b\r\n" % (len(block), block))
            upstream.send(b"0\r\n\r\n")
        elif length:
            remaining = int(length)
            while remaining:
                done = int(length) - remaining
                if cut is not None and done >= cut:
                    raise _Cut
                wanted = min(_BLOCK, remaining, _BLOCK if cut is None else cut - done)
                block = self.rfile.read(wanted)
                if not block:
                    raise ConnectionResetError("the client's request ends early")
                upstream.send(block)
                remaining -= len(block)
        self._got = got = upstream.getresponse()
        if self.command == "HEAD" or got.length == 0:
            got.read()
        headers = [pair for pair in got.getheaders() if pair[0].lower() not in _HOP_BY_HOP]
        whole = lambda: got.chunked or not got.length  # noqa: E731
        return Answer(got.status, headers, _blocks(got), got.chunked, got.reason, whole=whole)

    def _chunks(self) -> Iterator[bytes]:
        """The client's request body, sent in chunks."""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass

    def _drop_upstream(self) -> None:
        if self._upstream:
            self._upstream.close()
            self._upstream = self._got = None

    # -- the client's side -----------------------------------------------------------------

    def _send_answer(self, answer: Answer, exchange: Exchange) -> None:
        bodiless = self.command == "HEAD" or answer.status in (204, 304) or answer.status < 200
        framed = answer.chunked or answer.header("Content-Length") is not None
        if not bodiless and not framed:
            self.close_connection = True
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.chunked and not bodiless:
            lines.append("Transfer-Encoding: chunked")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        connection = Connection(self.request, self.server.proxy.closing)
        exchange.answered = time.monotonic()
        try:
            for data in _bytes(answer.head(head), connection):
                self.wfile.write(data)
            if not bodiless:
                self._send_body(answer, exchange, connection)
        except (OSError, http.client.HTTPException):
            # A body that broke off is short for the client, too.
            self.close_connection = True
            self._drop_upstream()
            return
        if not bodiless and not answer.whole():
            self.close_connection = True
        if self._got is not None and not self._got.isclosed():  # a fault left something of it
            self._drop_upstream()

    def _send_body(self, answer: Answer, exchange: Exchange, connection: Connection) -> None:
        for data in _bytes(answer.body, connection):
            exchange.body_bytes += len(data)
            if (seconds := self.server.proxy.wire.wait(len(data))) > 0:
                connection.wait(seconds)
            try:
                self.wfile.write(answer.frame(data) if answer.chunked else data)
            except OSError:
                exchange.body_bytes -= len(data)
                raise
        if answer.chunked:
            self.wfile.write(b"0\r\n")
            for data in _bytes(answer.trailer, connection):
                self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := answer.read1(_BLOCK):
        yield block


def _bytes(items: Iterable[Item], connection: Connection) -> Iterator[bytes]:
    """The bytes among the items, each action done in its place."""
    for item in items:
        if isinstance(item, bytes):
            if item:
                yield item
        else:
            item(connection)


def _lingers(sock: socket.socket) -> bool:
    try:
        asked = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
    except OSError:
        return False
    return struct.unpack("ii", asked)[0] != 0
