"""What one image may cost: how much its blobs may grow to, and how many names it may have.

A few kilobytes of zstd can hold terabytes, a few bytes of a sparse file too, and names take
memory. All layers of an image share one allowance, from their threads: five hundred small bombs
are a large one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress

from bridge import limits
from bridge.errors import MalformedImage

_ZEROS = bytes(256 * limits.KIB)


class Allowance:
    """One image's. Those of its layers that grow to more than `CONTENT_RATIO_MAX` bytes for each
    byte of their blobs may have `CONTENT_FREE` bytes together, of which `SOLID_FREE` other than
    zeros: those take no disk."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entries = self.names = 0
        """Of all layers; changed under the lock, by the layers themselves: it is done often."""
        self._content = self._grown = self._solid = 0

    def layer(self) -> LayerAllowance:
        """Return the part of one of its layers."""
        return LayerAllowance(self)

    def grow(self, content: int, grown: int, solid: int) -> None:
        """Count content, and what layers beyond the ratio have of it; `MalformedImage` for too
        much."""
        with self.lock:
            self._content += content
            self._grown += grown
            self._solid += solid
        if self._grown > limits.CONTENT_FREE or self._solid > limits.SOLID_FREE:
            raise MalformedImage(
                f"the image grows to more than {limits.CONTENT_RATIO_MAX} times its blobs: a bomb"
            )
        if self._content > limits.CONTENT_MAX:
            raise MalformedImage(
                f"the image's layers hold more than {limits.CONTENT_MAX} bytes, which is the limit"
            )

    def refuse_names(self) -> None:
        """Raise `MalformedImage` where there are too many entries, or too much in their paths."""
        if self.entries > limits.ENTRIES_MAX:
            raise MalformedImage(f"the image has more than {limits.ENTRIES_MAX} entries")
        if self.names > limits.NAMES_MAX:
            raise MalformedImage(f"the image's paths have more than {limits.NAMES_MAX} characters")


class LayerAllowance:
    """One layer's: counts what goes into its decoder, what comes out, and what that is.

    As a context manager it gives all back when an exception ends it: the layer may be tried
    again, from elsewhere.
    """

    def __init__(self, image: Allowance) -> None:
        self._image = image
        self._entries = self._names = 0
        self._taken = self._made = self._made_solid = 0
        self._grown = self._solid = 0

    def __enter__(self) -> LayerAllowance:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with suppress(MalformedImage):  # it may be another layer's
                self._image.grow(-self._made, -self._grown, -self._solid)
            with self._image.lock:
                self._image.entries -= self._entries
                self._image.names -= self._names

    def name(self, path: str) -> None:
        """Count an entry, or a directory on the way to one; `MalformedImage` for too many."""
        length = len(path)
        self._entries += 1
        self._names += length
        image = self._image
        with image.lock:
            image.entries += 1
            image.names += length
        if image.entries > limits.ENTRIES_MAX or image.names > limits.NAMES_MAX:
            image.refuse_names()

    def taking(self, blob: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks of the layer's blob, counted."""
        for chunk in blob:
            self.took(len(chunk))
            yield chunk

    def took(self, size: int) -> None:
        """Count bytes of the layer's blob, or what is here already in their place."""
        self._taken += size

    def making(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks that the blob decodes to, as long as there is allowance for them."""
        for chunk in content:
            self._grow(len(chunk), 0 if _is_zeros(chunk) else len(chunk))
            yield chunk

    def hole(self, size: int) -> None:
        """Count the holes of a sparse file, which are nowhere in the blob."""
        self._grow(size, 0)

    def _grow(self, size: int, solid: int) -> None:
        self._made += size
        self._made_solid += solid
        within = limits.CONTENT_RATIO_MAX * self._taken
        before = self._grown, self._solid
        self._grown = self._made if self._made > within else 0
        self._solid = self._made_solid if self._made_solid > within else 0
        self._image.grow(size, self._grown - before[0], self._solid - before[1])


def _is_zeros(chunk: bytes) -> bool:
    return not chunk or (not chunk[0] and chunk == _ZEROS[: len(chunk)])
