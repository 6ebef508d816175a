"""How much one registry is asked at once, and how fast; what it says of its own limits.

All that is asked on behalf of a registry counts: its token server, and where it keeps its blobs.
Headers: Docker Hub's `ratelimit-remaining: 76;w=21600`, and those of the IETF's drafts, of which
`RateLimit-Remaining` and `RateLimit-Reset` are the usual ones
(https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-03).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping

_NUMBER = re.compile(r"[ \t]*([0-9]{1,15})[ \t]*(?:[;,].*)?")
_POLL = 0.5
"""Seconds after which whoever waits looks whether it is to end."""


class Throttle:
    """The limits of one registry, shared by all threads that ask it.

    `at_once` requests, an answer's body being a part of one; `per_second` requests begun. One of
    the places is kept free of bodies that stream in, so that whoever sends on what comes in is
    never stuck behind others of the same kind; with a single place nothing is sent meanwhile.
    """

    def __init__(
        self,
        at_once: int | None = None,
        per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._places = threading.BoundedSemaphore(at_once) if at_once else None
        self._streams = threading.BoundedSemaphore(at_once - 1) if at_once and at_once > 1 else None
        self.overlaps = at_once is None or at_once > 1
        """Whether something may be sent while a body comes in."""
        self._interval = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock()
        self._remaining: int | None = None
        self._resets: float | None = None

    def enter(self, *, streams: bool = False) -> Callable[[], None]:
        """Wait until a request may begin; return what is to be called at its end, once."""
        held = [each for each in (self._streams if streams else None, self._places) if each]
        for each in held:
            each.acquire()
        if wait := self._turn():
            self._sleep(wait)

        def leave() -> None:
            for each in reversed(held):
                each.release()

        return leave

    def _turn(self) -> float:
        """Return the seconds until the request that asks may begin."""
        if not self._interval:
            return 0.0
        with self._lock:
            now = self._clock()
            begin = max(self._next, now)
            self._next = begin + self._interval
            return begin - now

    def see(self, headers: Mapping[str, str]) -> None:
        """Take what an answer says of the registry's own limit."""
        remaining = first_number(headers.get("RateLimit-Remaining"))
        if remaining is None:
            return
        reset = first_number(headers.get("RateLimit-Reset"))
        with self._lock:
            self._remaining = remaining
            self._resets = None if reset is None else self._clock() + reset

    @property
    def remaining(self) -> int | None:
        """How many requests the registry said last that are left; None: it says nothing of it."""
        with self._lock:
            return self._remaining

    def short(self, least: int, retry: float) -> float:
        """Return the seconds to wait before more is asked, so that `least` requests are left.

        Where the registry does not say when there are more, it is `retry`. What it said is then
        forgotten: the next answer tells.
        """
        with self._lock:
            if self._remaining is None or self._remaining >= least:
                return 0.0
            wait = retry if self._resets is None else max(0.0, self._resets - self._clock())
            self._remaining = self._resets = None
            return wait

    def keep(
        self,
        least: int,
        retry: float,
        stopped: Callable[[float], bool],
        tell: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Wait where fewer than `least` requests are left, as `short` says; `tell` gets for how
        long. `stopped` waits so many seconds, less if it is to end, and tells whether it is."""
        wait = self.short(least, retry)
        if not wait:
            return
        tell(wait)
        until = self._clock() + wait
        while (left := until - self._clock()) > 0:
            if stopped(min(left, _POLL)):
                return


def first_number(value: str | None) -> int | None:
    """Return the number that a rate limit's header begins with; None where there is none."""
    found = _NUMBER.fullmatch(value or "")
    return int(found[1]) if found else None
