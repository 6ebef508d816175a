"""A request's body that is a part of a file: read as it is sent, and anew for each try."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bridge import limits
from bridge.registry.meter import RateLimit


class Arriving(Protocol):
    """A file that is still being written, by somebody who holds it to a digest."""

    def upto(self, end: int) -> None:
        """Wait until it has its first `end` bytes; raise what is wrong with its source."""

    def whole(self) -> None:
        """Wait until all of it is there and verified; raise what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FileBody:
    """The bytes from `start` to `end` of an open file; `told` gets how many more were sent."""

    fd: int
    start: int
    end: int
    told: Callable[[int], None] = lambda count: None

    def __len__(self) -> int:
        return self.end - self.start

    def chunks(self, rate: RateLimit | None) -> Iterator[bytes]:
        """Yield the bytes, held to `rate`; `OSError` where the file has no more so many."""
        position = self.start
        size = min(limits.BLOB_BUFFER, rate.chunk) if rate else limits.BLOB_BUFFER
        while position < self.end:
            chunk = os.pread(self.fd, min(size, self.end - position), position)
            if not chunk:
                raise OSError(f"a file that is sent ends at {position}, not at {self.end}")
            position += len(chunk)
            if rate is not None:
                rate.take(len(chunk))
            yield chunk
            self.told(len(chunk))


class Paced:
    """A body as `requests` takes it: of a known length, iterable, and not a file."""

    def __init__(self, body: FileBody, rate: RateLimit | None) -> None:
        self._body = body
        self._rate = rate

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        return self._body.chunks(self._rate)
