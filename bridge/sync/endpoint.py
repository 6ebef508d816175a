"""Health and metrics over HTTP: a server so small that all it does can be bounded.

One request for each connection, GET or HEAD, no body; a head of few bytes that has to arrive in a
few seconds; a few connections at once, and who comes then is turned away.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from bridge import limits
from bridge.errors import BridgeError, UsageError


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    path: str
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: HTTPStatus
    body: str
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[Request], Reply]


def answer(head: bytes, pages: Mapping[str, Page]) -> bytes:
    """Return the whole response to the head of a request, up to its empty line."""
    method, reply = "GET", Reply(HTTPStatus.BAD_REQUEST, "this is no HTTP request\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) == 3 and words[2].startswith("HTTP/1.") and words[1].startswith("/"):
        method, path = words[0], words[1].partition("?")[0]
        accept = ",".join(
            value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
            if name.lower() == "accept"
        )
        page = pages.get(path)
        if method not in ("GET", "HEAD"):
            reply = Reply(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n")
        elif page is None:
            reply = Reply(HTTPStatus.NOT_FOUND, f"there are {', '.join(sorted(pages))}\n")
        else:
            reply = page(Request(path, accept))
    return _encoded(reply, whole=method != "HEAD")


def _encoded(reply: Reply, *, whole: bool = True) -> bytes:
    body = reply.body.encode(errors="replace")
    lines = [
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if reply.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body if whole else b"")


class Endpoint:
    """The server: listens from when it is made until it is closed."""

    def __init__(self, listen: str, pages: Mapping[str, Page]) -> None:
        """Listen at `host:port`. Raises `UsageError` for what is no such, `BridgeError` where it
        cannot be had."""
        self._pages = dict(pages)
        self._free = threading.BoundedSemaphore(limits.SYNC_CONNECTIONS_MAX)
        self._socket = _listener(listen)
        self._thread = threading.Thread(target=self._accept, name="endpoint", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port` at which it listens."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Listen no longer. What is being answered is answered."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except ConnectionError:  # of somebody who left
                continue
            except OSError as error:
                if error.errno is not None and self._socket.fileno() >= 0 and _is_short(error):
                    time.sleep(0.1)
                    continue
                return
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                head = _head(connection)
                if head is not None:
                    connection.settimeout(limits.SYNC_REQUEST_TIMEOUT)
                    connection.sendall(answer(head, self._pages))
        finally:
            self._free.release()


def _is_short(error: OSError) -> bool:
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def _head(connection: socket.socket) -> bytes | None:
    """Return the request up to its empty line; None where that is not sent, or not in time."""
    deadline = time.monotonic() + limits.SYNC_REQUEST_TIMEOUT
    data = b""
    while b"\r\n\r\n" not in data:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        connection.settimeout(left)
        block = connection.recv(limits.SYNC_REQUEST_MAX + 1 - len(data))
        if not block:
            return None
        data += block
        if len(data) > limits.SYNC_REQUEST_MAX:
            too_long = Reply(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too long\n")
            connection.sendall(_encoded(too_long))
            return None
    return data.partition(b"\r\n\r\n")[0]


def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{listen!r}: it has the form HOST:PORT, as 127.0.0.1:9467")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(limits.SYNC_CONNECTIONS_MAX)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise BridgeError(
            f"listening at {listen}: {error.strerror}; name another place with --listen, or "
            "`--listen none`"
        ) from None
    return found
