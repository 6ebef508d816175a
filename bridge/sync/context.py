"""What the parts of a job share: its places, its state, what was learned of a repository."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bridge.errors import BridgeError
from bridge.registry.meter import Meter
from bridge.sync.hosts import Hosts
from bridge.sync.model import Job
from bridge.sync.progress import SyncProgress
from bridge.sync.source import Source
from bridge.sync.state import State
from bridge.sync.target import Target


class Stopped(BridgeError):
    """The run was told to end."""


@dataclass(frozen=True, slots=True)
class Context:
    """One job, as it is being done."""

    job: Job
    source: Source
    target: Target
    state: State
    hosts: Hosts
    meter: Meter
    progress: SyncProgress
    stop: threading.Event
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    dry: bool = False
    missing_only: bool = False

    def check(self) -> None:
        """Raise `Stopped` once the run is to end."""
        if self.stop.is_set():
            raise Stopped("the run was stopped before this was done")

    def keep_reserve(self) -> None:
        """Wait while the source leaves fewer requests than are to be left."""
        reserve, connection = self.job.reserve, self.source.connection
        if reserve is None or connection is None:
            return

        def tell(seconds: float) -> None:
            self.progress.message(
                f"{self.source.host} has few requests left; job {self.job.name} waits for "
                f"{seconds:.0f} seconds"
            )

        connection.throttle.keep(reserve.least, reserve.retry, self.stop.wait, tell)
        self.check()


@dataclass(slots=True)
class Repository:
    """A repository of the source, and the one of the target; names are those below the places."""

    source: str
    target: str
    tags: frozenset[str] | None = None
    """At the source, when the job began with it; None: nobody asked."""
    digest_tags: dict[str, list[str]] = field(default_factory=dict)
    """Those tags that name a digest, by that."""
    there: frozenset[str] | None = None
    """The tags at the target then; None: it is not known."""
    _begun: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, what: str) -> bool:
        """Tell whether the caller is the first to do something of that name."""
        with self._lock:
            if what in self._begun:
                return False
            self._begun.add(what)
            return True


def flat(error: BaseException) -> BridgeError:
    """Return an error as one of ours."""
    if isinstance(error, BridgeError):
        return error
    if isinstance(error, OSError):
        return BridgeError(f"{error.filename or 'a file'}: {error.strerror or error}")
    return BridgeError(f"{type(error).__name__}: {error}")


def shown(names: Sequence[str]) -> str:
    """Return a few names as a message has them."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
