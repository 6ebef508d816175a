"""One layer on its way in: from its plan to its commit, whatever its bytes are made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from bridge.errors import (
    BridgeError,
    DamagedRepository,
    MalformedImage,
    NoSpace,
    RangeRefused,
    VerificationFailed,
    is_full,
)
from bridge.layer.allowance import Allowance, LayerAllowance
from bridge.layer.blob_index import Placed
from bridge.layer.tar import Entry
from bridge.limits import REPAIR_AHEAD
from bridge.oci.digest import Digest, Verifier
from bridge.oci.reference import ImageReference
from bridge.ostree.repository import Repository
from bridge.ostree.stats import Stats
from bridge.ostree.transaction import Transaction
from bridge.pull import skeleton
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.content_rows import ContentRows
from bridge.pull.encapsulated import ingest_objects
from bridge.pull.encapsulation import Role
from bridge.pull.ingest import OnFile, ingest
from bridge.pull.layer import Layer
from bridge.pull.partial_plan import PartialPlan
from bridge.pull.plan import LayerPlan
from bridge.pull.progress import Progress
from bridge.pull.rebuild import Rebuild
from bridge.pull.refnames import layer_ref
from bridge.pull.report import LayerReport
from bridge.pull.sharing import origins, sharing
from bridge.pull.source import Parts, Source
from bridge.pull.streams import ReadAhead, tar_stream, verified
from bridge.registry.meter import Meter

_NOT_IN_PARTS = (RangeRefused, VerificationFailed, MalformedImage, DamagedRepository)
"""What is wrong with a layer's parts need not be wrong with all of it."""


class LayerImporter:
    """Brings layers of one image in; safe for several threads. The lock for writing is held."""

    def __init__(
        self,
        repo: Repository,
        reference: ImageReference,
        source: Source,
        progress: Progress,
        contents: ContentIndex | None = None,
    ) -> None:
        self.stats = Stats()
        self.last_read = 0.0
        """When the last byte of a blob came in, by the monotonic clock."""
        self.elsewhere: Collection[str] | None = None
        """For the layer with an encapsulated commit: the content objects of the other layers."""
        self._repo = repo
        self._reference = reference
        self._source = source
        self._progress = progress
        self._contents = contents
        self._lock = threading.Lock()
        self._allowance = Allowance()
        self._cancelled = threading.Event()
        self._meters: dict[Digest, Meter] = {}
        self._read: dict[Digest, int] = {}
        """Bytes of each blob that were read so far."""

    def meter(self, plan: LayerPlan) -> Meter:
        """Return what counts the transfer of a layer."""
        with self._lock:
            if plan.diff_id not in self._meters:
                self._meters[plan.diff_id] = Meter(self._source.meter)
            return self._meters[plan.diff_id]

    def cancel(self) -> None:
        """Have all imports that are under way end."""
        self._cancelled.set()

    def run(self, planned: LayerPlan) -> LayerReport:
        """Bring one layer in, verified to its end unless only some of its objects are wanted.

        A layer whose parts are not what they should be, or are not to be had, is fetched whole;
        but first it is looked for what of them is wrong.
        """
        meter = self.meter(planned)
        wanted = planned
        while True:
            try:
                if wanted.parts is None:
                    commit, stats, unpacked = self._import(wanted, meter)
                else:
                    commit, stats, unpacked = self._in_parts(wanted, wanted.parts, meter)
                break
            except BridgeError as error:
                if wanted.parts is not None and isinstance(error, _NOT_IN_PARTS):
                    wanted = self._whole(wanted, error)
                    continue
                if error.exit_code in (6, 7):
                    self._source.done(wanted.layer)  # what lies there is wrong, not unfinished
                wrong = isinstance(error, VerificationFailed) and error.digest
                if wrong != wanted.layer.digest or not self._source.distrust(wanted.layer):
                    raise type(error)(f"{self._reference}: {error}") from error
                self._progress.advance(wanted, -self._read[wanted.diff_id])
                wanted = replace(wanted, inside=None)  # all of it from elsewhere, its end too
            except OSError as error:
                if not is_full(error):
                    raise
                raise NoSpace(
                    f"{self._reference}: the file system of {self._repo.path} is full; free some "
                    "space and try again"
                ) from error
        self._source.done(wanted.layer)
        with self._lock:
            self.stats.add(stats)
        self._progress.layer_done(wanted)
        return LayerReport(
            replace(wanted, commit=commit),
            meter.received_bytes,
            meter.requests,
            unpacked,
            planned,
        )

    def _in_parts(
        self, wanted: LayerPlan, plan: PartialPlan, meter: Meter
    ) -> tuple[str | None, Stats, int]:
        """Import a layer in parts as `_import`; where it may be the store that has something wrong,
        once more with care. What was fetched, or is on its way, is there for both."""
        with self._source.parts(wanted.layer, plan.ranges, meter) as parts:
            try:
                return self._import(wanted, meter, parts)
            except (VerificationFailed, DamagedRepository) as error:
                if not plan.places or self._cancelled.is_set():
                    raise
                self._progress.message(
                    f"layer {wanted.layer.digest[:19]} is not what it should be ({error}); "
                    "putting it together again, with a look at each piece"
                )
            self._progress.advance(wanted, -self._read[wanted.diff_id])
            return self._import(wanted, meter, parts, careful=True)

    def _whole(self, wanted: LayerPlan, error: BridgeError) -> LayerPlan:
        if self._cancelled.is_set():
            raise error
        self._progress.message(
            f"layer {wanted.layer.digest[:19]} cannot be had in parts ({error}); fetching all of it"
        )
        self._progress.advance(wanted, -self._read.get(wanted.diff_id, 0))
        self._source.done(wanted.layer)
        return replace(wanted.whole(f"in parts it failed: {error}"), inside=None)

    def _import(
        self,
        wanted: LayerPlan,
        meter: Meter,
        parts: Parts | None = None,
        *,
        careful: bool = False,
    ) -> tuple[str | None, Stats, int]:
        """Import a layer, whole unless `parts` of its blob are given; return its commit, what was
        stored, and the size of its tar stream."""
        count = _Count()
        only = wanted.only
        with ExitStack() as stack:
            allowance = stack.enter_context(self._allowance.layer())
            transaction = stack.enter_context(Transaction(self._repo))
            placed: Placed = {}
            rows = ContentRows(wanted, self._contents, placed)
            origin = None if wanted.parts is None else origins(wanted.parts, placed)
            share = None
            if origin is not None and self._repo.shares:
                share = sharing(origin, transaction.share)
            record = None if only else skeleton.Recorder(transaction, wanted.diff_id)
            stream = self._tar_stream(wanted, meter, allowance, parts, placed, careful)
            chunks = stack.enter_context(ReadAhead(rows.through(stream)))
            ordinary = wanted.role is Role.FILES
            take_in = (
                # With care nothing is taken for what it was when it was written.
                partial(ingest, expected=None if careful else origin)
                if ordinary
                else partial(ingest_objects, wanted.role)
            )
            imported = take_in(
                count.through(chunks),
                transaction,
                allowance,
                (lambda: transaction.holds(only)) if only else None,
                on_file=_all(rows.on_file, share, None if record is None else record.file),
                on_skeleton=None if record is None else record.rest,
                on_entry=self._check(wanted),
            )
            if imported is None:
                transaction.keep_only(only)
                return wanted.commit, transaction.publish(), count.bytes
            # The stream has ended and raised nothing: all of it is what it should be.
            if record is not None:
                record.finish(imported if isinstance(imported, Layer) else None)
            if not isinstance(imported, Layer):
                imported.elsewhere = self.elsewhere
            commit = imported.store(transaction, wanted.diff_id)
            transaction.set_ref(layer_ref(wanted.layer.digest), commit)
            empty = transaction.without_payload()
            stats = transaction.publish()
        rows.keep(empty)
        return commit, stats, count.bytes

    def _tar_stream(
        self,
        wanted: LayerPlan,
        meter: Meter,
        allowance: LayerAllowance,
        parts: Parts | None,
        placed: Placed,
        careful: bool,
    ) -> Iterator[bytes]:
        layer, inside = wanted.layer, wanted.inside
        self._read[wanted.diff_id] = 0
        if parts is None or wanted.parts is None or inside is None:
            ahead = REPAIR_AHEAD if wanted.only else None
            tail = None if inside is None else inside.tail
            blob = self._watched(wanted, self._source.blob(layer, meter, ahead, tail))
            return tar_stream(blob, layer, wanted.diff_id, allowance)
        rebuilt = Rebuild(
            self._repo,
            layer,
            inside,
            wanted.parts,
            parts,
            placed,
            careful=careful,
            fetched=lambda size: self._count(wanted, size),
            wrong=self._wrong,
        )
        self._count(wanted, len(inside.tail))
        allowance.took(layer.size)  # of which a part is here already
        return verified(
            allowance.making(rebuilt),
            Verifier(f"layer {layer.digest}, in parts: its DiffID", wanted.diff_id),
        )

    def _check(self, wanted: LayerPlan) -> Callable[[Entry | None], None] | None:
        """Return what holds the stream's entries to the table of contents that was gone by."""
        if wanted.parts is None or wanted.inside is None:
            return None
        return wanted.inside.index.check()

    def _wrong(self, place: Place) -> None:
        self._progress.message(
            f"warning: object {place.checksum} does not hold what it should; that is fetched "
            "instead, and written anew where this layer has it (fsck --repair heals the rest)"
        )
        self._repo.damaged.add(place.checksum)
        if self._contents is not None:
            self._contents.wrong(place)

    def _watched(self, wanted: LayerPlan, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._count(wanted, len(chunk))
            yield chunk

    def _count(self, wanted: LayerPlan, size: int) -> None:
        if self._cancelled.is_set():
            raise BridgeError("cancelled, because another layer failed")
        self._progress.advance(wanted, size)
        self._read[wanted.diff_id] += size
        self.last_read = max(self.last_read, time.monotonic())


def _all(*hooks: OnFile | None) -> OnFile | None:
    """Return what tells all of them that there are."""
    some = [each for each in hooks if each is not None]
    if len(some) < 2:
        return some[0] if some else None
    first, *others = some
    rest = _all(*others)
    assert rest is not None

    def tell(offset: int, checksum: str) -> None:
        first(offset, checksum)
        rest(offset, checksum)

    return tell


class _Count:
    """Counts the bytes of what passes through."""

    def __init__(self) -> None:
        self.bytes = 0

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk
