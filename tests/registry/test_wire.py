"""What `http.client` would read without end, from a peer that sends it raw."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

import pytest

from bridge import limits
from bridge.errors import NetworkError
from bridge.registry.message import Request
from bridge.registry.options import Timeouts

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Peer:
    """Answers every connection with the same bytes, as many as are taken; counts them."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.closing = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            for part in chain.from_iterable([p] if isinstance(p, bytes) else p for p in self.parts):
                if isinstance(part, float):
                    if self.closing.wait(part):
                        return
                    continue
                connection.sendall(part)
                self.sent += len(part)

    def close(self) -> None:
        self.closing.set()
        self._listener.close()


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(*parts: Any) -> Peer:
        made.append(Peer(*parts))
        return made[-1]

    yield make
    for each in made:
        each.close()


SLOW = [b"0", 0.05] * 1000
KERNEL = 8 * limits.MIB

ENDLESS = {
    # What is sent, and words of the error. The rig's idle timeout is 0.3 seconds.
    "a trickling status": ([HEAD[:9], SLOW], "nothing came for 0.3"),
    "a trickling header": ([HEAD, b"X: ", SLOW], "nothing came for 0.3"),
    "a trickling chunk size": ([CHUNKED, SLOW], "nothing came for 0.3"),
    "trickling trailers": ([CHUNKED, b"0\r\n", SLOW], "nothing came for 0.3"),
    "headers": ([HEAD, repeat(b"X: y\r\n")], "more than 100 headers"),
    "a header": ([HEAD, b"X: ", repeat(b"y" * 1000)], "header line"),
    "long headers": ([HEAD, repeat(b"X: " + b"y" * 60_000 + b"\r\n", 50)], "headers or framing"),
    "100 Continue": ([repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)], "headers or framing"),
    "trailers": ([CHUNKED, b"0\r\n", repeat(b"X: y\r\n" * 1000)], "headers or framing"),
    "chunk extensions": (
        [CHUNKED, repeat(b"1;" + b"x" * 60_000 + b"\r\ny\r\n")], "headers or framing"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDLESS)
def test_what_has_no_end(rig: Any, peer: Callable[..., Peer], case: str) -> None:
    parts, words = ENDLESS[case]
    server = peer(*parts)
    made = rig(retry_times=0)
    with pytest.raises(NetworkError, match=words):
        made.transport.exchange(
            Request("GET", f"http://{server.host}/x", limit=limits.MANIFEST_MAX), made.meter
        )
    assert server.sent < KERNEL
    assert made.meter.received_bytes < 100


def test_small_chunks_are_no_flood(rig: Any, peer: Callable[..., Peer]) -> None:
    server = peer(CHUNKED, b"1\r\ny\r\n" * 20_000, b"0\r\nX: y\r\n\r\n")
    made = rig(retry_times=0, timeouts=Timeouts())
    got = made.transport.exchange(
        Request("GET", f"http://{server.host}/x", limit=limits.MANIFEST_MAX), made.meter
    )
    assert got.body == b"y" * 20_000


def test_a_connection_is_used_again(server: Any, rig: Any) -> None:
    """With its whole timeout, and not what a read had left of it."""
    server.on("/x", server.Answer(200, b"a" * 100_000))
    made = rig()
    for _ in range(3):
        made.transport.exchange(Request("GET", f"http://{server.host}/x", limit=10**6), made.meter)
    (pool,) = made.transport._sessions.values()
    assert pool.qsize() == 1
