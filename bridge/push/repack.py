"""Copying an image with its layers packed in another way; what is in them stays what it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, Protocol

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import zstd_chunked
from bridge.layer.allowance import Allowance
from bridge.oci.digest import Digest
from bridge.oci.model import CONFIG_TYPES, Descriptor, Manifest, layer_compression, parse_config
from bridge.ostree import durable
from bridge.pull.progress import Progress, Stage
from bridge.pull.spool import spool_directory
from bridge.pull.streams import tar_stream
from bridge.push.compress import Compression, Packed, check_level
from bridge.push.copy import copied
from bridge.push.destination import Destination
from bridge.push.origin import Origin
from bridge.push.packed_manifest import packed_manifest
from bridge.push.packer import LayerPacker
from bridge.push.push import PackedImage
from bridge.push.report import PushedLayer
from bridge.registry.outcome import Outcome


def is_packed(layer: Descriptor, compression: Compression) -> bool:
    """Tell whether a layer is packed in that way already."""
    chunked = zstd_chunked.locate(layer.annotations, layer.size) is not None
    if compression is Compression.ZSTD_CHUNKED:
        return chunked
    packed: str = compression.value
    return layer_compression(layer.media_type) == packed


class Known(Protocol):
    """What layers became when they were packed before. Safe for several threads."""

    def find(self, layer: Digest) -> Packed | None:
        """Return what a layer became, once nobody else is packing it. None: it is the caller who
        does, until `took` or `gave_up`."""

    def took(self, layer: Digest, blob: Packed) -> None:
        """Take that the layer became that blob."""

    def gave_up(self, layer: Digest) -> None:
        """Take that the caller does not pack it."""


def is_image(manifest: Manifest) -> bool:
    """Tell whether a manifest is an image's, and not some other artifact's."""
    try:
        for layer in manifest.layers:
            layer_compression(layer.media_type)
    except MalformedImage:
        return False
    return manifest.config.media_type in CONFIG_TYPES


def repack(
    source: Origin,
    image: Manifest,
    place: Destination,
    compression: Compression,
    level: int | None,
    progress: Progress,
    known: Known | None = None,
) -> PackedImage | None:
    """Have the layers of `image`, packed anew, and its configuration at `place`.

    Returns its manifest, which is for the caller to put there under its names. None, and nothing is
    done, where all layers are packed in that way already and no level is asked for.

    Layers that are packed so stay as they are; what others became may be `known`. Raises what
    `copy` raises, and `VerificationFailed` for a layer that has not its DiffID.
    """
    check_level(compression, level)
    stays = [level is None and is_packed(each, compression) for each in image.layers]
    if all(stays):
        return None
    progress.stage(Stage.PUSHING)
    packer = LayerPacker(place, compression, level, progress, _scratch)
    return _Repack(source, image, packer, known).run(stays)


class _Repack:
    def __init__(
        self, source: Origin, image: Manifest, packer: LayerPacker, known: Known | None
    ) -> None:
        self._known = known
        self._source = source
        self._image = image
        self._packer = packer
        self._allowance = Allowance()

    def run(self, stays: list[bool]) -> PackedImage:
        """Do all of it."""
        image, packer = self._image, self._packer
        config = self._config()
        diff_ids = parse_config(config).diff_ids
        if len(diff_ids) != len(image.layers):
            raise MalformedImage(f"{image.digest}: its manifest and config disagree")
        jobs = {
            layer.digest: partial(self._layer, layer, diff_id, stay)
            for layer, diff_id, stay in zip(image.layers, diff_ids, stays, strict=True)
        }
        done = dict(zip(jobs, packer.all(list(jobs.values())), strict=True))
        layers = tuple(done[each.digest] for each in image.layers)
        self._put_config(config)
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

    def _put_config(self, raw: bytes) -> None:
        place, config = self._packer.place, self._image.config
        if place.has(config.digest, config.size) is not None:
            return
        try:
            with _scratch() as (file, write):
                write(raw)
                place.put(file.fileno(), config.digest, config.size)
        except BaseException:
            place.gave_up(config.digest)
            raise

    def _layer(self, layer: Descriptor, diff_id: Digest, stays: bool) -> PushedLayer:
        packer = self._packer
        if stays:
            outcome = copied(self._source, packer.place, layer, packer.check).outcome
            blob = Packed(layer.media_type, layer.digest, layer.size, layer.annotations)
        else:
            blob, outcome = self._packed(layer, diff_id)
        return packer.told(diff_id, blob, outcome)

    def _packed(self, layer: Descriptor, diff_id: Digest) -> tuple[Packed, Outcome]:
        known, place = self._known, self._packer.place
        before = None if known is None else known.find(layer.digest)
        if before is not None:
            there = place.has(before.digest, before.size)
            if there is not None:
                return before, there
            place.gave_up(before.digest)
        try:
            stream = partial(self._stream, layer, diff_id)
            blob, outcome = self._packer.packed(f"layer {diff_id[:19]}", stream)
        except BaseException:
            if known is not None and before is None:
                known.gave_up(layer.digest)
            raise
        if known is not None:
            known.took(layer.digest, blob)
        return blob, outcome

    def _stream(self, layer: Descriptor, diff_id: Digest) -> Iterator[bytes]:
        return tar_stream(self._source.blob(layer), layer, diff_id, self._allowance.layer())


@contextmanager
def _scratch() -> Iterator[tuple[BinaryIO, Callable[[bytes], object]]]:
    with tempfile.TemporaryFile(buffering=0, dir=spool_directory()) as file:
        yield file, partial(durable.write_all, file.fileno())
