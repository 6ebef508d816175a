"""The seam: any source's bytes on their way to being a verified tar stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator

from bridge.layer.compression import decompress
from bridge.oci.digest import Digest, Verifier
from bridge.oci.model import Descriptor, layer_compression

_AHEAD = 8
"""Chunks (of up to 1 MiB) that a stage may be ahead of the next one."""


def tar_stream(blob: Iterable[bytes], layer: Descriptor, diff_id: Digest) -> Iterator[bytes]:
    """Return a whole blob's tar stream; it raises at its end, at the latest, if it is not right.

    Blob digest and size, the compression's own checks, and the DiffID: `VerificationFailed` or
    `MalformedImage`.
    """
    chunks = verified(blob, Verifier(f"layer {layer.digest}", layer.digest, layer.size))
    compression = layer_compression(layer.media_type)
    chunks = decompress(chunks, compression)
    if compression == "none" and layer.digest == diff_id:
        return chunks  # the same bytes under the same digest: hashed once
    return verified(chunks, Verifier(f"layer {layer.digest}: its DiffID", diff_id))


def verified(chunks: Iterable[bytes], verifier: Verifier) -> Iterator[bytes]:
    """Yield the chunks; after the last one the verifier must be content."""
    for chunk in chunks:
        verifier.update(chunk)
        yield chunk
    verifier.finish()


class ReadAhead:
    """Iterates over chunks that a thread of its own produces, a bounded number ahead.

    An exception of the producer is raised where the chunks end. Use it as a context manager: the
    thread has ended when the block has.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="read-ahead", daemon=True)

    def __enter__(self) -> Iterator[bytes]:
        self._thread.start()
        return self._consume()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _produce(self) -> None:
        last: BaseException | None = None
        try:
            for chunk in self._chunks:
                if self._stopped.is_set():
                    return
                self._queue.put(chunk)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer whole
            last = error
        self._queue.put(last)

    def _consume(self) -> Iterator[bytes]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
