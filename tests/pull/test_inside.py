"""What the blobs of an image say of themselves, and how much of that is held in memory."""

from __future__ import annotations

import base64
import json
import os
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from support import images
from support.images import Image

from bridge import limits
from bridge.errors import MalformedImage, NoSpace
from bridge.layer import indexed, toc
from bridge.layer.blob_index import BlobIndex
from bridge.layer.zstd_chunked_writer import write
from bridge.oci.model import Descriptor, Manifest
from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull import inside, tables
from bridge.pull.inside import look_inside
from bridge.pull.plan import LayerPlan, Mode
from bridge.pull.source import Source, open_source
from bridge.registry.meter import Meter
from bridge.registry.observed import Observed
from bridge.registry.options import NetworkOptions


def chunked(*layers: Sequence[images.Member]) -> Image:
    """Return an image whose layers are written as zstd:chunked."""
    tars = [images.tar(each) for each in layers]
    plain = images.image(*tars, compression="zstd")
    described = []
    for tar in tars:
        out = bytearray()
        written = write([tar], out.extend)
        blob = bytes(out)
        plain.blobs[written.digest] = blob
        described.append(
            images.descriptor(blob, images.MEDIA_TYPES["zstd"])
            | {"annotations": written.annotations}
        )
    return plain.changed(layers=described)


def noise(name: str, size: int = 70_000) -> images.Member:
    return images.file(name, random.Random(name).randbytes(size))


class Seen:
    """A source whose blobs were seen to come at a speed."""

    def __init__(self, source: Source, bytes_per_second: float | None) -> None:
        self._source = source
        self._speed = bytes_per_second

    def observed(self) -> Observed:
        return Observed(None, self._speed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def looked(
    made: Image,
    path: Path,
    repo: Repository,
    *,
    fastest: bool = False,
    speed: float | None = None,
    seen: type[Seen] = Seen,
    on_index: Callable[[BlobIndex], object] | None = None,
) -> list[LayerPlan]:
    """Look into all layers of an image."""
    images.write_layout(path, made)
    with ExitStack() as stack:
        source = open_source(parse_reference(f"oci:{path}"), NetworkOptions(), repo, stack)
        manifest = source.top()
        assert isinstance(manifest, Manifest)
        plans = [LayerPlan(each, each.digest, Mode.WHOLE) for each in manifest.layers]
        shown = cast(Source, seen(source, speed))
        return look_inside(shown, plans, lambda _plan: Meter(), fastest=fastest, on_index=on_index)


@pytest.mark.parametrize(
    ("fastest", "speed", "whole"),
    [
        (True, 125e6, True),
        (True, 124e6, False),
        (True, None, False),
        (False, 1e9, False),
    ],
)
def test_on_a_fast_link_blobs_stay_whole_for_whoever_wants_them_soonest(
    tmp_path: Path, repo: Repository, fastest: bool, speed: float | None, whole: bool
) -> None:
    made = chunked([noise("a")], [noise("b")])
    plans = looked(made, tmp_path / "image", repo, fastest=fastest, speed=speed)
    assert [each.inside is None for each in plans] == [whole, whole]
    if whole:
        assert all("faster" in each.reason for each in plans)


@pytest.mark.parametrize(
    ("fastest", "speed", "expected"),
    [
        (True, 125e6, ["tail", "came"]),
        (True, 124e6, ["tail", "came", "start", "tail", "tail"]),
        (False, 125e6, ["start", "tail", "tail", "tail"]),
    ],
)
def test_the_speed_is_that_of_the_first_end_alone(
    tmp_path: Path,
    repo: Repository,
    monkeypatch: pytest.MonkeyPatch,
    fastest: bool,
    speed: float,
    expected: list[str],
) -> None:
    """Nothing else is asked for until it is here, and no process starts."""
    events: list[str] = []
    another = threading.Event()

    class First(Seen):
        def tail(self, *args: Any) -> bytes | None:
            events.append("tail")
            if len(events) > 1:
                another.set()
            elif fastest:
                assert not another.wait(0.1)
                events.append("came")
            found: bytes | None = self._source.tail(*args)
            return found

    monkeypatch.setattr(tables.TableReaders, "start", lambda *_: events.append("start"))
    made = chunked([noise("a")], [noise("b")], [noise("c")])
    looked(made, tmp_path / "image", repo, fastest=fastest, speed=speed, seen=First)
    assert events == expected


def test_blobs_say_what_is_inside(tmp_path: Path, repo: Repository) -> None:
    made = chunked([noise("a"), noise("b")], [noise("c"), images.directory("d")])
    names = []
    for plan in looked(made, tmp_path / "image", repo):
        assert plan.inside is not None and plan.reason == ""
        index = plan.inside.index
        blob = made.blobs[str(plan.layer.digest)]
        assert plan.inside.tail == blob[index.end :]
        assert index.held == 2 + sum(len(file.pieces) - 1 for file in index.files)
        names.append([file.path for file in index.files])
    assert names == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("name", "most", "words"),
    [
        ("TAILS_MAX", 1500, "tables of contents of an image can take 1500 bytes together"),
        (
            "TOC_ENTRIES_MAX",
            60,
            "its table of contents has more entries than the 9 that can be held",
        ),
    ],
)
def test_all_layers_together_are_limited(
    name: str,
    most: int,
    words: str,
    tmp_path: Path,
    repo: Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is held for one layer is not there for the next, whose blob is then moved whole."""
    monkeypatch.setattr(inside, name, most)
    monkeypatch.setattr(inside, "PARALLEL_BLOBS", 1)
    small = [images.file(f"{number}", mode=number) for number in range(49)]
    made = chunked(*([noise(f"{letter}"), *small] for letter in "abc"))
    plans = looked(made, tmp_path / "image", repo)
    assert [plan.inside is not None for plan in plans] == [True, False, False]
    assert [plan.reason for plan in plans] == ["", words, words]
    assert all(plan.mode is Mode.WHOLE for plan in plans)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[BlobIndex | None]:
    """Have processes of their own read tables of any size; what they answer."""
    found: list[BlobIndex | None] = []

    class Seen(tables.TableReaders):
        def read(self, layer: Descriptor, tail: bytes, most: int) -> BlobIndex | None:
            found.append(super().read(layer, tail, most))
            return found[-1]

    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(tables, "LEAST", 1)
    monkeypatch.setattr(inside, "LEAST", 1)
    monkeypatch.setattr(inside, "TableReaders", Seen)
    return found


def test_it_makes_no_difference_who_reads_them(
    tmp_path: Path, repo: Repository, processes: list[BlobIndex | None]
) -> None:
    made = chunked(*([noise(f"{letter}{at}") for at in range(9)] for letter in "abcd"))
    told: list[BlobIndex] = []
    plans = looked(made, tmp_path / "image", repo, on_index=told.append)
    assert len(processes) == 4 and None not in processes
    names = []
    for plan in plans:
        assert plan.inside is not None
        index = plan.inside.index
        assert index in told and index in processes
        location = indexed.locate(plan.layer.annotations, plan.layer.size, "zstd")
        assert location is not None
        here = indexed.read(location, plan.inside.tail)
        assert (index.files, index.entries) == (here.files, here.entries)
        names.append(index.files[0].path)
    assert names == ["a0", "b0", "c0", "d0"]
    assert len(told) == 4


def test_processes_share_the_room(
    tmp_path: Path,
    repo: Repository,
    processes: list[BlobIndex | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where not enough is left for what is likely, one at a time is read as far as it goes."""
    content = [random.Random(at).randbytes(70_000) for at in range(9)]
    made = chunked(
        *([images.file(f"{letter}{at}", content[at]) for at in range(9)] for letter in "abcd")
    )
    with monkeypatch.context() as patch:
        patch.setattr(inside, "LEAST", 1 << 30)
        one = looked(made, tmp_path / "one", repo)[0].inside
    assert one is not None
    monkeypatch.setattr(inside, "_ENTRY", len(one.tail) // (one.index.held + 20))
    monkeypatch.setattr(inside, "TOC_ENTRIES_MAX", 2 * one.index.held + 5)
    processes.clear()
    plans = looked(made, tmp_path / "image", repo)
    assert [plan.inside is not None for plan in plans].count(True) == 2
    assert sum(each is not None for each in processes) == 1
    refused = [plan.reason for plan in plans if plan.inside is None]
    assert all("more entries than the 5 that can be held" in each for each in refused)


def test_tables_that_are_wrong_are_told_of(
    tmp_path: Path, repo: Repository, processes: list[BlobIndex | None]
) -> None:
    made = chunked([noise("a")], [noise("b")])
    layers = made.document["layers"]
    key = "io.github.containers.zstd-chunked.manifest-checksum"
    layers[1]["annotations"][key] = "sha256:" + "0" * 64
    plans = looked(made.changed(layers=layers), tmp_path / "image", repo)
    assert plans[0].inside is not None and plans[1].inside is None
    assert plans[1].reason == ("its table of contents has not the digest that the manifest gives")
    assert processes.count(None) == 1


def test_what_goes_wrong_beside_it_ends_it(tmp_path: Path, repo: Repository) -> None:
    def full(_index: BlobIndex) -> None:
        raise NoSpace("the index does not fit")

    made = chunked([noise("a")], [noise("b")])
    with pytest.raises(NoSpace, match="the index does not fit"):
        looked(made, tmp_path / "image", repo, on_index=full)


# -- one table -------------------------------------------------------------------------------


def document(entries: Iterator[str]) -> Iterator[bytes]:
    yield b'{"version":1,"entries":['
    yield ",".join(entries).encode()
    yield b"]}"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(**values: object) -> str:
    return json.dumps(values)


TABLES: dict[str, Callable[[int], str]] = {
    "directories": lambda n: entry(
        type="dir", name=f"\xe9{n:07}", mode=0o1000 + n % 3000, uid=n + 1000, gid=n + 500,
        modtime=f"2026-01-01T00:00:00.{n:06}Z",
    ),
    "files": lambda n: entry(
        type="reg", name=f"{n:07}", size=n + 1000, mode=420, digest=digest(n),
        offset=n * 1000 + 300, endOffset=n * 1000 + 1300,
    ),
    "links": lambda n: entry(type="symlink", name=f"{n:07}", linkName=f"../{n}"),
    "pieces": lambda n: (
        entry(
            type="reg", name="a", size=20_000_000, digest=digest(0), offset=1000,
            endOffset=1 << 40, chunkSize=1000, chunkDigest=digest(1),
        )
        if not n
        else entry(
            type="chunk", name="a", offset=n * 1000 + 1000, chunkOffset=n * 1000, chunkSize=1000,
            chunkDigest=digest(n),
        )
    ),
    "xattrs": lambda n: (
        entry(type="dir", name=f"{n}", xattrs={f"{each}": "YWI=" for each in range(1000)})
        if n % 1001 == 1000
        else ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_what_is_counted_takes_memory_that_is_known(kind: str) -> None:
    """With `TOC_ENTRIES_MAX` of them it is less than half a gigabyte, whatever they are."""
    count = 20_000
    assert limits.TOC_ENTRIES_MAX * 800 < 512 * limits.MIB
    tracemalloc.start()
    try:
        chunks = document(filter(None, map(TABLES[kind], range(count))))
        # Its text is not what is measured: in a blob it comes in chunks.
        text = b"".join(chunks)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        found = toc.parse_toc(
            (text[at : at + 65536] for at in range(0, len(text), 65536)), 1 << 50, count
        )
        held = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert count - 1000 < found.held <= count
    assert held < 800 * count + limits.MIB


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_with_more_is_refused(kind: str) -> None:
    entries = list(filter(None, map(TABLES[kind], range(1002))))
    with pytest.raises(MalformedImage, match="more entries than the 999 that"):
        toc.parse_toc(document(iter(entries)), 1 << 50, 999)


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ({"name": "x" * 255}, 1),
        ({"name": "x" * 256}, 2),
        ({"name": "x" * 1000}, 4),
        ({"name": "\U0001f600" + "x" * 255}, 5),  # each has four bytes in memory
        ({"name": "l", "type": "symlink", "linkName": "x" * 255}, 2),
        ({"name": "x", "xattrs": {"a": base64.b64encode(bytes(600)).decode()}}, 4),
        ({"name": "x", "xattrs": {"a" * 254: ""}}, 2),
    ],
)
def test_names_and_xattrs_count(values: dict[str, object], held: int) -> None:
    """Else few entries of some layers could hold any amount of memory."""
    only = entry(**({"type": "dir"} | values))
    assert toc.parse_toc(document(iter([only])), 1).held == held
    with pytest.raises(MalformedImage, match=f"more entries than the {held - 1} that can be held"):
        toc.parse_toc(document(iter([only])), 1, held - 1)


@pytest.mark.parametrize(
    ("second", "good"),
    [
        ({"offset": 30, "endOffset": 40}, True),
        ({"offset": 10, "endOffset": 20, "digest": digest(1)}, True),
        ({"offset": 20, "endOffset": 30}, True),
        ({"offset": 10, "endOffset": 20}, False),
        ({"offset": 10, "endOffset": 19, "digest": digest(1)}, False),
        ({"offset": 10, "endOffset": 21, "digest": digest(1)}, False),
        ({"offset": 5, "endOffset": 11}, False),
        ({"offset": 12, "endOffset": 14}, False),
        ({"offset": 19, "endOffset": 40}, False),
    ],
)
def test_no_two_contents_are_in_one_place(second: dict[str, object], good: bool) -> None:
    both = [
        entry(type="reg", name="a", size=5, digest=digest(1), offset=10, endOffset=20),
        entry(type="reg", name="b", size=5, **{"digest": digest(2)} | second),
    ]
    for order in (both, both[::-1]):
        if good:
            assert len(toc.parse_toc(document(iter(order)), 50).files) == 2
            continue
        with pytest.raises(MalformedImage, match="two contents in one place"):
            toc.parse_toc(document(iter(order)), 50)
