"""Which stretch of a blob is fetched next, of those that are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from bridge.limits import RANGE_LIGHT

Job = tuple[int, int]
"""Where a stretch begins, and where it ends: the offset of its last byte and one."""


class RangeJobs:
    """Stretches that nobody fetches yet, in the order in which their bytes are needed.

    Light ones cost a round trip and no bandwidth, heavy ones the other way round. Who takes light
    ones first, while others are at heavy ones, spends what would lie idle; and what is left at the
    end is no row of round trips.
    """

    def __init__(self) -> None:
        self._urgent: deque[Job] = deque()
        self._light: deque[tuple[int, Job]] = deque()
        self._heavy: deque[tuple[int, Job]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._light) + len(self._heavy)

    def __iter__(self) -> Iterator[Job]:
        yield from self._urgent
        for _number, job in (*self._light, *self._heavy):
            yield job

    def add(self, start: int, end: int) -> None:
        """Take one more, which is needed after all others."""
        kind = self._light if end - start <= RANGE_LIGHT else self._heavy
        kind.append((self._count, (start, end)))
        self._count += 1

    def add_first(self, start: int, end: int) -> None:
        """Take one more, which is needed before all others."""
        self._urgent.appendleft((start, end))

    def take(self, *, light: bool) -> Job | None:
        """Return the one that is needed first, or the first that is `light` if that is wanted and
        there is one; None when there are no more."""
        if self._urgent:
            return self._urgent.popleft()
        kinds = [kind for kind in (self._light, self._heavy) if kind]
        if not kinds:
            return None
        kind = kinds[0] if light else min(kinds, key=lambda each: each[0])
        return kind.popleft()[1]

    def clear(self) -> None:
        """Forget them."""
        self._urgent.clear()
        self._light.clear()
        self._heavy.clear()
