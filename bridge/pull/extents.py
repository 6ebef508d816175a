"""Sets of bytes of a blob, as stretches."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Extents:
    """The bytes from `start` to `end` (exclusive) of every stretch that was added."""

    def __init__(self) -> None:
        # Ascending, and neither overlapping nor adjacent.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add a stretch."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take a stretch out."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if start >= end or first >= last:
            return
        left, right = self._starts[first], self._ends[last - 1]
        del self._starts[first:last], self._ends[first:last]
        self.add(left, start)
        self.add(end, right)

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the stretches between `start` and `end` that are not in the set."""
        gaps = []
        at = start
        for index in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[index] >= end:
                break
            if self._starts[index] > at:
                gaps.append((at, self._starts[index]))
            at = self._ends[index]
        if at < end:
            gaps.append((at, end))
        return gaps

    def covers(self, start: int, end: int) -> bool:
        """Tell whether all bytes from `start` to `end` are in the set."""
        return not self.missing(start, end)
