"""Which hosts have the referrers API: what is learned of one is not asked again."""

from __future__ import annotations

import threading


class Support:
    """Which hosts were seen to have the referrers API, and which not. Safe for several threads."""

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> bool | None:
        """Return what is known of a host."""
        with self._lock:
            return self._known.get(host)

    def learn(self, host: str, has: bool) -> None:
        """Take what a host's answer says. One that had it once has it."""
        with self._lock:
            self._known[host] = has or self._known.get(host, False)
