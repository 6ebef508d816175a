"""One place for many images: what one of them brought, the others need not bring again.

Of every blob it is known who is bringing it: others that want it meanwhile wait for that, and then
have it, or have it lent by the repository that got it. What the place has is asked once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from bridge import limits
from bridge.errors import BridgeError
from bridge.oci.digest import Digest
from bridge.push.destination import Destination, RegistryDestination
from bridge.registry.body import Arriving
from bridge.registry.outcome import Outcome

_LENDERS = 2
"""Repositories that are asked to lend a blob before it is sent."""
_POLL = 0.5


class Memory(Protocol):
    """What was seen in earlier runs: hints, which may be wrong."""

    def homes(self, digest: str) -> Sequence[str]:
        """Return repositories that may have a blob."""

    def keep(self, digest: str, repository: str) -> None:
        """Take that a repository has a blob."""


class Ledger:
    """Which blobs and documents are in which repository of a place, as was seen in this run."""

    def __init__(
        self, stopped: Callable[[], bool] = lambda: False, memory: Memory | None = None
    ) -> None:
        self._stopped = stopped
        self._memory = memory
        self._changed = threading.Condition()
        self._homes: OrderedDict[str, set[str]] = OrderedDict()
        self._coming: set[str] = set()

    def claim(self, digest: str, home: str) -> tuple[str, ...] | None:
        """Return the repositories that have a blob, once nobody else is bringing it; from then on
        the caller is, until `learn` or `release`. None: `home` has it.

        `BridgeError` where the run is to end.
        """
        with self._changed:
            while True:
                homes = self._homes.get(digest, set())
                if home in homes:
                    return None
                if digest not in self._coming:
                    self._coming.add(digest)
                    return tuple(sorted(homes))
                if self._stopped():
                    raise BridgeError("stopped")
                self._changed.wait(_POLL)

    def learn(self, digest: str, home: str) -> None:
        """Take that a repository has a blob or a document now."""
        with self._changed:
            self._homes.setdefault(digest, set()).add(home)
            self._homes.move_to_end(digest)
            if len(self._homes) > limits.SYNC_BLOBS_KNOWN:
                self._homes.popitem(last=False)
            self._release(digest)

    def remember(self, digest: str, home: str) -> None:
        """Keep for later runs that a repository has a blob."""
        if self._memory is not None:
            self._memory.keep(digest, home)

    def remembered(self, digest: str) -> Sequence[str]:
        """Return repositories that had a blob in an earlier run."""
        return () if self._memory is None else self._memory.homes(digest)

    def release(self, digest: str) -> None:
        """Take that the caller does not bring the blob."""
        with self._changed:
            self._release(digest)

    def has(self, digest: str, home: str) -> bool:
        """Tell whether a repository is known to have a blob or a document."""
        with self._changed:
            return home in self._homes.get(digest, ())

    def _release(self, digest: str) -> None:
        self._coming.discard(digest)
        self._changed.notify_all()


class SharedDestination:
    """A destination of one image, as one of many of the same place."""

    def __init__(
        self, place: Destination, ledger: Ledger, home: str, lenders: Sequence[str] = ()
    ) -> None:
        """`home` is the repository's name; `lenders` are others that may have its blobs."""
        self.meter = place.meter
        self.piece = place.piece
        self._place = place
        self._ledger = ledger
        self._home = home
        self._lenders = tuple(lenders)

    def copies_listing(self) -> None:
        """Write what refers to others without listing it: its listing is what is copied."""
        if isinstance(self._place, RegistryDestination):
            self._place.lists = False

    def has(self, digest: Digest, size: int) -> Outcome | None:
        homes = self._ledger.claim(digest, self._home)
        if homes is None:
            return Outcome.SKIPPED
        try:
            outcome = self._there(digest, size, homes)
        except BaseException:
            self._ledger.release(digest)
            raise
        if outcome is not None:
            self._ledger.remember(digest, self._home)
            self._ledger.learn(digest, self._home)
        return outcome

    def _there(self, digest: Digest, size: int, homes: tuple[str, ...]) -> Outcome | None:
        # Where another got it in this run, to ask for it is more than to have it lent.
        if any(self._place.borrow(digest, each) for each in homes[:_LENDERS]):
            return Outcome.MOUNTED
        if (outcome := self._place.has(digest, size)) is not None:
            return outcome
        lenders = {*self._lenders, *self._ledger.remembered(digest)} - {*homes, self._home}
        if any(self._place.borrow(digest, each) for each in sorted(lenders)):
            return Outcome.MOUNTED
        return None

    def borrow(self, digest: Digest, lender: str) -> bool:
        return self._place.borrow(digest, lender)

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        try:
            outcome = self._place.put(fd, digest, size, told, arriving)
        except BaseException:
            self._ledger.release(digest)
            raise
        self._ledger.remember(digest, self._home)
        self._ledger.learn(digest, self._home)
        return outcome

    def gave_up(self, digest: Digest) -> None:
        self._place.gave_up(digest)
        self._ledger.release(digest)

    def write(self, document: bytes, media_type: str) -> Digest:
        digest = Digest.of(document)
        if not self._ledger.has(digest, self._home):
            self._place.write(document, media_type)
            self._ledger.learn(digest, self._home)
        return digest

    def attach(self, document: bytes, media_type: str) -> Digest:
        return self._place.attach(document, media_type)

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        digest = self._place.finish(document, media_type, tags)
        self._ledger.learn(digest, self._home)
        return digest
