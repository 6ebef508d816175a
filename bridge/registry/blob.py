"""A blob on its way: the body of an answer, held to the length that it must have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from bridge.errors import VerificationFailed
from bridge.registry.message import parse_content_range
from bridge.registry.transport import Interrupted, Response

NO_RANGE = frozenset({206, 400, 403, 405, 416, 501})
"""Answers to a request with Range that say nothing about the blob: one without it is worth a try.
A 206 is among them, for when it is not `is_range`."""


class BlobStream:
    """A blob's raw bytes from `start` to `end`, in chunks of at most `limits.BLOB_BUFFER`.

    A context manager. Holds the length, not the digest: the caller verifies. Iterating raises
    `NetworkError` when the body stalls, breaks or ends early, and `VerificationFailed` when it
    goes on beyond `end`. `whole` is for an answer with all of it, whatever was asked for.
    """

    def __init__(
        self, what: str, response: Response, start: int, end: int, *, whole: bool = False
    ) -> None:
        self.start = start
        self.whole = whole
        self._what = what
        self._response = response
        self._left = end - start

    def __iter__(self) -> Iterator[bytes]:
        # One byte more than there may be, so that a longer body is seen and not taken in.
        for chunk in self._response.chunks(self._left + 1):
            self._left -= len(chunk)
            if self._left < 0:
                raise VerificationFailed(f"{self._what}: longer than its descriptor says")
            yield chunk
        if self._left > 0:
            raise Interrupted(f"{self._what}: the body ended {self._left} bytes early")

    def close(self) -> None:
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def body_length(reply: Response) -> int | None:
    """Return the length that the answer announces, None where it announces none."""
    value = reply.headers.get("Content-Length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None


def is_range(reply: Response, start: int, size: int, end: int | None = None) -> bool:
    """Tell whether a 206 is what was asked for: from `start` to `end`, by default all of `size`."""
    end = size if end is None else end
    if "multipart/" in reply.headers.get("Content-Type", "").lower():
        return False  # parts, with headers of their own
    sent = parse_content_range(reply.headers.get("Content-Range", ""))
    exact = sent in ((start, end - 1, size), (start, end - 1, None))
    return exact and body_length(reply) in (None, end - start)
