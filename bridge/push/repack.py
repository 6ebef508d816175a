"""Copying an image with its layers packed in another way; what is in them stays what it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from bridge import limits
from bridge.errors import MalformedImage, UsageError
from bridge.layer import zstd_chunked
from bridge.layer.allowance import Allowance
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, Index, Manifest, layer_compression, parse_config
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
    progress.stage(Stage.PUSHING)
    packer = LayerPacker(place, compression, level, progress, _scratch)
    return _Repack(source, image, packer).run(stays)


class _Repack:
    def __init__(self, source: Origin, image: Manifest, packer: LayerPacker) -> None:
        self._source = source
        self._image = image
        self._packer = packer
        self._allowance = Allowance()

    def run(self, stays: list[bool]) -> PackedImage:
        """Do all of it."""
        image, packer = self._image, self._packer
        diff_ids = parse_config(self._config()).diff_ids
        if len(diff_ids) != len(image.layers):
            raise MalformedImage(f"{image.digest}: its manifest and config disagree")
        jobs = {
            layer.digest: partial(self._layer, layer, diff_id, stay)
            for layer, diff_id, stay in zip(image.layers, diff_ids, stays, strict=True)
        }
        done = dict(zip(jobs, packer.all(list(jobs.values())), strict=True))
        layers = tuple(done[each.digest] for each in image.layers)
        copied(self._source, packer.place, image.config, packer.check)
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
        packer = self._packer
        if stays:
            outcome = copied(self._source, packer.place, layer, packer.check).outcome
            blob = Packed(layer.media_type, layer.digest, layer.size, layer.annotations)
        else:
            stream = partial(self._stream, layer, diff_id)
            blob, outcome = packer.packed(f"layer {diff_id[:19]}", stream)
        return packer.told(diff_id, blob, outcome)

    def _stream(self, layer: Descriptor, diff_id: Digest) -> Iterator[bytes]:
        return tar_stream(self._source.blob(layer), layer, diff_id, self._allowance.layer())


@contextmanager
def _scratch() -> Iterator[tuple[BinaryIO, Callable[[bytes], object]]]:
    with tempfile.TemporaryFile(buffering=0, dir=spool_directory()) as file:
        yield file, partial(durable.write_all, file.fileno())
