"""A token server: what a registry with bearer authentication sends its clients to."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from rig.certificates import Authority, Identity
from rig.credentials import Credentials
from rig.ports import LOOPBACK


@dataclass(frozen=True)
class TokenRequest:
    """What a client asked the token server for, and whether it got it."""

    method: str
    parameters: dict[str, list[str]]
    user: str | None
    status: int


@dataclass
class TokenServer:
    """A token server that runs. `requests` grows as clients ask.

    With `credentials` set it gives tokens to that user alone, else to anyone; it grants
    whatever scope is asked for, for `lifetime` seconds.
    """

    identity: Identity
    port: int
    credentials: Credentials | None = None
    lifetime: int = 300
    service: str = "test-registry"
    issuer: str = "test-issuer"
    requests: list[TokenRequest] = field(default_factory=list)
    body_bytes: int = 0

    @property
    def realm(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/token"

    @property
    def certificate_file(self) -> Path:
        return self.identity.certificate_file

    def token(self, scopes: list[str], subject: str) -> str:
        """A signed token (JWT, ES256) for `scopes`, each `repository:NAME:ACTION,...`."""
        now = int(time.time())
        access = []
        for scope in " ".join(scopes).split():
            resource, _, actions = scope.rpartition(":")
            kind, _, name = resource.partition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        certificate = self.identity.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(certificate).decode()]}
        claims = {
            "iss": self.issuer,
            "sub": subject,
            "aud": self.service,
            "iat": now,
            "nbf": now - 10,
            # The registry allows a minute of clock skew after this.
            "exp": now + self.lifetime,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        signature = self.identity.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@contextmanager
def run_token_server(
    directory: Path, credentials: Credentials | None = None, *, lifetime: int = 300
) -> Iterator[TokenServer]:
    """A token server on a free port until the context ends; its files lie in `directory`."""
    authority = Authority.create(directory)
    server = ThreadingHTTPServer((LOOPBACK, 0), _Handler)
    tokens = TokenServer(authority.identity, server.server_address[1], credentials, lifetime)
    server.tokens = tokens  # type: ignore[attr-defined]
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """GET with basic authentication, and POST with an OAuth 2 password grant."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parameters = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        user, password = None, None
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, _, password = base64.b64decode(value).decode().partition(":")
        self._answer(parameters, user, password)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        parameters = urllib.parse.parse_qs(self.rfile.read(length).decode())
        user = parameters.get("username", [None])[0]
        self._answer(parameters, user, parameters.pop("password", [None])[0])

    def _answer(
        self, parameters: dict[str, list[str]], user: str | None, password: str | None
    ) -> None:
        tokens: TokenServer = self.server.tokens  # type: ignore[attr-defined]
        expected = tokens.credentials
        welcome = expected is None or (user, password) == (expected.user, expected.password)
        answer: dict[str, object] = {"details": "incorrect username or password"}
        if welcome:
            token = tokens.token(parameters.get("scope", []), user or "")
            answer = {"token": token, "access_token": token, "expires_in": tokens.lifetime}
        body = json.dumps(answer).encode()
        status = 200 if welcome else 401
        tokens.requests.append(TokenRequest(self.command, parameters, user, status))
        tokens.body_bytes += len(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
