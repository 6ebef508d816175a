"""Catching up: what the store has and the content index lacks is read, hashed and added.

That is what was imported from layers without an index of their own, and what other programs
wrote. Whole payloads are hashed, and of larger ones the pieces that writers of zstd:chunked layers
would cut them into, so that a later version of the file shares most of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository
from bridge.pull.content_index import ContentIndex, Place

_TOGETHER = 512
"""Objects of one batch: as many are done again when a run is cut off, for each thread."""


@dataclass(slots=True)
class _Batch:
    rows: list[tuple[bytes, Place]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Links and files without content."""
    damaged: int = 0


def catch_up(
    repo: Repository, index: ContentIndex, on_done: Callable[[int, int], None] | None = None
) -> int:
    """Index every content object of `repo` that `index` lacks, and return how many those were.

    The lock for writing is held. `on_done` is told, now and then, of how many objects, of how
    many in all, have been done. What cannot be read is left for the next time. A run that is cut
    off has lost but what was under way.
    """
    seen = index.objects()
    todo = sorted(
        checksum
        for checksum, kind in repo.objects()
        if kind is ObjectType.FILE and checksum not in seen and checksum not in repo.damaged
    )
    batches = iter([todo[at : at + _TOGETHER] for at in range(0, len(todo), _TOGETHER)])
    threads = os.cpu_count() or 1
    done = left = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="catch-up") as pool:
        waiting: list[Future[_Batch]] = []
        try:
            while True:
                # No more of them at once than it takes: their results are held until added.
                for each in islice(batches, 2 * threads - len(waiting)):
                    waiting.append(pool.submit(_read, repo, each))
                if not waiting:
                    return len(todo) - left
                batch = waiting.pop(0).result()
                index.add(batch.rows, batch.empty)
                left += batch.damaged
                done = min(done + _TOGETHER, len(todo))
                if on_done is not None:
                    on_done(done, len(todo))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(repo: Repository, checksums: list[str]) -> _Batch:
    batch = _Batch()
    for checksum in checksums:
        try:
            rows = list(_pieces(repo, checksum))
        except (DamagedRepository, OSError):
            batch.damaged += 1
        else:
            batch.rows += rows
            if not rows:
                batch.empty.append(checksum)
    return batch


def _pieces(repo: Repository, checksum: str) -> Iterator[tuple[bytes, Place]]:
    """Yield the pieces of an object; none of a link or an empty file."""
    _meta, payload = repo.open_file(checksum)
    if payload is None:
        return
    whole = hashlib.sha256()
    size = 0
    with payload:
        while chunk := payload.read(BLOB_BUFFER):
            whole.update(chunk)
            size += len(chunk)
    if size:
        yield whole.digest(), Place(checksum, 0, size)
