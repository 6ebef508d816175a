"""Answers as `http.client` reads them, with the bounds that it lacks.

Its timeout is for one receive: a peer with a byte to send now and then would hold us for ever in a
header or in the size of a chunk. And it reads any number of 100 Continue answers, of chunk
extensions and of trailers. Here every read ends in time, and after so many bytes.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPException, HTTPResponse
from typing import Any, cast

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from bridge import limits


class _Wire(io.RawIOBase):
    """What comes from a socket: until a deadline, and up to a number of bytes."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self.received = 0
        self._raw = raw
        self._sock = sock
        self._timeout = sock.gettimeout()
        self._ends = 0.0
        self._limit = 0

    def grant(self, limit: int) -> None:
        """Allow `limit` bytes in all, and the socket's timeout from now on for all reads."""
        self._limit = limit
        self._ends = time.monotonic() + (self._timeout or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Receive once. `TimeoutError` and `HTTPException` when it is too late or too much."""
        if self.received > self._limit:
            raise HTTPException(f"headers or framing of more than {self._limit} bytes")
        if self._timeout is None:
            left = None
        elif (left := self._ends - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        try:
            count = cast(int, self._raw.readinto(buffer))
        finally:
            self._sock.settimeout(self._timeout)
        self.received += count
        return count

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer whose head, and each read of whose body, ends within the socket's timeout."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._body = 0
        self._wire = _Wire(self.fp.detach(), sock)
        self._wire.grant(limits.HEADERS_MAX)
        self.fp = io.BufferedReader(self._wire)

    def read1(self, n: int = -1) -> bytes:
        body = max(n, 0) + limits.FRAMING_RATIO_MAX * self._body
        self._wire.grant(limits.HEADERS_MAX + limits.FRAMING_MAX + body)
        data = super().read1(n)
        self._body += len(data)
        return data


class _Connection(HTTPConnection):
    response_class = _Answer


class _TLSConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOLS = {"http": _Pool, "https": _TLSPool}
"""For `PoolManager.pool_classes_by_scheme`."""
