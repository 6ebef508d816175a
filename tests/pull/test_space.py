"""Whether an image fits: what is needed, when it is looked at closely, when it is refused."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

from bridge.errors import MayNotFit, NetworkError, NoSpace
from bridge.limits import GIB, MIB, SPACE_HINTS_MAX
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.ostree.objects import FileMeta
from bridge.ostree.repository import Repository
from bridge.ostree.space import Room
from bridge.ostree.transaction import Transaction
from bridge.pull import kept, space
from bridge.pull.plan import LayerPlan, Mode
from bridge.pull.progress import Progress
from bridge.pull.report import SpaceReport, recorded_sizes
from bridge.pull.space import Figure, Need, Unpacked, is_tight, need
from bridge.registry.meter import Meter

TAR = "application/vnd.oci.image.layer.v1.tar"
KINDS = {"none": TAR, "gzip": f"{TAR}+gzip", "zstd": f"{TAR}+zstd"}
HUGE = 2**63 - 1


def layer(size: int, kind: str = "gzip") -> Descriptor:
    return Descriptor(KINDS[kind], Digest.of(os.urandom(8)), size)


def planned(size: int, kind: str = "gzip", mode: Mode = Mode.WHOLE) -> LayerPlan:
    return LayerPlan(layer(size, kind), Digest.of(os.urandom(8)), mode)


def known(size: int, unpacked: int, kind: str = "gzip") -> Unpacked:
    return Unpacked(layer(size, kind), Digest.of(b""), unpacked, Figure.TRAILER)


def guessed(size: int, kind: str = "gzip") -> Unpacked:
    return space.first_figure(planned(size, kind))


def test_what_a_descriptor_alone_tells() -> None:
    assert (guessed(100, "none").bytes, guessed(100, "none").figure) == (100, Figure.EXACT)
    for kind in ("gzip", "zstd"):
        assert (guessed(100, kind).bytes, guessed(100, kind).figure) == (300, Figure.ESTIMATE)


NEEDS: dict[str, tuple[list[Unpacked], dict[str, Any], Need]] = {
    "no layer": ([], {}, Need(0, 0)),
    # In any case its blob and three quarters of what is in it, beside one another.
    "one layer": ([known(100, 400)], {}, Need(420 + 100, 300 + 100)),
    "read in place": ([known(100, 400)], {"keeps": False}, Need(420, 300)),
    "not compressed": ([guessed(400, "none")], {}, Need(420 + 400, 300 + 400)),
    "an estimate": ([guessed(100)], {}, Need(315 + 100, 75 + 100)),
    "the three largest blobs lie there at once": (
        [known(each, 400) for each in (10, 40, 20, 30)], {}, Need(4 * 420 + 90, 1200)),
    "one that is larger than the others together": (
        [known(4000, 4000), known(1, 4)], {}, Need(4204 + 4001, 7000)),
    "all of it is in the store": ([known(100, 400)], {"shared": 10**9}, Need(520, 100)),
    "a part of it is in the store": ([known(100, 400)], {"shared": 100}, Need(520, 300)),
    "compressed in the store": ([known(100, 400)], {"archive": True}, Need(200, 175)),
    "compressed by the file system": ([known(100, 400)], {"compresses": True}, Need(520, 175)),
    "compressed in the store only": (
        [known(300, 300, "none")], {"archive": True}, Need(400, 300)),
    "absurd sizes": (
        [known(HUGE, HUGE), known(HUGE, HUGE)], {},
        Need(2 * (HUGE * 21 // 20) + 2 * HUGE, HUGE + HUGE * 3 // 4)),
}  # fmt: skip


@pytest.mark.parametrize(("layers", "how", "found"), NEEDS.values(), ids=NEEDS)
def test_what_is_needed(layers: list[Unpacked], how: dict[str, Any], found: Need) -> None:
    assert need(layers, **how) == found


@pytest.mark.parametrize(
    ("layers", "available", "tight"),
    [
        # An image of 420 MB on a disk with room for three times what it needs.
        ([guessed(420_000_000)], 5 * GIB, False),
        ([guessed(420_000_000)], 3 * GIB, True),
        ([guessed(420_000_000)], -1, True),
        # Little room, and a blob that could be anything, or could not.
        ([guessed(500_000)], 100 * MIB, True),
        ([guessed(500_000)], 600 * MIB, False),
        ([guessed(90_000)], 100 * MIB, False),
        ([known(500_000, 10 * MIB)], 100 * MIB, False),
        ([guessed(50 * MIB, "none")], 300 * MIB, False),
        ([guessed(500_000, "zstd")], 2 * GIB, False),
        ([guessed(5_000, "zstd")], 100 * MIB, True),
        ([guessed(3_000, "zstd")], 100 * MIB, False),
    ],
)
def test_when_it_is_tight(layers: list[Unpacked], available: int, tight: bool) -> None:
    assert is_tight(layers, need(layers), available) is tight


# -- the check -------------------------------------------------------------------------------


@dataclass
class Blobs:
    """A source of blobs: those that are given; of the others nothing can be had."""

    content: dict[Digest, bytes] = field(default_factory=dict)
    keeps: bool = True
    asked: list[tuple[Digest, int, int]] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)

    def hint(self, descriptor: Descriptor, start: int, length: int) -> bytes | None:
        self.asked.append((descriptor.digest, start, length))
        if descriptor.digest not in self.content:
            raise NetworkError("no answer")
        return self.content[descriptor.digest][start : start + length]


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Desk:
    """A repository on a file system with so much room."""

    repo: Repository
    source: Blobs
    told: Told
    room: int = 10 * GIB
    inodes: int | None = 1_000_000

    def check(self, *plans: LayerPlan, careful: bool = False) -> SpaceReport:
        return space.check(
            self.repo,
            self.source,  # type: ignore[arg-type]
            plans,
            self.told,  # type: ignore[arg-type]
            careful=careful,
        )


@pytest.fixture
def desk(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    made = Desk(repo, Blobs(), Told())
    monkeypatch.setattr(space, "measure", lambda _: Room(made.room, 7_000_000, 4096, made.inodes))
    yield made


def blob(content: bytes, kind: str) -> tuple[LayerPlan, dict[Digest, bytes]]:
    data = gzip.compress(content) if kind == "gzip" else zstandard.compress(content)
    found = Descriptor(KINDS[kind], Digest.of(data), len(data))
    return LayerPlan(found, Digest.of(content), Mode.WHOLE), {found.digest: data}


def keep(repo: Repository, digest: Digest, size: int) -> Path:
    directory = Path(repo.path) / kept.DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / kept.name(digest)
    path.write_bytes(bytes(size))
    return path


def test_with_plenty_of_room_nobody_is_asked(desk: Desk) -> None:
    assert desk.check(planned(400 * MIB)) == SpaceReport(1660 * MIB, 10 * GIB, True)
    assert desk.check(planned(400 * MIB, "none")) == SpaceReport(820 * MIB, 10 * GIB, False)
    desk.room = -5
    assert desk.check(planned(400 * MIB, mode=Mode.PRESENT)) == SpaceReport(0, 0, False)
    assert (desk.source.asked, desk.told.lines) == ([], [])


@pytest.mark.parametrize("size", [10**15, 999 * 2**40, HUGE])
@pytest.mark.parametrize("kind", KINDS)
def test_an_absurd_size_is_refused_unasked(desk: Desk, kind: str, size: int) -> None:
    with pytest.raises(NoSpace, match=f"at least .* more .*{10 * GIB // 10**6 + 1} MB are avail"):
        desk.check(planned(size, kind))
    assert desk.source.asked == []


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_a_blob_says_of_itself_is_asked_for_in_a_few_bytes(desk: Desk, kind: str) -> None:
    plan, desk.source.content = blob(bytes(100_000_000), kind)
    desk.room = 20 * MIB
    with pytest.raises(NoSpace, match=r"needs at least 7\d MB more \(10\d MB as its layers say"):
        desk.check(plan)
    size = plan.layer.size
    where = (size - 4, 4) if kind == "gzip" else (0, 18)
    assert desk.source.asked == [(plan.layer.digest, *where)]
    desk.room = 75 * MIB
    assert desk.check(plan).needed == 105_000_000 + size


def test_what_cannot_be_asked_stays_an_estimate_and_is_tried(desk: Desk) -> None:
    desk.room = 100 * MIB
    report = desk.check(planned(50 * MIB))
    assert report == SpaceReport(50 * MIB + 315 * MIB // 2, 100 * MIB, True)
    assert len(desk.source.asked) == 1
    (line,) = desk.told.lines
    assert line.startswith("warning: ") and "218 MB as an estimate" in line
    assert "105 MB are available, 7 MB having to stay free" in line


def test_who_wants_to_make_room_first_is_not_only_warned(desk: Desk) -> None:
    desk.room = 100 * MIB
    with pytest.raises(MayNotFit, match="may have no room for the image: it needs 218 MB"):
        desk.check(planned(50 * MIB), careful=True)
    assert desk.told.lines == []
    desk.room = 10 * GIB
    desk.check(planned(50 * MIB), careful=True)


def test_the_number_of_questions_is_bounded(desk: Desk) -> None:
    desk.room = 100 * MIB
    plans = [planned(MIB + number) for number in range(100)]
    desk.check(*plans)
    largest = sorted(plans, key=lambda each: -each.layer.size)[:SPACE_HINTS_MAX]
    assert [each[0] for each in desk.source.asked] == [each.layer.digest for each in largest]


def test_what_earlier_pulls_measured_is_not_asked_for(desk: Desk) -> None:
    plan = planned(50 * MIB)
    text = json.dumps({"layers": [{"diffId": plan.diff_id, "unpackedBytes": 60 * MIB}]})
    history = Path(desk.repo.path) / "extensions/bootc-py/history.jsonl"
    history.parent.mkdir(parents=True)
    history.write_text(f"{text}\n")
    desk.room = 120 * MIB
    assert desk.check(plan) == SpaceReport(113 * MIB, 120 * MIB, False)
    assert (desk.source.asked, desk.told.lines) == ([], [])


def test_what_the_store_has_may_be_shared(desk: Desk) -> None:
    plan, desk.source.content = blob(bytes(50_000_000), "gzip")
    desk.room = 10_000_000
    with pytest.raises(NoSpace):
        desk.check(plan)
    with Transaction(desk.repo) as transaction:
        meta = FileMeta(0, 0, 0o100644)
        for number in range(3):
            transaction.write_stream(meta, 10_000_000, [bytes([number]) * 10_000_000])
        transaction.publish()
    desk.check(plan)
    assert "may have no room" in desk.told.lines[0]


def test_what_is_ours_is_given_back_before_anything_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(80 * MIB)
    own = keep(desk.repo, plan.layer.digest, 1000)
    other = keep(desk.repo, Digest.of(b"other"), 2000)
    staging = Path(desk.repo.path) / "tmp/bootc-py-staging-0123456789abcdef"
    theirs = Path(desk.repo.path) / "tmp/staging-of-libostree"
    staging.mkdir()
    theirs.mkdir()

    def measured(_: object) -> Room:
        gone = not other.exists() and not staging.exists()
        return Room(200 * MIB if gone else 10 * MIB, 0, 4096, None)

    monkeypatch.setattr(space, "measure", measured)
    report = desk.check(plan)
    assert report.available == 200 * MIB + 1000  # what lies there goes when it is used up
    assert own.exists() and theirs.exists()


def test_nothing_is_given_back_where_it_is_not_needed(desk: Desk) -> None:
    other = keep(desk.repo, Digest.of(b"other"), 2000)
    desk.check(planned(80 * MIB))
    assert other.exists()


def test_without_inodes_nothing_is_begun(desk: Desk) -> None:
    desk.inodes = 2
    desk.check(planned(1000))
    with pytest.raises(NoSpace, match="no inode is left"):
        desk.check(planned(1000), planned(1000))
    desk.check(planned(1000, mode=Mode.PRESENT), planned(1000, mode=Mode.PRESENT))


# -- the history -----------------------------------------------------------------------------

LINES = {
    "nothing": ("", {}),
    "the last word": (
        '{"layers": [{"diffId": "a", "unpackedBytes": 1}, {"diffId": "b", "unpackedBytes": 2}]}\n'
        '{"layers": [{"diffId": "a", "unpackedBytes": 3}]}\n',
        {"a": 3, "b": 2},
    ),
    "not a size": (
        '{"layers": [{"diffId": "a", "unpackedBytes": null}, {"diffId": "b"},'
        ' {"diffId": "c", "unpackedBytes": -1}, {"diffId": "d", "unpackedBytes": true},'
        ' {"diffId": "e", "unpackedBytes": "9"}, {"diffId": "f", "unpackedBytes": 0}]}\n',
        {"f": 0},
    ),
    "not a report": ('5\n[]\n{}\n{"layers": 5}\n{"layers": [5]}\n{"layers": null}\n', {}),
    "not JSON": (
        '": 4}]}\n\0\n{"layers": [{"diffId": "a", "unpackedBytes": 7}]}\n' + "[" * 100_000,
        {"a": 7},
    ),
}


@pytest.mark.parametrize(("text", "sizes"), LINES.values(), ids=LINES)
def test_the_history_is_only_a_file(repo: Repository, text: str, sizes: dict[str, int]) -> None:
    assert recorded_sizes(repo) == {}
    history = Path(repo.path) / "extensions/bootc-py/history.jsonl"
    history.parent.mkdir(parents=True)
    history.write_text(text)
    assert recorded_sizes(repo) == sizes


def test_of_a_long_history_the_end_is_read(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.pull.report.HISTORY_READ_MAX", 120)
    history = Path(repo.path) / "extensions/bootc-py/history.jsonl"
    history.parent.mkdir(parents=True)
    lines = [{"layers": [{"diffId": str(n), "unpackedBytes": n}]} for n in range(10)]
    history.write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert recorded_sizes(repo) == {"8": 8, "9": 9}
    history.unlink()
    os.mkfifo(history)
    assert recorded_sizes(repo) == {}
