"""Where an image can be written: a registry, a layout directory, an archive of one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference, RegistryReference, Transport
from bridge.push.layouts import ArchiveWriter, LayoutWriter
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions
from bridge.registry.outcome import Outcome


class Destination(Protocol):
    """Takes blobs in any order, from several threads, and then the manifest that names them."""

    meter: Meter

    def put(
        self, fd: int, digest: Digest, size: int, told: Callable[[int], None] = lambda count: None
    ) -> Outcome:
        """Have the content of the file `fd`, of that digest and size, there as a blob."""

    def finish(self, manifest: bytes, media_type: str) -> Digest:
        """Have the manifest there, under the name that was asked for; return its digest."""


def open_destination(
    reference: ImageReference,
    network: NetworkOptions,
    stack: ExitStack,
    lender: ImageReference | None = None,
) -> Destination:
    """Return what `reference` names as a place to write to; it is closed with `stack`.

    `lender` is an image that may share blobs with the one that is written, where both are in one
    registry. Raises `UsageError` for what cannot be written to.
    """
    reference.require_supported()
    if reference.transport is Transport.REGISTRY:
        target = reference.registry
        if target.digest is not None:
            raise UsageError(f"{reference}: a digest cannot be chosen; give a tag")
        return _RegistryDestination(target, network, stack, lender)
    path, tag = reference.layout
    if reference.transport is Transport.OCI_ARCHIVE:
        return stack.enter_context(ArchiveWriter.create(path, tag))
    return stack.enter_context(LayoutWriter.open(path, tag))


class _RegistryDestination:
    def __init__(
        self,
        reference: RegistryReference,
        network: NetworkOptions,
        stack: ExitStack,
        lender: ImageReference | None,
    ) -> None:
        # A layout on disk needs none of this, and to import it costs more than to write one.
        from bridge.registry.push import Pusher

        self.meter = Meter()
        self._reference = reference
        self._pusher = Pusher(reference, network, meter=self.meter)
        stack.callback(self._pusher.close)
        self._mount_from: str | None = None
        if lender is not None and lender.transport is Transport.REGISTRY:
            other = lender.registry
            if other.host == reference.host and other.repository != reference.repository:
                self._mount_from = other.repository

    def put(
        self, fd: int, digest: Digest, size: int, told: Callable[[int], None] = lambda count: None
    ) -> Outcome:
        return self._pusher.push_blob(fd, digest, size, mount_from=self._mount_from, told=told)

    def finish(self, manifest: bytes, media_type: str) -> Digest:
        return self._pusher.push_manifest(manifest, media_type, self._reference.tag)
