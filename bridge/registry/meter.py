"""Counts what the network moved, and holds it to a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Meter:
    """Counters that several threads may add to. A child adds to its parent as well.

    `received_bytes` are body bytes as they came off the wire, those of error answers, redirects,
    tokens and thrown-away bodies included; `requests` counts every request sent and `retries`
    those of them that repeat a failed one.
    """

    def __init__(self, parent: Meter | None = None) -> None:
        self.received_bytes = 0
        self.requests = 0
        self.retries = 0
        self._parent = parent
        self._lock = threading.Lock()

    def child(self) -> Meter:
        """Return a meter whose counts are added here too: one for each layer, say."""
        return Meter(self)

    def add(self, *, received: int = 0, requests: int = 0, retries: int = 0) -> None:
        """Add to the counters."""
        with self._lock:
            self.received_bytes += received
            self.requests += requests
            self.retries += retries
        if self._parent is not None:
            self._parent.add(received=received, requests=requests, retries=retries)


class RateLimit:
    """A token bucket over the bytes of all threads, with a burst of a quarter of a second."""

    BURST = 0.25

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = clock()

    @property
    def chunk(self) -> int:
        """Bytes to read at once, so that one read does not overdraw the bucket by much."""
        return max(1024, int(self._rate * self.BURST))

    def take(self, count: int) -> None:
        """Account for `count` bytes received, and sleep for as long as they came too early."""
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - self.BURST) + count / self._rate
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)
