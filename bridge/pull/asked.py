"""Asking early what the store has of a blob's files: as soon as it has said what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Lock

from bridge.pull.content_index import Place
from bridge.pull.plan import Lookup


class Asked:
    """A `Lookup` that asks another one once for each digest. Safe for several threads."""

    def __init__(self, contents: Lookup) -> None:
        self._contents = contents
        self._lock = Lock()
        self._known: set[bytes] = set()
        self._found: dict[bytes, Place] = {}

    def find(self, digests: Collection[bytes]) -> Mapping[bytes, Place]:
        """Return a place for each of the sha256 digests that the store has; it may have more."""
        with self._lock:
            new = set(digests) - self._known
            if new:
                self._found.update(self._contents.find(new))
                self._known |= new
            return self._found
