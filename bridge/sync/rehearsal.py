"""A target to which nothing is written: what would be is found out, in bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.oci.digest import Digest
from bridge.push.shared import Ledger
from bridge.registry.body import Arriving
from bridge.registry.meter import Meter
from bridge.registry.outcome import Outcome


class Rehearsal:
    """A destination that says of each blob what would become of it, and takes nothing."""

    def __init__(
        self, there: Callable[[Digest, int], bool], ledger: Ledger, home: str, meter: Meter
    ) -> None:
        """`there` tells whether the target has a blob."""
        self.meter = meter
        self.piece: int | None = None
        self._there = there
        self._ledger = ledger
        self._home = home

    def has(self, digest: Digest, size: int) -> Outcome | None:
        homes = self._ledger.claim(digest, self._home)
        if homes is None:
            return Outcome.SKIPPED
        try:
            outcome = Outcome.MOUNTED
            if not homes:
                outcome = Outcome.SKIPPED if self._there(digest, size) else Outcome.PUSHED
        except BaseException:
            self._ledger.release(digest)
            raise
        self._ledger.learn(digest, self._home)
        return outcome

    def borrow(self, digest: Digest, lender: str) -> bool:
        return False

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        return Outcome.PUSHED

    def gave_up(self, digest: Digest) -> None:
        """Nothing was begun."""

    def write(self, document: bytes, media_type: str) -> Digest:
        return Digest.of(document)

    def attach(self, document: bytes, media_type: str) -> Digest:
        return Digest.of(document)

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        return Digest.of(document)
