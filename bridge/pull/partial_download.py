"""Partial downloads: stretches of blobs, fetched over a few connections and kept until used up.

A few threads fetch for all layers at once, in turns, while each layer's reader waits for the
stretch that it needs next. What was fetched lies in a `PartsFile`, so that a run that was cut off
is gone on with. Nothing here is trusted: the reader verifies each piece, those that lay on disk
before included.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Self

from bridge.errors import BridgeError, RangeRefused
from bridge.limits import RANGE_CONNECTIONS
from bridge.oci.model import Descriptor
from bridge.oci.reference import RegistryReference
from bridge.ostree import durable
from bridge.ostree.repository import Repository
from bridge.pull import kept
from bridge.pull.download import PATIENCE
from bridge.pull.extents import Extents
from bridge.pull.parts_file import PartsFile
from bridge.pull.range_jobs import RangeJobs
from bridge.registry.client import Client, WholeBlob
from bridge.registry.meter import Meter

OnWhole = Callable[[Descriptor, Meter, WholeBlob], None]


class PartialDownloads:
    """Parts of the blobs of one repository in a registry. A context manager: at its end all stop.

    `on_whole` is given the body where a registry answers with a whole blob.
    """

    def __init__(
        self,
        client: Client,
        reference: RegistryReference,
        repo: Repository,
        on_whole: OnWhole,
    ) -> None:
        self.client = client
        self.reference = reference
        self.on_whole = on_whole
        self._fd = durable.make_directories(kept.DIRECTORY, repo.fd)
        self._space = repo.space
        self._changed = threading.Condition()
        self._waiting: deque[PartialDownload] = deque()
        self._running: list[PartialDownload] = []
        self._workers: list[threading.Thread] = []
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        patient = time.monotonic() + PATIENCE
        for worker in self._workers:
            worker.join(max(0.0, patient - time.monotonic()))
        os.close(self._fd)

    def stop(self) -> None:
        """Have all workers stop, and all readers fail: nothing more is wanted."""
        with self._changed:
            self._stopped = True
            running = list(self._running)
            self._changed.notify_all()
        for each in running:
            each.stop()

    def tail(
        self, descriptor: Descriptor, start: int, meter: Meter, *, again: bool = False
    ) -> bytes | None:
        """Return the blob's bytes from `start` on, None where ranges are not served.

        With `again` they are fetched though they are here. Raises `NetworkError`.
        """
        end = descriptor.size
        try:
            with self.parts(descriptor, [] if again else [(start, end)], meter) as parts:
                return parts.again(start, end) if again else parts.read(start, end)
        except RangeRefused:
            self.forget(descriptor)
            return None

    def parts(
        self, descriptor: Descriptor, ranges: Sequence[tuple[int, int]], meter: Meter
    ) -> PartialDownload:
        """Begin to fetch the ranges (end exclusive), in order; what is here is not fetched.

        `ValueError` when one of them is empty, or not within the blob.
        """
        if not all(0 <= start < end <= descriptor.size for start, end in ranges):
            raise ValueError(f"ranges that are none, of a blob of {descriptor.size} bytes")
        found = PartialDownload(
            self, descriptor, ranges, meter, PartsFile(descriptor, self._space, self._fd)
        )
        with self._changed:
            self._running.append(found)
            stopped = self._stopped
        if stopped:
            found.stop()
        self.serve(found, found.jobs)
        return found

    def forget(self, descriptor: Descriptor) -> None:
        """Remove what was kept of the blob."""
        for name in kept.parts_names(descriptor.digest):
            kept.forget(name, self._space, self._fd)

    def serve(self, download: PartialDownload, jobs: int, *, first: bool = False) -> None:
        """Have workers fetch what `download` still wants, before what others want if `first`."""
        with self._changed:
            if first:
                self._waiting.appendleft(download)
            else:
                self._waiting.append(download)
            wanted = min(RANGE_CONNECTIONS, len(self._workers) + jobs)
            while len(self._workers) < wanted and not self._stopped:
                worker = threading.Thread(
                    target=self._work, args=(not self._workers,), name="ranges", daemon=True
                )
                self._workers.append(worker)
                worker.start()
            self._changed.notify_all()

    def ended(self, download: PartialDownload) -> None:
        """Take that nobody reads a download any more."""
        with self._changed:
            self._running.remove(download)

    def _work(self, light: bool) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                download = self._waiting.popleft()
                job = download.take(light=light)
                if job is None:
                    continue
                self._waiting.append(download)  # in turns, so that no layer waits for another
            download.fetch(*job)


class PartialDownload:
    """The wanted stretches of one blob. A context manager: at its end no more are fetched."""

    def __init__(
        self,
        owner: PartialDownloads,
        descriptor: Descriptor,
        ranges: Sequence[tuple[int, int]],
        meter: Meter,
        file: PartsFile,
    ) -> None:
        self._owner = owner
        self._descriptor = descriptor
        self._meter = meter
        self._file = file
        self._coming = Extents()
        """What was asked for, and did not fail."""
        self._jobs = RangeJobs()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._stopped = False
        self._users = 1
        for start, end in ranges:
            self._coming.add(start, end)
            for gap in file.missing(start, end):
                self._jobs.add(*gap)

    @property
    def jobs(self) -> int:
        """Stretches that nobody fetches yet."""
        return len(self._jobs)

    def read(self, start: int, end: int) -> bytes:
        """Return bytes of the ranges, once they are here.

        Raises what went wrong with fetching: `RangeRefused` where the host will not serve ranges,
        `NetworkError` and what else `Client.iter_range` does.
        """
        with self._changed:
            while gaps := self._file.missing(start, end):
                if self._stopped:
                    raise BridgeError(f"the download of {self._descriptor.digest} was cancelled")
                if not all(self._coming.covers(*gap) for gap in gaps):
                    if self._error is not None:
                        raise self._error
                    raise ValueError(f"bytes {start} to {end} were not asked for")
                self._changed.wait()
        return self._file.read(start, end)

    def again(self, start: int, end: int) -> bytes:
        """Fetch these bytes now, wanted before or not, though they may be here, and return them.

        What came from a mirror just now and was wrong is asked of the next one. Raises what `read`
        does.
        """
        with self._changed:
            came = not self._file.fetched.missing(start, end)
            self._file.discard(start, end)
            self._coming.add(start, end)
            self._jobs.add_first(start, end)
        if came:
            self._owner.client.distrust(self._owner.reference, self._descriptor.digest)
        self._owner.serve(self, 1, first=True)
        return self.read(start, end)

    def stop(self) -> None:
        """Have no more fetched, and the reader fail."""
        with self._changed:
            self._stopped = True
            self._jobs.clear()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._owner.ended(self)
        self._release()

    def take(self, *, light: bool) -> tuple[int, int] | None:
        """Return what to fetch next, for `fetch`, by preference a `light` one; None when there is
        nothing."""
        with self._changed:
            job = self._jobs.take(light=light)
            if job is not None:
                self._users += 1
            return job

    def fetch(self, start: int, end: int) -> None:
        """Fetch a stretch and keep it."""
        owner, descriptor, meter = self._owner, self._descriptor, self._meter
        try:
            chunks = owner.client.iter_range(
                owner.reference,
                descriptor,
                start,
                end,
                meter,
                lambda whole: owner.on_whole(descriptor, meter, whole),
            )
            with closing(chunks):
                while not self._stopped and (chunk := next(chunks, None)):
                    self._file.write(start, chunk)
                    start += len(chunk)
                    with self._changed:
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised in the reader
            with self._changed:
                self._error = error
                # What follows would fare no better; who needs it is told.
                for failed in ((start, end), *self._jobs):
                    self._coming.remove(*failed)
                self._jobs.clear()
                self._changed.notify_all()
        finally:
            self._release()

    def _release(self) -> None:
        with self._changed:
            self._users -= 1
            if not self._users:
                self._file.close()
