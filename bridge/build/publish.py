"""Publishing an image: to where others get it, with what belongs to it, under its names.

First all blobs, then the manifests by their digests, then what refers to the image, and last the
names, one after the other: whoever asks for a name gets all of the old image or all of the new.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

from bridge.build.by_component import by_component
from bridge.build.sbom import Bill, Format, Sbom, bill_of, make, time_of
from bridge.contents.commit import of_commit
from bridge.contents.pulled import pulled
from bridge.errors import NetworkError, UsageError
from bridge.oci.artifact import EMPTY, artifact, descriptor_of
from bridge.oci.digest import Digest
from bridge.oci.epoch import source_date_epoch
from bridge.oci.model import (
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    parse_document,
)
from bridge.oci.reference import ImageReference, Transport, parse_reference
from bridge.ostree import durable
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.images import StoredImage
from bridge.pull.progress import Progress
from bridge.pull.spool import spool_directory
from bridge.push.compress import Compression, check_level
from bridge.push.copy import move
from bridge.push.destination import Destination, open_destination
from bridge.push.encapsulate import encapsulate_to, source_of_image
from bridge.push.origin import Origin, open_origin, options_for
from bridge.push.push import DEFAULT, PackedImage, pack_to
from bridge.push.repack_all import Repacking
from bridge.push.report import CopiedBlob, bytes_by_outcome
from bridge.registry.options import NetworkOptions

_TITLE = "org.opencontainers.image.title"
_CREATED = "org.opencontainers.image.created"
OSTREE = "ostree"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an image is to be published."""

    tags: Sequence[str] = ()
    """Beside the one in the destination's name, if there is one."""
    format: str = "oci"
    """`oci`, or `ostree` for the encapsulated form."""
    compression: Compression | None = None
    """None leaves blobs as they are; a stored image, which has none, gets the default."""
    level: int | None = None
    sbom: Format | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """A manifest that refers to the image."""

    artifact_type: str
    digest: Digest
    size: int
    """Of what it has, without the manifest."""


@dataclass(frozen=True, slots=True)
class PublishReport:
    """An image that was published. `received` are the bytes that came from its source over a
    network; requests and retries are those of both ends."""

    reference: str
    destination: str
    tags: tuple[str, ...]
    digest: Digest
    media_type: str
    compression: Compression | None
    """None where it is as it was."""
    blobs: tuple[CopiedBlob, ...]
    attached: tuple[Attached, ...]
    received: int
    requests: int
    retries: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as its JSON form has it."""
        return {
            "apiVersion": "bootc-py/v1",
            "kind": "PublishReport",
            "image": {"reference": self.reference},
            "destination": {
                "reference": self.destination,
                "digest": self.digest,
                "mediaType": self.media_type,
                "tags": list(self.tags),
            },
            "compression": None if self.compression is None else self.compression.value,
            "transfer": {
                **bytes_by_outcome(self.blobs),
                "receivedBytes": self.received,
                "requests": self.requests,
                "retries": self.retries,
            },
            "blobs": [each.to_json() for each in self.blobs],
            "referrers": [
                {"artifactType": each.artifact_type, "digest": each.digest, "size": each.size}
                for each in self.attached
            ],
            "seconds": round(self.seconds, 3),
        }


def publish(
    reference: ImageReference,
    destination: ImageReference,
    wanted: Wanted | None = None,
    *,
    repo: Repository | None = None,
    network: NetworkOptions | None = None,
    source_network: NetworkOptions | None = None,
    progress: Progress | None = None,
) -> PublishReport:
    """Publish an image: a stored one if `repo` is given, else one in a registry or a layout.

    `network` is for both ends unless the source has options of its own; its `creds` are then shown
    to the destination only, if that is another host. Without a change of compression an image that
    is not stored keeps all its digests. Raises what reading the one place and writing the other
    raise, `UsageError` for a combination that there is not, and `MalformedImage` for a package
    database that cannot be read; whatever is raised, no name leads to anything that is not whole.
    """
    wanted, network = wanted or Wanted(), network or NetworkOptions()
    progress = progress or Progress()
    started = time.monotonic()
    names = names_of(destination, wanted.tags)
    reading = source_network or options_for(reference, destination, network)
    with ExitStack() as stack:
        # The source is looked at first, so that where there is none nothing is made elsewhere.
        source = None
        if repo is None and wanted.format == OSTREE:
            # A commit is a stored image's.
            repo = stack.enter_context(
                pulled(reference, network=reading, labelled=True, progress=progress)
            ).repo
        if repo is None:
            source = open_origin(reference, reading, stack)
            top = source.top()
        else:
            images.find(repo, reference)
        place = open_destination(destination, network, stack, reference)
        try:
            if source is None:
                assert repo is not None
                image = _stored(repo, reference, place, wanted, progress)
            else:
                image = _copied(source, top, place, wanted, progress)
            attached = []
            if wanted.sbom is not None:
                place.write(image.top.raw, image.top.media_type)
                bill = _bill(reference, destination, image.top, repo, reading, progress)
                attached.append(_attach(place, image.top, make(bill, wanted.sbom), bill))
            place.finish(image.top.raw, image.top.media_type, names)
        except NetworkError as error:
            raise NetworkError(f"{reference} to {destination}: {error}") from error
        meters = [place.meter] + ([source.meter] if source else [])
    return PublishReport(
        reference=str(reference),
        destination=str(destination),
        tags=names,
        digest=image.top.digest,
        media_type=image.top.media_type,
        compression=image.compression,
        blobs=image.blobs,
        attached=tuple(attached),
        received=source.meter.received_bytes if source else 0,
        requests=sum(each.requests for each in meters),
        retries=sum(each.retries for each in meters),
        seconds=time.monotonic() - started,
    )


def names_of(destination: ImageReference, tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags that the image gets: the one in the destination's name, if there is one or
    no other, and `tags`. `UsageError` for what is no tag."""
    prefix, name = destination.transport.prefix, destination.name
    if destination.transport is Transport.REGISTRY:
        place = destination.registry
        first = place.tag if ":" in name.rpartition("/")[2] or not tags else None
        name = place.name
    else:
        name, first = destination.layout
    for tag in tags:
        parse_reference(f"{prefix}{name}:{tag}")
    return tuple(dict.fromkeys((*((first,) if first else ()), *tags)))


@dataclass(frozen=True, slots=True)
class _Image:
    """What is at the destination by now, all but the topmost document."""

    top: Manifest | Index
    blobs: tuple[CopiedBlob, ...]
    compression: Compression | None


def _stored(
    repo: Repository,
    reference: ImageReference,
    place: Destination,
    wanted: Wanted,
    progress: Progress,
) -> _Image:
    compression = wanted.compression or DEFAULT
    if wanted.format == OSTREE:
        commit = source_of_image(repo, reference)
        packing = by_component(repo, commit.commit)
        made = encapsulate_to(repo, commit, place, packing, compression, wanted.level, progress)
    else:
        made = pack_to(repo, reference, place, compression, wanted.level, progress)
    return _packed(made, compression)


def _copied(
    source: Origin,
    top: Manifest | Index,
    place: Destination,
    wanted: Wanted,
    progress: Progress,
) -> _Image:
    if wanted.compression is not None:
        check_level(wanted.compression, wanted.level)
        made = Repacking(source, place, wanted.compression, wanted.level, progress).run(top)
        compression = wanted.compression if made.changed else None
        return _Image(parse_document(made.document, made.media_type), made.blobs, compression)
    moved = move(source, top, place, progress)
    return _Image(moved.top, moved.blobs, None)


def _packed(image: PackedImage, compression: Compression) -> _Image:
    blobs = {
        each.blob.digest: CopiedBlob(
            Descriptor(each.blob.media_type, each.blob.digest, each.blob.size), each.outcome
        )
        for each in image.layers
    }
    top = parse_document(image.manifest, OCI_MANIFEST)
    return _Image(top, tuple(blobs.values()), compression)


def _bill(
    reference: ImageReference,
    destination: ImageReference,
    image: Manifest | Index,
    repo: Repository | None,
    network: NetworkOptions,
    progress: Progress,
) -> Bill:
    if isinstance(image, Index):
        raise UsageError(
            f"{reference} is an index of several images, and a bill of materials is one image's: "
            "publish them one by one, or leave --sbom out"
        )
    name = _name(destination)
    with ExitStack() as stack:
        if repo is not None:
            stored: StoredImage = images.find(repo, reference)
            contents = of_commit(repo, stored.checksum)
        else:
            found = stack.enter_context(pulled(reference, network=network, progress=progress))
            stored, contents = found.image, found.contents
        created = time_of(stored.config.created, source_date_epoch())
        return bill_of(name, image.digest, created, contents)


def _name(destination: ImageReference) -> str:
    """Return what an image is called that is published there, whatever machine it is done on."""
    if destination.transport is Transport.REGISTRY:
        return destination.registry.name
    return destination.layout[0].rstrip("/").rpartition("/")[2] or "image"


def _attach(place: Destination, image: Manifest | Index, sbom: Sbom, bill: Bill) -> Attached:
    """Have a bill of materials at `place`, and find it from the image."""
    blob = Descriptor(
        sbom.media_type, Digest.of(sbom.data), len(sbom.data), {_TITLE: sbom.file_name}
    )
    for data in (EMPTY, sbom.data):
        with _held(data) as fd:
            place.put(fd, Digest.of(data), len(data))
    created = bill.created.strftime("%Y-%m-%dT%H:%M:%SZ")
    document = artifact(sbom.media_type, descriptor_of(image), [blob], {_CREATED: created})
    digest = place.attach(document, OCI_MANIFEST)
    return Attached(sbom.media_type, digest, blob.size)


@contextmanager
def _held(data: bytes) -> Iterator[int]:
    with TemporaryFile(buffering=0, dir=spool_directory()) as file:
        durable.write_all(file.fileno(), data)
        yield file.fileno()
