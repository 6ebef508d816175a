"""A registry on loopback that says exactly what a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bridge.registry.auth import Authenticator
from bridge.registry.authfile import CredentialStore
from bridge.registry.client import Client
from bridge.registry.endpoint import EndpointClient
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions, Timeouts
from bridge.registry.registriesconf import RegistriesConf
from bridge.registry.transport import Transport


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None
    """Body bytes to send before the connection is cut."""
    stall: bool = False
    """Hold the connection open after `sent` bytes until the server is closed."""
    announced: bool = True
    """False: no Content-Length, the end of the connection is the end of the body."""


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    Answer = Answer

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.body_bytes = 0
        self.rules: dict[str, list[Answer | Callable[[Seen], Answer]]] = {}
        self.closing = threading.Event()
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {key.lower(): value for key, value in self.headers.items()}
                outer.answer(self, Seen(self.command, self.path, headers, body))

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.http.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.host = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def on(self, path: str, *answers: Answer | Callable[[Seen], Answer]) -> None:
        """Give these answers, one after the other, the last one for ever."""
        self.rules[path] = list(answers)

    def answer(self, handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        with self.lock:
            self.seen.append(seen)
            rules = self.rules.get(seen.path) or self.rules.get(seen.path.partition("?")[0])
            rule = (rules.pop(0) if len(rules) > 1 else rules[0]) if rules else Answer(404)
        reply = rule if isinstance(rule, Answer) else rule(seen)
        handler.send_response(reply.status)
        for key, value in reply.headers.items():
            handler.send_header(key, value)
        if reply.announced and "Content-Length" not in reply.headers:
            handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        if seen.method != "HEAD":
            data = reply.body[: reply.sent]
            with self.lock:
                self.body_bytes += len(data)
            handler.wfile.write(data)
            handler.wfile.flush()
        if reply.stall:
            self.closing.wait(30)
        if reply.stall or reply.sent is not None or not reply.announced:
            handler.close_connection = True

    @staticmethod
    def ranged(data: bytes) -> Callable[[Seen], Answer]:
        """Serve a blob with ranges, as a registry should."""

        def serve(seen: Seen) -> Answer:
            asked = seen.headers.get("range")
            if asked is None:
                return Answer(200, data)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(data)
            if start >= len(data):
                return Answer(416)
            where = f"bytes {start}-{end - 1}/{len(data)}"
            return Answer(206, data[start:end], {"Content-Range": where})

        return serve

    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]

    def authorizations(self) -> list[str | None]:
        return [seen.headers.get("authorization") for seen in self.seen]

    def close(self) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def new_server() -> Iterator[Callable[[], Server]]:
    servers: list[Server] = []

    def make() -> Server:
        servers.append(Server())
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(new_server: Callable[[], Server]) -> Server:
    return new_server()


@dataclass
class Rig:
    client: Client
    endpoint: EndpointClient
    """Asks one endpoint, as `client` does."""
    transport: Transport
    meter: Meter
    sleeps: list[float]
    told: list[str]


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    """Make clients that speak plain HTTP, record their sleeps and never really sleep."""
    made: list[Client] = []

    def make(
        *, probe: bool = False, registries: RegistriesConf | None = None, **given: object
    ) -> Rig:
        told: list[str] = []
        registries = registries or RegistriesConf()
        given.setdefault("tls_verify", False)
        given.setdefault("timeouts", Timeouts(connect=5, idle=0.3))
        options = NetworkOptions(**given)  # type: ignore[arg-type]
        sleeps: list[float] = []
        transport = Transport(options, sleep=sleeps.append, random=lambda: 0.5)
        if not probe:
            transport.base_url = lambda host, meter, insecure: f"http://{host}"  # type: ignore[method-assign]
        meter = Meter()
        credentials = CredentialStore(options, environ={"HOME": "/nonexistent"}, uid=12345)
        client = Client(
            options,
            meter,
            credentials=credentials,
            transport=transport,
            registries=registries,
            tell=told.append,
        )
        made.append(client)
        asking = EndpointClient(transport, Authenticator(credentials), meter)
        return Rig(client, asking, transport, meter, sleeps, told)

    yield make
    for client in made:
        client.close()
