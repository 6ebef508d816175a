"""How fast a host was seen to be: what a plan may reckon with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from bridge.limits import KIB

BEGINNING = 64 * KIB
"""What comes of a body first says little of a line: it was sent with the headers, or while the
connection was still gathering speed. Smaller bodies are not looked at."""
_ENOUGH = 128 * KIB
"""Bytes beyond that which make a figure."""


class Observed(NamedTuple):
    """Of one host: None is what was not seen yet."""

    round_trip: float | None
    """Seconds from a request to the headers of its answer, where a connection was there already:
    the least of all requests, the time that the host itself takes included."""
    bytes_per_second: float | None
    """Over all connections together, while any large body was coming."""


class HostSpeed:
    """The figures of one host, as its requests give them. Safe for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._round_trip: float | None = None
        self._bytes = 0
        self._busy = 0.0
        self._bodies = 0
        self._since = 0.0

    def answered(self, seconds: float) -> None:
        """Take a time from a request on a warm connection to the headers of its answer."""
        with self._lock:
            self._round_trip = min(seconds, self._round_trip or seconds)

    def begin(self) -> None:
        """Take that a body is coming, of which `BEGINNING` is here."""
        with self._lock:
            if not self._bodies:
                self._since = self._clock()
            self._bodies += 1

    def came(self, count: int) -> None:
        """Take that so many bytes more of it came."""
        with self._lock:
            self._bytes += count

    def end(self) -> None:
        """Take that nothing more of it comes."""
        with self._lock:
            self._bodies -= 1
            if not self._bodies:
                self._busy += self._clock() - self._since

    def observed(self) -> Observed:
        """Return what is known by now."""
        with self._lock:
            busy = self._busy + (self._clock() - self._since if self._bodies else 0.0)
            known = self._bytes >= _ENOUGH and busy > 0
            return Observed(self._round_trip, self._bytes / busy if known else None)
