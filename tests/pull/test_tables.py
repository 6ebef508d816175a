"""Tables of contents that processes of their own read: the same as are read here, or none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.chunked import Blob, chunked
from support.images import MEDIA_TYPES, file, tar

from bridge import limits
from bridge.layer import indexed
from bridge.layer.blob_index import BlobIndex
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.pull import tables
from bridge.pull.tables import TableReaders


def made(seed: int, files: int = 40) -> Blob:
    chance = random.Random(seed)
    content = [chance.randbytes(chance.randrange(1, 3000)) for _ in range(files)]
    return chunked(tar([file(f"{seed}/{at}", data) for at, data in enumerate(content)]))


BLOBS = [made(each, 20 * each) for each in range(1, 7)]


def layer(blob: Blob) -> Descriptor:
    return Descriptor(
        MEDIA_TYPES["zstd"], Digest.of(blob.data), len(blob.data), annotations=blob.annotations
    )


@contextmanager
def running(large: int) -> Iterator[TableReaders]:
    with TableReaders() as opened:
        opened.start(large)
        yield opened


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(tables, "LEAST", 1)


@pytest.fixture
def readers() -> Iterator[TableReaders]:
    with running(2) as opened:
        yield opened


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started."""
    found: list[subprocess.Popen[bytes]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    return found


def read(readers: TableReaders, blob: Blob, most: int = limits.TOC_ENTRIES_MAX) -> BlobIndex | None:
    assert readers.takes(len(blob.tail))
    return readers.read(layer(blob), blob.tail, most)


def same(found: BlobIndex | None, blob: Blob) -> None:
    assert found is not None
    assert (found.files, found.entries, found.held) == (
        blob.index.files, blob.index.entries, blob.index.held
    )  # fmt: skip
    assert list(found.skeleton()) == list(blob.index.skeleton())


def test_many_at_once(readers: TableReaders) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda blob: read(readers, blob), BLOBS * 3)
        for index, blob in zip(found, BLOBS * 3, strict=True):
            same(index, blob)


@pytest.mark.parametrize(
    ("large", "processors", "count"),
    [(0, 8, 0), (1, 8, 0), (2, 8, 2), (3, 2, 2), (9, 1, 0), (9, 8, limits.PARALLEL_BLOBS)],
)
def test_as_many_as_are_of_use(
    large: int,
    processors: int,
    count: int,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    with running(large) as readers:
        assert len(started) == count
        assert readers.takes(1000) == (count > 0)
    assert all(each.returncode is not None for each in started)


def test_what_is_small_is_left(readers: TableReaders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LEAST", 1000)
    assert [readers.takes(size) for size in (999, 1000)] == [False, True]


DAMAGED = {
    "cut off": lambda tail: tail[:-1],
    "another table": lambda tail: tail[:30] + bytes([tail[30] ^ 1]) + tail[31:],
    "nothing": lambda _tail: b"\0",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_wrong_is_said_elsewhere(readers: TableReaders, kind: str) -> None:
    """And does no harm to those that come after it."""
    blob = BLOBS[2]
    for _ in range(3):
        assert readers.read(layer(blob), DAMAGED[kind](blob.tail), 1000) is None
        same(read(readers, blob), blob)


def test_no_more_is_held_than_is_allowed(readers: TableReaders) -> None:
    held = BLOBS[1].index.held
    assert read(readers, BLOBS[1], held - 1) is None
    same(read(readers, BLOBS[1], held), BLOBS[1])


def test_an_estargz_layer_that_needs_more_of_its_end(readers: TableReaders) -> None:
    from support.estargz import entry, estargz

    chance = random.Random(1)
    blob = estargz([entry(chance.randbytes(40).hex(), b"x") for _ in range(2000)])
    wanted = Descriptor(
        MEDIA_TYPES["gzip"], Digest.of(blob.blob), len(blob.blob), annotations=blob.annotations
    )
    location = indexed.locate(blob.annotations, len(blob.blob), "gzip")
    assert location is not None
    assert readers.read(wanted, blob.blob[location.start :], 10_000) is None
    found = readers.read(wanted, blob.blob, 10_000)
    assert found is not None
    assert found.files == indexed.read(location, blob.blob).files


def test_processes_that_end(started: list[subprocess.Popen[bytes]]) -> None:
    """They were killed, for memory perhaps: nobody waits for them, and the other one goes on."""
    with running(2) as readers, ThreadPoolExecutor(3) as pool:
        started[0].send_signal(signal.SIGSTOP)  # it has taken a request, or will not take it
        tasks = [pool.submit(read, readers, blob) for blob in BLOBS]
        started[0].send_signal(signal.SIGKILL)
        found = [each.result(30) for each in tasks]
        for blob, index in zip(BLOBS, found, strict=True):
            if index is not None:
                same(index, blob)
        found = [read(readers, BLOBS[1]) for _ in range(2)]
        assert found.count(None) == 1
        started[1].kill()
        assert [read(readers, blob) for blob in BLOBS] == [None] * len(BLOBS)


def test_no_processes_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with running(2) as readers:
        assert not readers.takes(1 << 20)


def test_one_that_is_busy_is_ended(started: list[subprocess.Popen[bytes]]) -> None:
    with running(2):
        started[0].send_signal(signal.SIGSTOP)
    assert [each.returncode for each in started] == [-signal.SIGKILL] * 2


def test_no_variable_of_the_environment_and_no_module_beside_it_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with running(2) as readers:
        same(read(readers, BLOBS[0]), BLOBS[0])
