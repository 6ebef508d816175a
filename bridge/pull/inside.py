"""Looking inside: what the blobs that have to move say of their content, before they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Condition, Event

from bridge.errors import BridgeError, MalformedImage, NoSpace
from bridge.layer import indexed
from bridge.layer.blob_index import BlobIndex
from bridge.limits import (
    PARALLEL_BLOBS,
    PARTIAL_LEAST,
    REBUILD_RATE,
    TAILS_MAX,
    TOC_ENTRIES_MAX,
)
from bridge.oci.model import Descriptor, layer_compression
from bridge.pull.plan import Inside, LayerPlan, Mode
from bridge.pull.source import Source
from bridge.pull.tables import LEAST, TableReaders
from bridge.registry.meter import Meter

_ENTRY = 40
"""Bytes of a blob's end for each entry, at least: most take twice as many."""
_FAST = "blobs come faster than they can be put together here"


def look_inside(
    source: Source,
    plans: Sequence[LayerPlan],
    meter: Callable[[LayerPlan], Meter],
    *,
    fastest: bool = False,
    on_index: Callable[[BlobIndex], object] | None = None,
) -> list[LayerPlan]:
    """Return the plans with what the blobs that are to be moved say of their content.

    Where that cannot be had, the plan says why, and it stays the whole blob: nothing is raised but
    `NoSpace`, and what `on_index` raises, which gets each index while others are still read, from
    several threads. `meter` gives the meter that counts for a layer. With `fastest` it is also the
    whole blob as soon as blobs are seen to come faster than they would be put together.
    """

    def look(plan: LayerPlan, is_first: bool) -> LayerPlan:
        try:
            if plan.mode is not Mode.WHOLE:
                return plan
            if not is_first and speed.is_fast():
                return plan.whole(_FAST)
            plan = _look(source, plan, meter(plan), room, speed)
        except NoSpace:
            raise
        except BridgeError as error:
            return plan.whole(str(error))
        finally:
            if is_first:
                speed.first_came()
        if plan.inside is not None and on_index is not None:
            on_index(plan.inside.index)
        return plan

    sizes = [table_size(each) for each in plans]
    # The largest first: whatever is last should be short.
    order = sorted(range(len(plans)), key=lambda at: -sizes[at] if sizes[at] >= LEAST else 0)
    with (
        TableReaders() as readers,
        ThreadPoolExecutor(PARALLEL_BLOBS, thread_name_prefix="inside") as pool,
    ):
        room = _Room(readers)
        start = partial(readers.start, sum(each >= LEAST for each in sizes))
        speed = _Speed(source, start, matters=fastest)
        places = pool.map(look, [plans[at] for at in order], [at == order[0] for at in order])
        looked = dict(zip(order, places, strict=True))
    return [looked[at] for at in range(len(plans))]


def table_size(plan: LayerPlan) -> int:
    """Return how many bytes at the end of a blob that is to be moved are tables, by what the
    manifest says; 0 where it says nothing."""
    layer = plan.layer
    if plan.mode is Mode.WHOLE:
        with suppress(MalformedImage):
            compression = layer_compression(layer.media_type)
            location = indexed.locate(layer.annotations, layer.size, compression)
            return 0 if location is None else layer.size - location.start
    return 0


class _Room:
    """The memory that tables of contents may take, those of all of an image's layers together."""

    def __init__(self, readers: TableReaders) -> None:
        self._readers = readers
        self._changed = Condition()
        self._bytes = TAILS_MAX
        self._entries = TOC_ENTRIES_MAX
        self._reserved = 0
        """Of these, for tables that processes are reading."""

    def take(self, size: int) -> None:
        """Take room for the end of a blob; `MalformedImage` where there is none."""
        with self._changed:
            if size > self._bytes:
                raise MalformedImage(
                    f"tables of contents of an image can take {TAILS_MAX} bytes together"
                )
            self._bytes -= size

    def read(self, layer: Descriptor, location: indexed.Location, tail: bytes) -> BlobIndex:
        """Do what `indexed.read` does: for several blobs at once where it can be told that there
        is room for all of them, else for one."""
        likely = len(tail) // _ENTRY
        if self._readers.takes(len(tail)) and self._reserve(likely):
            index = None
            try:
                index = self._readers.read(layer, tail, likely)
            finally:
                with self._changed:
                    self._reserved -= likely
                    self._entries -= 0 if index is None else index.held
                    self._changed.notify_all()
            if index is not None:
                return index
        # What is wrong with it, if anything, is said here.
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved)
            index = indexed.read(location, tail, self._entries)
            self._entries -= index.held
            return index

    def _reserve(self, count: int) -> bool:
        with self._changed:
            if self._reserved + count > self._entries:
                return False
            self._reserved += count
            return True


class _Speed:
    """Whether blobs come faster than a layer can be made of parts, where that matters.

    The first blob's end comes alone, and `otherwise` is not done before that: it would come at the
    speed of this processor.
    """

    def __init__(self, source: Source, otherwise: Callable[[], None], *, matters: bool) -> None:
        self._source = source
        self._otherwise = otherwise
        self._matters = matters
        self._known = Event()
        if not matters:
            self.first_came()

    def first_came(self) -> None:
        """Take that the first one is here, or does not come."""
        if not self._known.is_set():
            is_fast = self._matters and self._observed() >= REBUILD_RATE
            try:
                if not is_fast:
                    self._otherwise()
            finally:
                self._known.set()

    def is_fast(self) -> bool:
        """Tell it when it is known."""
        if not self._matters:
            return False
        self._known.wait()
        return self._observed() >= REBUILD_RATE

    def _observed(self) -> float:
        return self._source.observed().bytes_per_second or 0.0


def _look(source: Source, plan: LayerPlan, meter: Meter, room: _Room, speed: _Speed) -> LayerPlan:
    layer = plan.layer
    if layer.size < PARTIAL_LEAST:
        return plan.whole("it is small")
    compression = layer_compression(layer.media_type)
    location = indexed.locate(layer.annotations, layer.size, compression)
    if location is None:
        return plan.whole("its blob does not say what is inside it")

    start = location.start
    for _ in range(2):
        room.take(layer.size - start)
        tail = source.tail(layer, start, meter)
        if tail is None:
            return plan.whole("the registry does not serve parts of blobs")
        speed.first_came()
        if speed.is_fast():
            return plan.whole(_FAST)
        try:
            index = room.read(layer, location, tail)
        except indexed.MoreNeeded as more:
            start = more.start
        else:
            indexed.compare(index, lambda size: _head(source, layer, meter, size))
            return replace(plan, inside=Inside(tail, index))
    raise MalformedImage("its table of contents is not where its footer says")


def _head(source: Source, layer: Descriptor, meter: Meter, size: int) -> bytes:
    with source.parts(layer, [(0, size)], meter) as parts:
        return parts.read(0, size)
