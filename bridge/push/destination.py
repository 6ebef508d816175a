"""Where an image can be written: a registry, a layout directory, an archive of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.oci.reference import ImageReference, RegistryReference, Transport
from bridge.push.layouts import ArchiveWriter, LayoutWriter
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions
from bridge.registry.outcome import Outcome

if TYPE_CHECKING:
    from bridge.registry.body import Arriving
    from bridge.registry.connection import Connection


class Destination(Protocol):
    """Takes blobs in any order, from several threads, then documents, and last the names.

    Until `finish` nothing there has changed for whoever asks for a tag.
    """

    meter: Meter
    piece: int | None
    """Bytes beyond which a blob may be put while it is still arriving; None: never."""

    def has(self, digest: Digest, size: int) -> Outcome | None:
        """Return how a blob came to be there without being sent; None where it has to be."""

    def borrow(self, digest: Digest, lender: str) -> bool:
        """Tell whether another repository of the same place lent a blob, so that it is there."""

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        """Have the content of the file `fd`, of that digest and size, there as a blob. It may
        still be `arriving` where the place takes `piece`s."""

    def gave_up(self, digest: Digest) -> None:
        """Take that a blob, of which `has` said that it has to be sent, is not going to be."""

    def write(self, document: bytes, media_type: str) -> Digest:
        """Have a manifest or index there under its digest alone; return that."""

    def attach(self, document: bytes, media_type: str) -> Digest:
        """Have a manifest there that refers to another one, so that it is found from that one."""

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        """Have a manifest or index there under these tags, one after the other, by default the one
        that was asked for; return its digest."""


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
        return RegistryDestination(target, network, stack, lender)
    path, tag = reference.layout
    if reference.transport is Transport.OCI_ARCHIVE:
        return stack.enter_context(ArchiveWriter.create(path, tag))
    return stack.enter_context(LayoutWriter.open(path, tag))


def registry_destination(
    reference: RegistryReference, connection: Connection, meter: Meter
) -> Destination:
    """Return a repository as a place to write to, over a connection that others use, too."""
    return RegistryDestination(
        reference, connection.options, ExitStack(), connection=connection, meter=meter
    )


class RegistryDestination:
    """A repository of a registry, and the tag of its that is written at the end."""

    def __init__(
        self,
        reference: RegistryReference,
        network: NetworkOptions,
        stack: ExitStack,
        lender: ImageReference | None = None,
        connection: Connection | None = None,
        meter: Meter | None = None,
    ) -> None:
        # A layout on disk needs none of this, and to import it costs more than to write one.
        from bridge.registry.connection import Connection
        from bridge.registry.push import Pusher

        if connection is None:
            connection = Connection(network)
            stack.callback(connection.close)
        self.meter = meter or Meter()
        self.piece: int | None = connection.uploads.whole
        self._reference = reference
        self._pusher = Pusher(reference, meter=self.meter, connection=connection)
        self._support = connection.support
        self._mount_from: str | None = None
        if lender is not None and lender.transport is Transport.REGISTRY:
            other = lender.registry
            if other.host == reference.host and other.repository != reference.repository:
                self._mount_from = other.repository
        self._lacks: set[Digest] = set()
        self.lists = True
        """Whether what refers to another manifest is added to the tag that lists such, where the
        registry does not list them by itself."""

    def has(self, digest: Digest, size: int) -> Outcome | None:
        if self._pusher.has_blob(digest, size):
            return Outcome.SKIPPED
        if self._mount_from is not None and self._pusher.borrow(digest, self._mount_from):
            return Outcome.MOUNTED
        self._lacks.add(digest)
        return None

    def borrow(self, digest: Digest, lender: str) -> bool:
        return self._pusher.borrow(digest, lender)

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        lacks = digest in self._lacks
        lender = None if lacks else self._mount_from
        return self._pusher.push_blob(
            fd, digest, size, mount_from=lender, lacks=lacks, told=told, arriving=arriving
        )

    def gave_up(self, digest: Digest) -> None:
        self._lacks.discard(digest)

    def write(self, document: bytes, media_type: str) -> Digest:
        return self._put(document, media_type, None)

    def attach(self, document: bytes, media_type: str) -> Digest:
        return self._put(document, media_type, None)

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        for tag in tags or (self._reference.tag,):
            digest = self._put(document, media_type, tag)
        return digest

    def _put(self, document: bytes, media_type: str, tag: str | None) -> Digest:
        from bridge.registry import referrers

        if not self.lists:
            return self._pusher.push_manifest(document, media_type, tag)
        return referrers.push(self._pusher, document, media_type, tag, self._support)
