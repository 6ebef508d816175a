"""When to try again: exponential backoff with jitter, and `Retry-After`. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from bridge import limits

STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""Answers worth another try. Never 401, 403 or 404: those say what they mean."""


class Backoff:
    """The waits before the tries of one request. `random` gives numbers in [0, 1)."""

    def __init__(self, retries: int, random: Callable[[], float]) -> None:
        self._left = retries
        self._random = random
        self._delay = limits.RETRY_FIRST_DELAY
        self._waited = 0.0
        self.tries = 1

    def next(self, retry_after: float | None = None) -> float | None:
        """Return the seconds to wait before the next try, or None to give up.

        A server's `retry_after` is a lower bound; one beyond `RETRY_DELAY_MAX` ends the tries.
        """
        if self._left <= 0 or (retry_after or 0.0) > limits.RETRY_DELAY_MAX:
            return None
        jittered = self._delay * (0.5 + self._random() / 2)
        # Jitter goes on top of what a server asks for: all its clients were told the same.
        wait = jittered if retry_after is None else retry_after + self._random()
        wait = max(wait, jittered)
        if self._waited + wait > limits.RETRY_TOTAL_MAX:
            return None
        self._left -= 1
        self._delay = min(self._delay * 2, limits.RETRY_DELAY_MAX)
        self._waited += wait
        self.tries += 1
        return wait


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for; `now` is Unix time.

    The value is a number of seconds or an HTTP date (RFC 9110, section 10.2.3); None when it is
    absent or neither.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        date = parsedate_to_datetime(text)
        stamp = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, stamp - now)
