"""Copying an image with its layers packed in another way; what is in them stays what it was."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, UsageError
from bridge.layer import zstd_chunked
from bridge.layer.allowance import Allowance
from bridge.layer.toc_entry import NotHeld
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, Index, Manifest, layer_compression, parse_config
from bridge.ostree import durable
from bridge.pull.progress import Progress, Stage
from bridge.pull.streams import tar_stream
from bridge.push.compress import Compression, Packed, check_level, pack
from bridge.push.copy import copied, spool_directory
from bridge.push.destination import Destination
from bridge.push.origin import Origin
from bridge.push.packed_manifest import packed_manifest
from bridge.push.push import PackedImage
from bridge.push.report import PushedLayer


def is_packed(layer: Descriptor, compression: Compression) -> bool:
    """Tell whether a layer is packed in that way already."""
    chunked = zstd_chunked.locate(layer.annotations, layer.size) is not None
    if compression is Compression.ZSTD_CHUNKED:
        return chunked
    packed: str = compression.value
    return layer_compression(layer.media_type) == packed


def repack(
    source: Origin,
    image: Manifest | Index,
    place: Destination,
    compression: Compression,
    level: int | None,
    progress: Progress,
) -> PackedImage | None:
    """Have the layers of `image`, packed anew, and its configuration at `place`.

    Returns its manifest, which is for the caller to put there under its names. None, and nothing is
    done, where all layers are packed in that way already and no level is asked for.

    Layers that are packed so stay as they are. Raises what `copy` raises, `VerificationFailed` for
    a layer that has not its DiffID, and `UsageError` for an index.
    """
    check_level(compression, level)
    if isinstance(image, Index):
        raise UsageError(
            "an index of several images is published as it is: leave --compression out, or name "
            "one of its images by digest"
        )
    stays = [level is None and is_packed(each, compression) for each in image.layers]
    if all(stays):
        return None
    return _Repack(source, place, compression, level, progress, image).run(stays)


class _Repack:
    def __init__(
        self,
        source: Origin,
        place: Destination,
        compression: Compression,
        level: int | None,
        progress: Progress,
        image: Manifest,
    ) -> None:
        self._source = source
        self._place = place
        self._compression = compression
        self._level = level
        self._progress = progress
        self._image = image
        self._allowance = Allowance()
        self._cancelled = Event()

    def run(self, stays: list[bool]) -> PackedImage:
        """Do all of it; when one layer fails, all end."""
        image = self._image
        diff_ids = parse_config(self._config()).diff_ids
        if len(diff_ids) != len(image.layers):
            raise MalformedImage(f"{image.digest}: its manifest and config disagree")
        self._progress.stage(Stage.PUSHING)
        with ThreadPoolExecutor(limits.PARALLEL_BLOBS, thread_name_prefix="repack") as pool:
            futures = {}
            for layer, diff_id, stay in zip(image.layers, diff_ids, stays, strict=True):
                if layer.digest not in futures:
                    futures[layer.digest] = pool.submit(self._layer, layer, diff_id, stay)
            try:
                done = {digest: future.result() for digest, future in futures.items()}
            except BaseException:
                self._cancelled.set()
                for future in futures.values():
                    future.cancel()
                raise
        layers = tuple(done[each.digest] for each in image.layers)
        copied(self._source, self._place, image.config, self._check)
        manifest = packed_manifest(image, [each.blob for each in layers])
        return PackedImage(manifest, image.config.digest, layers)

    def _config(self) -> bytes:
        descriptor = self._image.config
        if descriptor.size > limits.CONFIG_MAX:
            raise MalformedImage(f"configuration of {descriptor.size} bytes")
        raw = b"".join(self._source.blob(descriptor))
        if Digest.of(raw, descriptor.digest.algorithm) != descriptor.digest:
            raise MalformedImage(f"configuration {descriptor.digest} has another digest")
        return raw

    def _layer(self, layer: Descriptor, diff_id: Digest, stays: bool) -> PushedLayer:
        if stays:
            outcome = copied(self._source, self._place, layer, self._check).outcome
            packed = Packed(layer.media_type, layer.digest, layer.size, layer.annotations)
            done = PushedLayer(diff_id, packed, outcome)
        else:
            try:
                done = self._packed(layer, diff_id, self._compression, self._level)
            except NotHeld as error:
                self._progress.message(f"layer {diff_id[:19]} goes as plain zstd: {error}")
                done = self._packed(layer, diff_id, Compression.ZSTD, None)
        self._progress.message(
            f"layer {diff_id[:19]}: {done.outcome.value} as {done.blob.digest[:19]} "
            f"({done.blob.size} bytes)"
        )
        return done

    def _packed(
        self, layer: Descriptor, diff_id: Digest, compression: Compression, level: int | None
    ) -> PushedLayer:
        with tempfile.TemporaryFile(buffering=0, dir=spool_directory()) as file:

            def write(data: bytes) -> None:
                self._check()
                durable.write_all(file.fileno(), data)

            allowance = self._allowance.layer()
            stream = tar_stream(self._source.blob(layer), layer, diff_id, allowance)
            blob = pack(stream, compression, level, write)
            outcome = self._place.put(
                file.fileno(), blob.digest, blob.size, lambda _count: self._check()
            )
        return PushedLayer(diff_id, blob, outcome)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise BridgeError("cancelled, because another layer failed")
