"""An HTTP answer on its way through a proxy, as a value that a fault can change."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]


class Connection:
    """A client's connection, for what a fault does to it besides sending bytes."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self.sock = sock
        self._closing = closing

    def wait(self, seconds: float) -> None:
        """Sends nothing for so long; raises when the client has left or the proxy ends."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the proxy ends")
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
        with suppress(BlockingIOError):
            if not socket.socket.recv(self.sock, 1, flags):  # below TLS, if there is any
                raise ConnectionAbortedError("the client left")

    def drain(self) -> None:
        """Waits until the client's kernel has all that was sent."""
        while fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)) != bytes(4):
            self.wait(0.001)


Action = Callable[[Connection], None]
"""Something that happens between two bytes; it raises `ConnectionError` to end the connection."""


def stall(connection: Connection) -> None:
    """Nothing more comes, and the connection stays open."""
    while True:
        connection.wait(0.05)


def hang_up(connection: Connection) -> None:
    """The connection ends in good order, too early."""
    raise ConnectionAbortedError("hung up")


def reset(connection: Connection) -> None:
    """The connection is reset: RST instead of FIN, after all that was sent."""
    connection.drain()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionAbortedError("reset")


def pause(seconds: float) -> Action:
    """Nothing comes for so long."""
    return lambda connection: connection.wait(seconds)


Item = bytes | Action


@dataclass
class Exchange:
    """One request and its answer. `body_bytes` is what the client was sent of the body."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    """Of the request, their names in lower case."""
    came: float = 0.0
    """When the request was here, by `time.monotonic`."""
    status: int = 0
    answered: float = 0.0
    body_bytes: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("range")

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    @property
    def start(self) -> int:
        """The first byte that a Range asks for."""
        return int(self.range.removeprefix("bytes=").partition("-")[0]) if self.range else 0

    @property
    def end(self) -> int | None:
        """Where a Range ends (exclusive); None where it leaves that open, or there is none."""
        last = (self.range or "").rpartition("-")[2]
        return int(last) + 1 if last else None


@dataclass
class Answer:
    """What a client is to be sent. Without a Content-Length and not chunked it ends by closing."""

    status: int
    headers: Headers
    body: Iterable[Item]
    chunked: bool = False
    reason: str = ""
    head: Callable[[bytes], Iterable[Item]] = field(default=lambda head: [head])
    """How status line and headers are sent."""
    frame: Callable[[bytes], bytes] = lambda data: b"%x\r\n%b\r\n" % (len(data), data)
    """A chunk, as it is sent."""
    trailer: Iterable[Item] = (b"\r\n",)
    """What follows the last chunk."""
    whole: Callable[[], bool] = lambda: True
    """Whether the body was all there, asked when it has ended."""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without(self, *names: str) -> None:
        """Drops headers."""
        self.headers = [pair for pair in self.headers if pair[0].lower() not in names]

    def set(self, name: str, value: str) -> None:
        """Sets a header, instead of those of that name."""
        self.without(name.lower())
        self.headers.append((name, value))

    def data(self) -> bytes:
        """Takes the rest of the body, which has bytes only."""
        parts = []
        for item in self.body:
            assert isinstance(item, bytes)
            parts.append(item)
        return b"".join(parts)

    def send_data(self, data: bytes) -> None:
        """Makes `data` the body, with its length in the headers."""
        self.body = [data]
        self.chunked = False
        self.set("Content-Length", str(len(data)))


Fault = Callable[[Exchange, Answer], Answer]
"""What becomes of an answer. It may change it, or return another one."""
