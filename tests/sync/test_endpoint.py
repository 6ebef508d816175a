"""The little HTTP server: what it answers, and what it does not let be done to it."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from bridge import limits
from bridge.errors import BridgeError, UsageError
from bridge.sync.endpoint import Endpoint, Reply, Request, answer

PAGES = {
    "/ok": lambda request: Reply(HTTPStatus.OK, f"{request.path} {request.accept} ü\n"),
    "/bad": lambda request: Reply(HTTPStatus.SERVICE_UNAVAILABLE, "", "application/json"),
}


def parts(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split(" ")[1]), headers, body


STATUSES = {
    "GET /ok HTTP/1.1": 200,
    "GET /ok HTTP/1.0": 200,
    "GET /ok?x=/bad HTTP/1.1": 200,
    "HEAD /ok HTTP/1.1": 200,
    "GET /bad HTTP/1.1": 503,
    "GET / HTTP/1.1": 404,
    "GET /ok/../bad HTTP/1.1": 404,
    "GET /OK HTTP/1.1": 404,
    "POST /ok HTTP/1.1": 405,
    "DELETE /ok HTTP/1.1": 405,
    "get /ok HTTP/1.1": 405,
    "GET http://elsewhere/ok HTTP/1.1": 400,
    "GET /ok": 400,
    "GET  /ok HTTP/1.1": 400,
    "GET /ok HTTP/2.0": 400,
    "": 400,
    "\x16\x03\x01": 400,
    "PRI * HTTP/2.0": 400,
}


@pytest.mark.parametrize("line", STATUSES, ids=repr)
def test_what_is_answered(line: str) -> None:
    status, headers, body = parts(answer(f"{line}\r\nHost: x".encode("latin-1"), PAGES))
    assert status == STATUSES[line]
    assert headers["Connection"] == "close" and "Content-Type" in headers
    if line.startswith("HEAD"):
        assert body == b"" and int(headers["Content-Length"]) > 0
    else:
        assert len(body) == int(headers["Content-Length"])
    assert ("Allow" in headers) is (status == 405)


def test_what_is_acceptable_is_told() -> None:
    head = b"GET /ok HTTP/1.1\r\nHost: x\r\naccept: text/plain\r\nACCEPT:a/b;q=1"
    assert parts(answer(head, PAGES))[2] == "/ok text/plain,a/b;q=1 ü\n".encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint("127.0.0.1:0", PAGES)
    yield made
    made.close()


def connect(endpoint: Endpoint) -> socket.socket:
    host, _, port = endpoint.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def ask(endpoint: Endpoint, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(endpoint.address, timeout=60)
    connection.request(method, path)
    got = connection.getresponse()
    found = got.status, got.read()
    connection.close()
    return found


def test_it_answers(endpoint: Endpoint) -> None:
    assert ask(endpoint, "GET", "/ok") == (200, "/ok  ü\n".encode())
    assert ask(endpoint, "HEAD", "/ok") == (200, b"")
    assert ask(endpoint, "PUT", "/ok")[0] == 405


def test_a_head_that_comes_in_bits(endpoint: Endpoint) -> None:
    with connect(endpoint) as client:
        for byte in b"GET /ok HTTP/1.1\r\n\r\n":
            client.sendall(bytes([byte]))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_head_that_is_too_long(endpoint: Endpoint) -> None:
    with connect(endpoint) as client:
        client.sendall(b"GET /ok HTTP/1.1\r\nX: " + b"x" * (limits.SYNC_REQUEST_MAX - 20))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 431 ")


def test_a_head_that_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "SYNC_REQUEST_TIMEOUT", 0.05)
    made = Endpoint("127.0.0.1:0", PAGES)
    with connect(made) as client:
        client.sendall(b"GET /ok HTTP/1.1\r\n")
        assert client.recv(1) == b""
    made.close()


def test_clients_that_leave(endpoint: Endpoint) -> None:
    for _ in range(3 * limits.SYNC_CONNECTIONS_MAX):
        with connect(endpoint) as client:
            client.sendall(b"GET /ok")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    assert ask(endpoint, "GET", "/ok")[0] == 200


def test_clients_that_stay_are_few(endpoint: Endpoint) -> None:
    staying = [connect(endpoint) for _ in range(limits.SYNC_CONNECTIONS_MAX)]
    try:
        for each in staying:  # all of them are being read from
            each.sendall(b"GET")
        with connect(endpoint) as client:
            assert client.recv(1) == b""
    finally:
        for each in staying:
            each.shutdown(socket.SHUT_WR)
            assert each.recv(1) == b""
            each.close()


@pytest.mark.parametrize("listen", ["", "x", "127.0.0.1", ":80", "127.0.0.1:http", "[::1]:70000"])
def test_places_that_are_none(listen: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Endpoint(listen, PAGES)


def test_a_place_that_is_taken(endpoint: Endpoint) -> None:
    with pytest.raises(BridgeError, match=f"listening at {endpoint.address}: .*--listen"):
        Endpoint(endpoint.address, PAGES)


def test_a_request_is_a_value() -> None:
    assert Request("/ok") == Request("/ok", "")
