"""The seam: any source's bytes on their way to being a verified tar stream."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from types import TracebackType

from bridge.errors import BridgeError, MalformedImage, VerificationFailed
from bridge.layer.allowance import Allowance, LayerAllowance
from bridge.layer.compression import decompress
from bridge.limits import TAR_END_MAX
from bridge.oci.digest import Digest, Verifier
from bridge.oci.model import Descriptor, layer_compression

_AHEAD = 16
"""Chunks (of about 256 KiB) that wait for the next stage at most; as many may be in its hands."""
_TAR_BLOCK = 512


def tar_stream(
    blob: Iterable[bytes],
    layer: Descriptor,
    diff_id: Digest,
    allowance: LayerAllowance | None = None,
) -> Iterator[bytes]:
    """Return a whole blob's tar stream; it raises at its end, at the latest, if it is not right.

    Blob digest and size, the compression's own checks, what `allowance` leaves the layer to grow
    to, and the DiffID: `VerificationFailed` or `MalformedImage`, the former where both are true.
    """
    allowance = allowance or Allowance().layer()
    chunks = verified(blob, Verifier(f"layer {layer.digest}", layer.digest, layer.size))
    compression = layer_compression(layer.media_type)
    chunks = _decompressed(chunks, compression, allowance)
    if compression == "none" and layer.digest == diff_id:
        return chunks  # the same bytes under the same digest: hashed once
    return _verified_tar(chunks, Verifier(f"layer {layer.digest}: its DiffID", diff_id))


def _verified_tar(chunks: Iterable[bytes], verifier: Verifier) -> Iterator[bytes]:
    try:
        yield from verified(chunks, verifier)
    except VerificationFailed as error:
        # Never made good silently: it would be another blob's content under this one's name.
        if error.digest == verifier.digest and verifier.lacks_zeros(TAR_END_MAX, _TAR_BLOCK):
            raise VerificationFailed(
                f"{error}; only zeros are missing at its end, which containers/storage before 1.52 "
                "left out of zstd:chunked layers: push the image again with a current tool",
                verifier.digest,
            ) from error
        raise


def _decompressed(
    blob: Iterator[bytes], compression: str, allowance: LayerAllowance
) -> Iterator[bytes]:
    try:
        yield from allowance.making(decompress(allowance.taking(blob), compression))
    except MalformedImage:
        # Is that what was published, or was it damaged since? The digest of all of it tells.
        for _ in blob:
            pass
        raise


def verified(chunks: Iterable[bytes], verifier: Verifier) -> Iterator[bytes]:
    """Yield the chunks; after the last one the verifier must be content."""
    for chunk in chunks:
        verifier.update(chunk)
        yield chunk
    verifier.finish()


class ReadAhead:
    """Iterates over chunks that a thread of its own produces, a bounded number ahead.

    An exception of the producer is raised where the chunks end. Use it as a context manager: the
    thread has ended when the block has. A `MalformedImage` of the consumer's gives way to a
    `VerificationFailed` that the chunks end with: damaged bytes mean nothing.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._changed = threading.Condition()
        self._ready: list[bytes] = []
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name="read-ahead", daemon=True)

    def __enter__(self) -> Iterator[bytes]:
        self._thread.start()
        return self._consume()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, MalformedImage):
            with suppress(BridgeError):
                for _ in self._consume():
                    pass
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        if isinstance(error, MalformedImage) and isinstance(self._error, VerificationFailed):
            raise self._error

    def _produce(self) -> None:
        try:
            for chunk in self._chunks:
                with self._changed:
                    while len(self._ready) >= _AHEAD and not self._stopped:
                        self._changed.wait()
                    if self._stopped:
                        return
                    self._ready.append(chunk)
                    self._changed.notify()
        except BaseException as error:  # noqa: BLE001 - raised in the consumer
            self._error = error
        finally:
            if isinstance(self._chunks, Generator):
                self._chunks.close()  # and with it what it reads from
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _consume(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._ready and not self._ended:
                    self._changed.wait()
                # All that is there at once: the fewer times the threads meet, the better.
                batch, self._ready = self._ready, []
                self._changed.notify()
            if not batch:
                break
            yield from batch
        if self._error is not None:
            raise self._error
