"""Catching up: what the store has and the content index lacks is read, hashed and added.

That is what was imported from layers without an index of their own, and what other programs
wrote. Whole payloads are hashed, and the pieces into which `cut` would part them: where that cuts
as the writers of layers do, a later version of a file shares most of its pieces.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER
from bridge.ostree.objects import is_checksum
from bridge.ostree.repository import Repository
from bridge.pull.content_index import ContentIndex, Place
from bridge.pull.spans import Span, SpanHasher

Cut = Callable[[Iterable[bytes]], Iterable[tuple[int, bool]]]
"""Takes a payload in chunks; yields the size of each piece of it, in order, and whether all of the
piece is zeros. The sizes add up to the payload's."""

_TOGETHER = 512
"""Objects of one batch: as many are done again when a run is cut off, for each thread."""


@dataclass(slots=True)
class _Batch:
    rows: list[tuple[bytes, Place]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Links and files without content."""
    damaged: int = 0


def catch_up(
    repo: Repository,
    index: ContentIndex,
    on_done: Callable[[int, int], None] | None = None,
    cut: Cut | None = None,
) -> int:
    """Index every content object of `repo` that `index` lacks, and return how many those were.

    Payloads are cut as zstd:chunked cuts them, or by `cut`. The lock for writing is held.
    `on_done` is told, now and then, of how many objects, of how many in all, have been done. What
    cannot be read is left for the next time. A run that is cut off has lost but what was under
    way.
    """
    missing = repo.known.everything() - index.objects()
    todo = sorted(each for each in missing if is_checksum(each))
    if not todo:
        return 0
    cut = cut or _as_chunked
    batches = iter([todo[at : at + _TOGETHER] for at in range(0, len(todo), _TOGETHER)])
    threads = os.cpu_count() or 1
    done = left = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="catch-up") as pool:
        waiting: list[Future[_Batch]] = []
        try:
            while True:
                # No more of them at once than it takes: their results are held until added.
                for each in islice(batches, 2 * threads - len(waiting)):
                    waiting.append(pool.submit(_read, repo, each, cut))
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


def _as_chunked(chunks: Iterable[bytes]) -> Iterable[tuple[int, bool]]:
    # It needs numpy, and that a while to be there; after most pulls only links are left, and
    # nothing is to be cut.
    from bridge.layer import rollsum

    return rollsum.cut(chunks)


def _read(repo: Repository, checksums: list[str], cut: Cut) -> _Batch:
    batch = _Batch()
    for checksum in checksums:
        try:
            rows = _rows(repo, checksum, cut)
        except (DamagedRepository, OSError):
            batch.damaged += 1
        else:
            batch.rows += rows
            if not rows:
                batch.empty.append(checksum)
    return batch


def _rows(repo: Repository, checksum: str, cut: Cut) -> list[tuple[bytes, Place]]:
    """Return an object's payload and its pieces; of a link or an empty file nothing."""
    _meta, payload = repo.open_file(checksum)
    if payload is None:
        return []
    with payload:
        first = payload.read(BLOB_BUFFER)
        if not first:
            return []
        chunks: Iterable[bytes] = chain([first], iter(lambda: payload.read(BLOB_BUFFER), b""))
        if len(first) < BLOB_BUFFER:  # that is all of it, as of most files
            return _digests(checksum, [first], _spans(cut([first])))
        # It is read twice: where a piece ends may be known only when the next one has begun.
        spans = _spans(cut(chunks))
    return _digests(checksum, repo.stream_payload(checksum, 0, sys.maxsize), spans)


def _spans(pieces: Iterable[tuple[int, bool]]) -> list[Span]:
    """Return where the pieces are, but for zeros, which nobody fetches; none where it is one."""
    spans: list[Span] = []
    offset = 0
    for size, zeros in pieces:
        if not zeros:
            spans.append((offset, size))
        offset += size
    return [] if spans == [(0, offset)] else spans


def _digests(
    checksum: str, chunks: Iterable[bytes], spans: list[Span]
) -> list[tuple[bytes, Place]]:
    whole = hashlib.sha256()
    size = 0
    hasher = SpanHasher(spans)
    for chunk in hasher.through(chunks):
        whole.update(chunk)
        size += len(chunk)
    rows = [(whole.digest(), Place(checksum, 0, size))]
    rows += [(digest, Place(checksum, *span)) for span, digest in hasher.digests.items()]
    return rows
