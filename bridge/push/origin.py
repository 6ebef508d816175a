"""Where an image is copied from: a registry, or a layout. Its documents and blobs as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Protocol

from bridge import limits
from bridge.errors import MalformedImage, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.layout import Archive, ImageLayout, Layout
from bridge.oci.model import Descriptor, Index, Manifest, parse_document
from bridge.oci.reference import ImageReference, RegistryReference, Signature, Transport
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions

if TYPE_CHECKING:
    from bridge.registry.connection import Connection


class Origin(Protocol):
    """An image's documents, verified; and its blobs, which are not. Safe for several threads."""

    meter: Meter
    overlaps: bool
    """Whether something may be sent on while a blob comes from here."""
    has_files: bool
    """Whether blobs are files of their own here, which need not be copied to be read twice."""

    def top(self) -> Manifest | Index:
        """Return the document that the reference names; `NotFound` if there is none."""

    def document(self, descriptor: Descriptor) -> Manifest | Index:
        """Return a document that another one names."""

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield a blob's bytes, unverified, in chunks of at most `limits.BLOB_BUFFER`."""

    def file(self, descriptor: Descriptor) -> BinaryIO | None:
        """Return a blob as a file of its own, opened, where it lies as one here."""

    def distrust(self, descriptor: Descriptor) -> bool:
        """Tell that a blob had wrong bytes; return whether reading it again may bring others."""

    def referrers(self, subject: Digest, artifact_type: str | None) -> tuple[Descriptor, ...]:
        """Return the manifests that are listed as referring to one."""


def open_origin(reference: ImageReference, network: NetworkOptions, stack: ExitStack) -> Origin:
    """Return the place that `reference` names; it is closed with `stack`.

    Raises `VerificationFailed` for a reference that demands a signature: none is looked at here.
    """
    reference.require_supported()
    if reference.signature is Signature.SIGNED:
        raise VerificationFailed(
            f"{reference}: a copy does not check signatures, which this form of reference demands; "
            f"name it as {reference}"
        )
    if reference.transport is Transport.REGISTRY:
        return _RegistryOrigin(reference.registry, network, stack)
    path, tag = reference.layout
    kind = Archive if reference.transport is Transport.OCI_ARCHIVE else Layout
    return _LayoutOrigin(stack.enter_context(kind.open(path)), tag)


def options_for(
    source: ImageReference, destination: ImageReference, network: NetworkOptions
) -> NetworkOptions:
    """Return the options for reading a source where those given are for the destination.

    They are the same, but `creds` are not shown to another host.
    """
    registries = all(each.transport is Transport.REGISTRY for each in (source, destination))
    if registries and source.registry.host != destination.registry.host:
        return replace(network, creds=None)
    return network


def registry_origin(reference: RegistryReference, connection: Connection, meter: Meter) -> Origin:
    """Return an image of a registry as a place to read, over a connection that others use, too."""
    return _RegistryOrigin(reference, connection.options, ExitStack(), connection, meter)


def layout_origin(layout: ImageLayout, top: Descriptor) -> Origin:
    """Return an image of a layout that is open as a place to read; it stays open."""
    return _LayoutOrigin(layout, None, top)


class _RegistryOrigin:
    def __init__(
        self,
        reference: RegistryReference,
        network: NetworkOptions,
        stack: ExitStack,
        connection: Connection | None = None,
        meter: Meter | None = None,
    ) -> None:
        # A layout on disk needs none of this, and to import it costs more than to read one.
        from bridge.registry.client import Client

        self.meter = meter or Meter()
        self.overlaps = connection is None or connection.throttle.overlaps
        self.has_files = False
        self._reference = reference
        self._client = Client(network, self.meter, connection=connection)
        stack.callback(self._client.close)

    def top(self) -> Manifest | Index:
        raw, media_type, _digest = self._client.get_manifest(self._reference)
        return _parsed(self._reference, raw, media_type)

    def document(self, descriptor: Descriptor) -> Manifest | Index:
        raw, _type, digest = self._client.get_manifest(self._reference, instance=descriptor.digest)
        _check_size(descriptor, raw)
        return _parsed(digest, raw, descriptor.media_type)

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        return self._client.iter_blob(self._reference, descriptor)

    def file(self, descriptor: Descriptor) -> BinaryIO | None:
        return None

    def distrust(self, descriptor: Descriptor) -> bool:
        return self._client.distrust(self._reference, descriptor.digest)

    def referrers(self, subject: Digest, artifact_type: str | None) -> tuple[Descriptor, ...]:
        return self._client.list_referrers(self._reference, subject, artifact_type)


class _LayoutOrigin:
    def __init__(self, layout: ImageLayout, tag: str | None, top: Descriptor | None = None) -> None:
        self._top = top
        self.meter = Meter()
        self.overlaps = True
        self.has_files = isinstance(layout, Layout)
        self._layout = layout
        self._tag = tag

    def top(self) -> Manifest | Index:
        return self.document(self._top or self._layout.resolve(self._tag))

    def document(self, descriptor: Descriptor) -> Manifest | Index:
        raw = self._layout.read_blob(descriptor, limits.MANIFEST_MAX)
        return _parsed(descriptor.digest, raw, descriptor.media_type)

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        with self._layout.open_blob(descriptor) as file:
            while chunk := file.read(limits.BLOB_BUFFER):
                yield chunk

    def file(self, descriptor: Descriptor) -> BinaryIO | None:
        if isinstance(self._layout, Layout):
            return self._layout.open_blob(descriptor)
        return None  # a part of one

    def distrust(self, descriptor: Descriptor) -> bool:
        return False

    def referrers(self, subject: Digest, artifact_type: str | None) -> tuple[Descriptor, ...]:
        from bridge.oci.artifact import in_layout

        return in_layout(self._layout, subject, artifact_type)


def _check_size(descriptor: Descriptor, raw: bytes) -> None:
    if len(raw) != descriptor.size:
        raise MalformedImage(
            f"manifest {descriptor.digest}: {len(raw)} bytes where its descriptor gives "
            f"{descriptor.size}"
        )


def _parsed(what: object, raw: bytes, media_type: str) -> Manifest | Index:
    try:
        return parse_document(raw, media_type)
    except MalformedImage as error:
        raise MalformedImage(f"{what}: {error}") from None
