"""Copying an image from one place to another as it is: the same bytes, the same digests.

A manifest is copied, or an index with all that it lists. Blobs that the destination has are not
moved, nor those that another repository of its registry lends. Of the others each comes into a file
without a name first, is held to its digest and size, and only then goes on: what is wrong at the
source never arrives, and either way is taken up again by itself where a connection breaks. Names
are given last, so that whoever asks for one meanwhile gets what was there before.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, NetworkError, VerificationFailed
from bridge.oci.digest import Digest, Verifier
from bridge.oci.model import INDEX_TYPES, MANIFEST_TYPES, Descriptor, Index, Manifest
from bridge.oci.reference import ImageReference
from bridge.ostree import durable
from bridge.pull.progress import Progress, Stage
from bridge.pull.spool import spool_directory
from bridge.push.arriving import passed_on
from bridge.push.destination import Destination, open_destination
from bridge.push.origin import Origin, open_origin, options_for
from bridge.push.report import CopiedBlob, CopyReport
from bridge.registry.options import NetworkOptions
from bridge.registry.outcome import Outcome


def copy(
    source: ImageReference,
    destination: ImageReference,
    *,
    tags: Sequence[str] = (),
    network: NetworkOptions | None = None,
    source_network: NetworkOptions | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy what `source` names to `destination`, byte for byte, and name it `tags` there.

    Without tags it gets the one in `destination`. `network` is for both ends unless the source has
    options of its own; its `creds` are then shown to one host only. Raises `NotFound`,
    `NotAuthorised`, `NetworkError`, `VerificationFailed` for what does not have its digest,
    `MalformedImage`, and `UsageError` for a destination that cannot be written to; the names are
    then what they were before.
    """
    network = network or NetworkOptions()
    started = time.monotonic()
    with ExitStack() as stack:
        reading = source_network or options_for(source, destination, network)
        begin = open_origin(source, reading, stack)
        top = begin.top()  # before anything is made at the destination
        place = open_destination(destination, network, stack, source)
        try:
            image = move(begin, top, place, progress or Progress())
            place.finish(image.top.raw, image.top.media_type, tags)
        except NetworkError as error:
            raise NetworkError(f"{source} to {destination}: {error}") from error
    return CopyReport(
        source=str(source),
        destination=str(destination),
        digest=image.top.digest,
        media_type=image.top.media_type,
        documents=tuple(image.documents),
        blobs=image.blobs,
        received=begin.meter.received_bytes,
        requests=begin.meter.requests + place.meter.requests,
        retries=begin.meter.retries + place.meter.retries,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class Moved:
    """An image all of which is at the destination, but for its topmost document."""

    top: Manifest | Index
    documents: tuple[Digest, ...]
    """Of all manifests and indexes, the topmost one last."""
    blobs: tuple[CopiedBlob, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What of an image is copied: all of it, unless something is said here."""

    wants: Callable[[Descriptor], bool] = lambda entry: True
    """Tells of an entry of an index whether it is copied. An index stays as it is, in any case."""
    external: bool = True
    """Whether layers are copied that their manifest says to be elsewhere (`urls`)."""
    check: Callable[[], None] = lambda: None
    """Called now and then; what it raises ends the copy."""


def move(
    source: Origin,
    top: Manifest | Index,
    place: Destination,
    progress: Progress,
    part: Part | None = None,
) -> Moved:
    """Have everything at `place` that `top` names, but not that, which is for the caller to put
    there under its names. Same errors as `copy`."""
    part = part or Part()
    below = list(documents_below(source, top, part.wants))
    blobs: dict[Digest, Descriptor] = {}
    for document in (*below, top):
        for each in blobs_of(document, external=part.external):
            known = blobs.setdefault(each.digest, each)
            if known.size != each.size:
                raise MalformedImage(f"blob {each.digest} has two sizes in one image")
    progress.stage(Stage.PUSHING)
    copied = _blobs(source, place, list(blobs.values()), progress, part.check)
    for document in below:
        place.write(document.raw, document.media_type)
    digests = dict.fromkeys(each.digest for each in (*below, top))
    return Moved(top, tuple(digests), copied)


def blobs_of(document: Manifest | Index, *, external: bool = True) -> tuple[Descriptor, ...]:
    """Return the blobs that a document names itself: configuration and layers."""
    if isinstance(document, Index):
        return ()
    layers = (each for each in document.layers if external or not each.external)
    return (document.config, *layers)


def documents_below(
    source: Origin,
    index: Manifest | Index,
    wants: Callable[[Descriptor], bool] = lambda entry: True,
    depth: int = 0,
) -> Iterator[Manifest | Index]:
    """Yield what an index lists, and what that lists, before it; nothing of a manifest."""
    if isinstance(index, Manifest):
        return
    if depth >= limits.INDEX_DEPTH_MAX:
        raise MalformedImage(f"index {index.digest}: indexes in indexes, too deep")
    for entry in filter(wants, index.manifests):
        if entry.media_type not in MANIFEST_TYPES + INDEX_TYPES:
            raise MalformedImage(
                f"index {index.digest} lists {entry.digest}, of unsupported media type "
                f"{entry.media_type!r:.200}"
            )
        document = source.document(entry)
        yield from documents_below(source, document, wants, depth + 1)
        yield document


def _blobs(
    source: Origin,
    place: Destination,
    blobs: Sequence[Descriptor],
    progress: Progress,
    stop: Callable[[], None],
) -> tuple[CopiedBlob, ...]:
    """Copy all blobs, several at once; when one fails, all end."""
    cancelled = threading.Event()

    def check() -> None:
        stop()
        if cancelled.is_set():
            raise BridgeError("cancelled, because another blob failed")

    def one(descriptor: Descriptor) -> CopiedBlob:
        check()
        done = copied(source, place, descriptor, check)
        progress.message(
            f"blob {descriptor.digest[:19]}: {done.outcome.value} ({descriptor.size} bytes)"
        )
        return done

    with ThreadPoolExecutor(limits.PARALLEL_BLOBS, thread_name_prefix="copy") as pool:
        # The largest first: whatever is last should be short.
        order = sorted(blobs, key=lambda each: -each.size)
        futures = {each.digest: pool.submit(one, each) for each in order}
        try:
            finished, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        except BaseException:
            cancelled.set()
            for future in futures.values():
                future.cancel()
            raise
    return tuple(futures[each.digest].result() for each in blobs)


def copied(
    source: Origin, place: Destination, descriptor: Descriptor, check: Callable[[], None]
) -> CopiedBlob:
    """Have one blob at `place`; `check` is called now and then, and may raise."""
    outcome = place.has(descriptor.digest, descriptor.size)
    if outcome is None:
        try:
            outcome = _sent(source, place, descriptor, check)
        except BaseException:
            place.gave_up(descriptor.digest)
            raise
    return CopiedBlob(descriptor, outcome)


def _sent(
    source: Origin, place: Destination, descriptor: Descriptor, check: Callable[[], None]
) -> Outcome:
    """Send a blob: a large one while it still comes in."""
    large = place.piece is not None and descriptor.size > place.piece
    if large and source.overlaps and not source.has_files:
        return passed_on(source, place, descriptor, check)
    with _verified(source, descriptor, check) as file:
        return place.put(file.fileno(), descriptor.digest, descriptor.size, lambda _count: check())


@contextmanager
def _verified(
    source: Origin, descriptor: Descriptor, check: Callable[[], None]
) -> Iterator[BinaryIO]:
    """Give a file that holds the blob, all of it verified; without a name, unless it lies as one.

    It is fetched once more where the source tells that another place may have it right.
    """
    while True:
        verifier = Verifier(f"blob {descriptor.digest}", descriptor.digest, descriptor.size)
        there = source.file(descriptor)
        with there or tempfile.TemporaryFile(buffering=0, dir=spool_directory()) as file:
            try:
                for chunk in source.blob(descriptor):
                    check()
                    verifier.update(chunk)
                    if there is None:
                        durable.write_all(file.fileno(), chunk)
                verifier.finish()
            except VerificationFailed:
                if source.distrust(descriptor):
                    continue
                raise
            yield file
            return
