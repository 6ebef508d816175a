"""Where an image comes from: a registry, or a layout on disk. One interface for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO, Protocol, Self

from bridge import limits
from bridge.errors import MalformedImage, VerificationFailed
from bridge.oci.layout import Archive, ImageLayout, Layout
from bridge.oci.model import Descriptor, Index, Manifest, parse_document
from bridge.oci.reference import ImageReference, Signature, Transport
from bridge.ostree.repository import Repository
from bridge.pull.coalesce import Link
from bridge.registry.meter import Meter
from bridge.registry.observed import Observed
from bridge.registry.options import NetworkOptions


class Parts(Protocol):
    """Ranges of a blob, some of them still on their way. A context manager: at its end no more are
    fetched, and what is here is kept for another run."""

    def read(self, start: int, end: int) -> bytes:
        """Wait for these bytes, which must be among the ranges; return them, unverified.

        Raises `NetworkError`, or `RangeRefused` when the host will not serve ranges.
        """

    def again(self, start: int, end: int) -> bytes:
        """Fetch these bytes now, whatever was planned or kept, and return them; same errors."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Source(Protocol):
    """An image's documents, verified; and its blobs, as they are."""

    meter: Meter

    def top(self) -> Manifest | Index:
        """Return the document that the reference names; `NotFound` if there is none."""

    def manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """Return a document that an index lists."""

    def config(self, descriptor: Descriptor) -> bytes:
        """Return the image configuration's bytes."""

    def blob(
        self,
        descriptor: Descriptor,
        meter: Meter,
        ahead: int | None = None,
        tail: bytes | None = None,
    ) -> Iterator[bytes]:
        """Yield a blob's bytes, unverified; what came over the network is counted by `meter`.

        With `ahead` not many more bytes than that are fetched before they are asked for: the
        reader may stop. The blob's last bytes are not fetched where the caller has them: `tail`.
        """

    def tail(
        self, descriptor: Descriptor, start: int, meter: Meter, *, again: bool = False
    ) -> bytes | None:
        """Return a blob's bytes from `start` on, unverified; None where parts are not served.

        With `again` they are fetched anew: what an earlier run left was wrong. Where a registry
        answers with the whole blob, that goes on in the background, and `blob` is going to use it.
        """

    def parts(
        self, descriptor: Descriptor, ranges: Sequence[tuple[int, int]], meter: Meter
    ) -> Parts:
        """Begin to fetch the ranges (end exclusive) of a blob, in order, and return them."""

    def hint(self, descriptor: Descriptor, start: int, length: int) -> bytes | None:
        """Return a few bytes of a blob, unverified, or None where they cannot be had alone."""

    def observed(self) -> Observed:
        """Return how fast the place was seen to be that blobs come from."""

    @property
    def keeps(self) -> bool:
        """Whether blobs come over a network, and are kept in the repository's corner until they
        are used up."""

    @property
    def link(self) -> Link:
        """What is known by now of the way to where blobs come from."""

    def done(self, descriptor: Descriptor) -> None:
        """Tell that a blob was used up, so that nothing of it need be kept."""

    def distrust(self, descriptor: Descriptor) -> bool:
        """Tell that a blob had wrong bytes; return whether reading it again may bring others."""

    def cancel(self) -> None:
        """Have every blob that is being read fail, without waiting for the network."""


def open_source(
    reference: ImageReference,
    network: NetworkOptions,
    repo: Repository,
    stack: ExitStack,
    tell: Callable[[str], None] = lambda text: None,
) -> Source:
    """Return the source that `reference` names; it is closed with `stack`.

    `tell` takes lines for the user: which mirror serves, which was given up.
    """
    reference.require_supported()
    if reference.signature is Signature.SIGNED:
        raise VerificationFailed(
            f"{reference}: its origin demands a verified signature, which this version cannot "
            "check; nothing was pulled"
        )
    if reference.transport is Transport.REGISTRY:
        return _RegistrySource(reference, network, repo, stack, tell)
    path, tag = reference.layout
    kind = Archive if reference.transport is Transport.OCI_ARCHIVE else Layout
    return _LayoutSource(stack.enter_context(kind.open(path)), tag)


class _RegistrySource:
    def __init__(
        self,
        reference: ImageReference,
        network: NetworkOptions,
        repo: Repository,
        stack: ExitStack,
        tell: Callable[[str], None],
    ) -> None:
        # A layout on disk needs none of this, and to import it costs more than to read one.
        from bridge.pull.download import Downloads
        from bridge.pull.partial_download import PartialDownloads
        from bridge.registry.client import Client

        self.meter = Meter()
        self._reference = reference.registry
        self._client = Client(network, self.meter, tell=tell)
        stack.callback(self._client.close)
        self._downloads = stack.enter_context(Downloads(self._client, self._reference, repo))
        self._parts = stack.enter_context(
            PartialDownloads(self._client, self._reference, repo, self._downloads.adopt)
        )

    def top(self) -> Manifest | Index:
        raw, media_type, _digest = self._client.get_manifest(self._reference)
        return _parsed(self._reference, raw, media_type)

    def manifest(self, descriptor: Descriptor) -> Manifest | Index:
        raw, media_type, _digest = self._client.get_manifest(
            self._reference, instance=descriptor.digest
        )
        return _parsed(self._reference.with_digest(descriptor.digest), raw, media_type)

    def config(self, descriptor: Descriptor) -> bytes:
        return self._client.read_blob(self._reference, descriptor, limits.CONFIG_MAX)

    def blob(
        self,
        descriptor: Descriptor,
        meter: Meter,
        ahead: int | None = None,
        tail: bytes | None = None,
    ) -> Iterator[bytes]:
        return self._downloads.chunks(descriptor, meter, ahead, tail)

    def tail(
        self, descriptor: Descriptor, start: int, meter: Meter, *, again: bool = False
    ) -> bytes | None:
        return self._parts.tail(descriptor, start, meter, again=again)

    def parts(
        self, descriptor: Descriptor, ranges: Sequence[tuple[int, int]], meter: Meter
    ) -> Parts:
        return self._parts.parts(descriptor, ranges, meter)

    def hint(self, descriptor: Descriptor, start: int, length: int) -> bytes | None:
        return self._client.read_range(self._reference, descriptor, start, length)

    def observed(self) -> Observed:
        return self._client.observed(self._reference)

    @property
    def keeps(self) -> bool:
        return True

    @property
    def link(self) -> Link:
        seen = self._client.observed(self._reference)
        return Link(seen.round_trip, seen.bytes_per_second)

    def done(self, descriptor: Descriptor) -> None:
        self._downloads.forget(descriptor)
        self._parts.forget(descriptor)

    def distrust(self, descriptor: Descriptor) -> bool:
        # A file that grew without being synced may be anything after a power cut: once more,
        # all of it, before a registry is blamed.
        if self._downloads.was_resumed(descriptor):
            return True
        return self._client.distrust(self._reference, descriptor.digest)

    def cancel(self) -> None:
        self._downloads.stop()
        self._parts.stop()


class _LayoutSource:
    def __init__(self, layout: ImageLayout, tag: str | None) -> None:
        self.meter = Meter()
        self._layout = layout
        self._tag = tag

    def top(self) -> Manifest | Index:
        return self.manifest(self._layout.resolve(self._tag))

    def manifest(self, descriptor: Descriptor) -> Manifest | Index:
        raw = self._layout.read_blob(descriptor, limits.MANIFEST_MAX)
        return _parsed(descriptor.digest, raw, descriptor.media_type)

    def config(self, descriptor: Descriptor) -> bytes:
        return self._layout.read_blob(descriptor, limits.CONFIG_MAX)

    def blob(
        self,
        descriptor: Descriptor,
        meter: Meter,
        ahead: int | None = None,
        tail: bytes | None = None,
    ) -> Iterator[bytes]:
        with self._layout.open_blob(descriptor) as file:
            while chunk := file.read(limits.BLOB_BUFFER):
                yield chunk

    def tail(
        self, descriptor: Descriptor, start: int, meter: Meter, *, again: bool = False
    ) -> bytes | None:
        with _FileParts(self._layout.open_blob(descriptor)) as parts:
            return parts.read(start, descriptor.size)

    def parts(
        self, descriptor: Descriptor, ranges: Sequence[tuple[int, int]], meter: Meter
    ) -> Parts:
        return _FileParts(self._layout.open_blob(descriptor))

    def hint(self, descriptor: Descriptor, start: int, length: int) -> bytes | None:
        with self._layout.open_blob(descriptor) as file:
            file.seek(start)
            return file.read(length)

    def observed(self) -> Observed:
        return Observed(None, None)  # a disk, to which none of it applies

    @property
    def keeps(self) -> bool:
        return False

    @property
    def link(self) -> Link:
        return Link()

    def done(self, descriptor: Descriptor) -> None:
        pass

    def distrust(self, descriptor: Descriptor) -> bool:
        return False

    def cancel(self) -> None:
        pass


class _FileParts:
    """Ranges of a blob that lies here as a file: all of it is here."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        return self._file.read(end - start)

    def again(self, start: int, end: int) -> bytes:
        return self.read(start, end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _parsed(what: object, raw: bytes, media_type: str) -> Manifest | Index:
    try:
        return parse_document(raw, media_type)
    except MalformedImage as error:
        raise MalformedImage(f"{what}: {error}") from None
