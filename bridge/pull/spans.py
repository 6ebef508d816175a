"""Hashing parts of a stream that passes: the sha256 of each of many spans of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""Where in the stream it begins, and its size in bytes, which is above 0."""


class SpanHasher:
    """Hashes spans of one stream. They may lie in one another, and overlap, in any way.

    Within a few spans over one another, that is: each byte is hashed once for each span that it
    is in. What memory is needed goes by the number of spans, and not by their sizes.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        """`spans` are in the order in which they begin, and asked for as the stream comes."""
        self._spans = spans
        self.digests: dict[Span, bytes] = {}
        """The sha256 (32 bytes) of each span that has passed to its end."""

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks of the stream as they are; a chunk's spans are hashed before it goes."""
        digests, spans = self.digests, iter(self._spans)
        sha256 = hashlib.sha256
        following = next(spans, None)
        open_spans: list[tuple[int, Span, hashlib._Hash]] = []  # with the offset of their end
        position = 0
        for chunk in chunks:
            end = position + len(chunk)
            if open_spans:
                open_spans = self._go_on(open_spans, memoryview(chunk), position)
            if following is not None and following[0] < end:
                view = memoryview(chunk)
                while following is not None and following[0] < end:
                    start, size = following
                    digest = sha256(view[start - position : start - position + size])
                    if start + size <= end:
                        digests[following] = digest.digest()
                    else:
                        open_spans.append((start + size, following, digest))
                    following = next(spans, None)
            position = end
            yield chunk

    def _go_on(
        self, open_spans: list[tuple[int, Span, hashlib._Hash]], view: memoryview, position: int
    ) -> list[tuple[int, Span, hashlib._Hash]]:
        """Hash the chunk at `position` for spans that began before it; return those still open."""
        left = []
        for each in open_spans:
            stop, span, digest = each
            digest.update(view[: stop - position])
            if stop <= position + len(view):
                self.digests[span] = digest.digest()
            else:
                left.append(each)
        return left
