"""Packing layers, several at once: when one fails, all end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import BinaryIO, TypeVar

from bridge import limits
from bridge.errors import BridgeError
from bridge.layer.toc_entry import NotHeld
from bridge.oci.digest import Digest
from bridge.pull.progress import Progress
from bridge.push.compress import Compression, Packed, pack
from bridge.push.destination import Destination
from bridge.push.report import PushedLayer
from bridge.registry.outcome import Outcome

Scratch = Callable[[], AbstractContextManager[tuple[BinaryIO, Callable[[bytes], object]]]]
"""Gives a file without a name, and a way to add to it."""
_Made = TypeVar("_Made")


class LayerPacker:
    """Packs tar streams in one way, and has the blobs at one place. Safe for several threads."""

    def __init__(
        self,
        place: Destination,
        compression: Compression,
        level: int | None,
        progress: Progress,
        scratch: Scratch,
    ) -> None:
        self.place = place
        self.compression = compression
        self.level = level
        self._progress = progress
        self._scratch = scratch
        self._cancelled = threading.Event()

    def all(self, jobs: Sequence[Callable[[], _Made]]) -> list[_Made]:
        """Do the jobs, begun in their order, several at once; return what they return. When one
        raises, all others end, and it is raised."""
        with ThreadPoolExecutor(limits.PARALLEL_BLOBS, thread_name_prefix="push") as pool:
            futures = []
            try:
                futures = [pool.submit(each) for each in jobs]
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
            except BaseException:
                self._cancelled.set()
                for future in futures:
                    future.cancel()
                raise
        return [future.result() for future in futures]

    def packed(self, what: str, stream: Callable[[], Iterator[bytes]]) -> tuple[Packed, Outcome]:
        """Have the blob there that a tar stream is packed to: plain zstd where zstd:chunked has no
        way to say what is in it, so `stream` may be called twice. `what` is for the user."""
        try:
            return self._moved(stream(), self.compression, self.level)
        except NotHeld as error:
            self._progress.message(f"{what} goes as plain zstd: {error}")
            return self._moved(stream(), Compression.ZSTD, None)

    def told(self, diff_id: Digest, blob: Packed, outcome: Outcome) -> PushedLayer:
        """Tell the user of a layer that is there, and return it."""
        self._progress.message(
            f"layer {diff_id[:19]}: {outcome.value} as {blob.digest[:19]} ({blob.size} bytes)"
        )
        return PushedLayer(diff_id, blob, outcome)

    def check(self) -> None:
        """Raise `BridgeError` once another job has failed."""
        if self._cancelled.is_set():
            raise BridgeError("cancelled, because another layer failed")

    def _moved(
        self, stream: Iterator[bytes], compression: Compression, level: int | None
    ) -> tuple[Packed, Outcome]:
        with self._scratch() as (file, write):
            blob = pack(self._watched(stream), compression, level, write)
            sent = self.place.put(file.fileno(), blob.digest, blob.size, lambda _: self.check())
            return blob, sent

    def _watched(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in stream:
            self.check()
            yield chunk
