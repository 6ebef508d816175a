"""A reverse proxy on loopback that counts the bytes of response bodies it hands to clients."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rig.ports import LOOPBACK

_BLOCK = 1 << 18
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


@dataclass
class Exchange:
    """One request and its answer. `body_bytes` is what the client was sent of the body."""

    method: str
    path: str
    range: str | None
    status: int = 0
    body_bytes: int = 0


class Gate:
    """Where a body is held up: `reached` is set when it is there; it goes on after `open`."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        self.open.wait(60)


@dataclass(frozen=True)
class Fault:
    """What happens to a body on its way: cut off after so many bytes, one byte changed, or held
    up at a gate after so many."""

    cut_after: int | None = None
    change_at: int | None = None
    gate_after: int = 0
    gate: Gate | None = None


class CountingProxy:
    """A proxy that runs: an address for clients, and a log of what went through it.

    Bytes are counted before they are sent, so whoever has received a body finds it counted.
    """

    def __init__(self, port: int, upstream_port: int) -> None:
        self.port = port
        self.upstream_port = upstream_port
        self._lock = threading.Lock()
        self._log: list[Exchange] = []
        self._faults: list[tuple[str, Fault]] = []

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

    def reset(self) -> None:
        """Forgets what was counted so far."""
        with self._lock:
            self._log.clear()

    def spoil(self, part: str, *faults: Fault) -> None:
        """The next GETs with `part` in their path fare as `faults` say, one after the other."""
        with self._lock:
            self._faults += [(part, fault) for fault in faults]

    def forgive(self) -> None:
        """Forgets the faults that have not happened yet."""
        with self._lock:
            self._faults.clear()

    def fault(self, exchange: Exchange) -> Fault:
        """What is to happen to the answer of `exchange`: each fault happens once."""
        with self._lock:
            for entry in self._faults:
                if exchange.method == "GET" and entry[0] in exchange.path:
                    self._faults.remove(entry)
                    return entry[1]
        return Fault()

    def fetched(self, digest: str) -> int:
        """How many times the blob `digest` was asked for."""
        return sum(digest in each.path and each.method == "GET" for each in self.log)

    @property
    def blob_requests(self) -> int:
        return sum("/blobs/" in exchange.path for exchange in self.log)

    def add(self, exchange: Exchange) -> Exchange:
        with self._lock:
            self._log.append(exchange)
        return exchange


@contextmanager
def run_proxy(upstream_port: int) -> Iterator[CountingProxy]:
    """A proxy in front of the HTTP server on `upstream_port`, until the context ends.

    The client's Host header goes through unchanged, and so do all answers: the upstream
    is to answer with relative URLs, or with URLs made from that header.
    """
    server = _Server((LOOPBACK, 0), _Handler)
    server.proxy = CountingProxy(server.server_address[1], upstream_port)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: CountingProxy


class _Handler(BaseHTTPRequestHandler):
    """One client connection, with one upstream connection of its own."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    _upstream: http.client.HTTPConnection | None = None

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # the client left
            self.close_connection = True

    def finish(self) -> None:
        if self._upstream:
            self._upstream.close()
        with suppress(ConnectionError):
            super().finish()

    def _forward(self) -> None:
        exchange = self.server.proxy.add(
            Exchange(self.command, self.path, self.headers.get("Range"))
        )
        try:
            answer = self._ask()
        except (OSError, http.client.HTTPException):
            exchange.status = 502
            self._drop_upstream()
            self.close_connection = True
            self.send_response(502)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        exchange.status = answer.status
        self._answer(answer, exchange)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward

    def _ask(self) -> http.client.HTTPResponse:
        """Sends the client's request on and returns the head of the answer."""
        if self._upstream is None:
            port = self.server.proxy.upstream_port
            self._upstream = http.client.HTTPConnection(LOOPBACK, port, timeout=300)
        upstream = self._upstream
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        length = self.headers.get("Content-Length")
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP | {"expect"}:
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
                block = self.rfile.read(min(_BLOCK, remaining))
                if not block:
                    raise ConnectionResetError("the client's request ends early")
                upstream.send(block)
                remaining -= len(block)
        return upstream.getresponse()

    def _chunks(self) -> Iterator[bytes]:
        """The client's request body, sent in chunks."""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass

    def _answer(self, answer: http.client.HTTPResponse, exchange: Exchange) -> None:
        """Sends the upstream's answer to the client as it comes in."""
        bodiless = self.command == "HEAD" or answer.status in (204, 304) or answer.status < 200
        chunked = answer.chunked and not bodiless
        until_close = answer.length is None and not chunked and not bodiless
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if until_close:
            self.close_connection = True
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if not bodiless and not self._copy_body(answer, chunked, exchange):
            self.close_connection = True
        answer.close()
        if answer.will_close or self.close_connection:
            self._drop_upstream()

    def _copy_body(
        self, answer: http.client.HTTPResponse, chunked: bool, exchange: Exchange
    ) -> bool:
        """Sends the body on. False if it broke off: the client's body is short, too."""
        fault = self.server.proxy.fault(exchange)
        try:
            while block := answer.read1(_BLOCK):
                block, cut = _spoil(block, exchange.body_bytes, fault)
                data = b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
                self._send(data, len(block), exchange)
                if fault.gate is not None and exchange.body_bytes >= fault.gate_after:
                    fault.gate.pass_through()
                if cut:
                    self._drop_upstream()
                    return False
        except (OSError, http.client.HTTPException):
            return False
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        return chunked or not answer.length

    def _send(self, data: bytes, body_bytes: int, exchange: Exchange) -> None:
        exchange.body_bytes += body_bytes
        try:
            self.wfile.write(data)
        except OSError:
            exchange.body_bytes -= body_bytes
            self._drop_upstream()
            raise

    def _drop_upstream(self) -> None:
        if self._upstream:
            self._upstream.close()
            self._upstream = None

    def log_message(self, format: str, *args: object) -> None:
        pass


def _spoil(block: bytes, offset: int, fault: Fault) -> tuple[bytes, bool]:
    """`block`, at `offset` of the body, as the fault leaves it; whether nothing follows it."""
    if fault.change_at is not None and offset <= fault.change_at < offset + len(block):
        place = fault.change_at - offset
        block = block[:place] + bytes([block[place] ^ 1]) + block[place + 1 :]
    if fault.cut_after is not None and offset + len(block) >= fault.cut_after:
        return block[: fault.cut_after - offset], True
    return block, False
