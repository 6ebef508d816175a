"""Push: a stored image becomes an image again, in a registry or a layout.

Each layer's tar stream is made again, verified to its DiffID, and packed into a file; only then is
the blob's digest known, and whether it has to be moved at all. The configuration is byte for byte
the one that was pulled; the manifest is new, for the blobs are, and is written last.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from bridge.errors import DamagedRepository, MalformedImage, NetworkError
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_MANIFEST
from bridge.oci.reference import ImageReference
from bridge.ostree import lock
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.images import StoredImage
from bridge.pull.progress import Progress, Stage
from bridge.push.compress import Compression, check_level
from bridge.push.destination import Destination, open_destination
from bridge.push.export import export
from bridge.push.packed_manifest import packed_manifest
from bridge.push.packer import LayerPacker
from bridge.push.remembered import Remembered
from bridge.push.report import PushedLayer, PushReport
from bridge.registry.options import NetworkOptions

DEFAULT = Compression.ZSTD_CHUNKED


def push(
    repo: Repository,
    reference: ImageReference,
    target: ImageReference,
    *,
    compression: Compression = DEFAULT,
    level: int | None = None,
    network: NetworkOptions | None = None,
    progress: Progress | None = None,
) -> PushReport:
    """Write the stored image `reference` to `target`, its layers packed anew.

    DiffIDs and configuration stay what they are; equal images, compressions and levels make equal
    manifests. Nothing names the image at the target until all of it is there. Raises `NotFound`
    for an image or a layer's skeleton that is not stored, `DamagedRepository` where a layer cannot
    be made again as it was, `UsageError`, and what the destination raises.
    """
    started = time.monotonic()
    check_level(compression, level)
    with ExitStack() as stack:
        images.find(repo, reference)  # before anything is made at the destination
        place = open_destination(target, network or NetworkOptions(), stack, reference)
        try:
            made = pack_to(repo, reference, place, compression, level, progress or Progress())
            digest = place.finish(made.manifest, OCI_MANIFEST)
        except NetworkError as error:
            raise NetworkError(f"{target}: {error}") from error
    return PushReport(
        reference=str(reference),
        destination=str(target),
        compression=compression.value,
        digest=digest,
        config=made.config,
        layers=made.layers,
        requests=place.meter.requests,
        retries=place.meter.retries,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image all of which is at the destination, but for its manifest."""

    manifest: bytes
    config: Digest
    layers: tuple[PushedLayer, ...]


def pack_to(
    repo: Repository,
    reference: ImageReference,
    place: Destination,
    compression: Compression,
    level: int | None,
    progress: Progress,
) -> PackedImage:
    """Have the layers and the configuration of a stored image at `place`, and return its manifest,
    which is for the caller to put there under its names. Same errors as `push`."""
    check_level(compression, level)
    # Nobody prunes meanwhile; to pull is nobody kept from.
    with lock.held(repo.fd, ".lock", repo.path, shared=True):
        one = _Push(repo, images.find(repo, reference), place, compression, level, progress)
        try:
            return one.finish(one.layers())
        finally:
            one.remembered.keep()


class _Push:
    def __init__(
        self,
        repo: Repository,
        image: StoredImage,
        target: Destination,
        compression: Compression,
        level: int | None,
        progress: Progress,
    ) -> None:
        self._repo = repo
        self._image = image
        self._target = target
        self._progress = progress
        self._packer = LayerPacker(target, compression, level, progress, partial(scratch, repo))
        self.remembered = Remembered(repo)

    def layers(self) -> tuple[PushedLayer, ...]:
        """Have all layers at the destination."""
        sizes: dict[Digest, int] = {}
        diff_ids = self._image.config.diff_ids
        if len(diff_ids) != len(self._image.manifest.layers):
            raise MalformedImage(f"{self._image.reference}: its manifest and config disagree")
        for diff_id, layer in zip(diff_ids, self._image.manifest.layers, strict=True):
            sizes.setdefault(diff_id, layer.size)
        for diff_id in sizes:
            export(self._repo, diff_id)  # those that cannot be had are told before anything moves
        self._progress.stage(Stage.PUSHING)
        # The largest first: whatever is last should be short.
        order = sorted(sizes, key=lambda each: -sizes[each])
        done = self._packer.all([partial(self._layer, each) for each in order])
        found = {each.diff_id: each for each in done}
        return tuple(found[diff_id] for diff_id in diff_ids)

    def _layer(self, diff_id: Digest) -> PushedLayer:
        compression, level = self._packer.compression, self._packer.level
        blob = self.remembered.find(diff_id, compression, level)
        outcome = None if blob is None else self._target.has(blob.digest, blob.size)
        if blob is None or outcome is None:
            stream = partial(export, self._repo, diff_id)
            blob, outcome = self._packer.packed(f"layer {diff_id[:19]}", stream)
            self.remembered.remember(diff_id, compression, level, blob)
        return self._packer.told(diff_id, blob, outcome)

    def finish(self, layers: tuple[PushedLayer, ...]) -> PackedImage:
        """Have the configuration there, too; return what is left to do."""
        config = self._image.config.raw
        digest = self._image.manifest.config.digest
        if Digest.of(config, digest.algorithm) != digest:
            raise DamagedRepository(
                f"{self._image.reference}: its stored configuration is not {digest}"
            )
        with scratch(self._repo) as (file, write):
            write(config)
            self._target.put(file.fileno(), digest, len(config))
        manifest = packed_manifest(self._image.manifest, [each.blob for each in layers])
        return PackedImage(manifest, digest, layers)


@contextmanager
def scratch(repo: Repository) -> Iterator[tuple[BinaryIO, Callable[[bytes], object]]]:
    """Give a file without a name on the repository's file system, and a way to add to it that is
    held to the space there is."""
    used = 0
    with tempfile.TemporaryFile(buffering=0, dir=f"/proc/self/fd/{repo.fd}/tmp") as file:

        def write(data: bytes) -> None:
            nonlocal used
            rest = memoryview(data)
            with repo.space.writing(len(data)):
                while rest:
                    rest = rest[file.write(rest) :]
            used += len(data)

        try:
            yield file, write
        finally:
            repo.space.give_back(used)
