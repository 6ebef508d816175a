"""What is deleted, what of an index is wanted, what a report comes to: values in, values out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images

from bridge import limits
from bridge.errors import MalformedImage, NetworkError, NotFound
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, Index, Manifest, Platform, parse_document
from bridge.sync.collector import Collector
from bridge.sync.deletion import vanished
from bridge.sync.model import Job, Kind, Place
from bridge.sync.narrow import narrow, parsed
from bridge.sync.progress import SyncProgress
from bridge.sync.report import (
    Failure,
    JobReport,
    Moved,
    SyncReport,
    TagOutcome,
    TagReport,
    Totals,
)
from bridge.sync.state import Written

ROW = Written("a", "v1", "v1", "sha256:1", "sha256:1", 2)
SOME = frozenset({"v2"})


@pytest.mark.parametrize(
    ("row", "tags", "there", "goes"),
    [
        (ROW, SOME, frozenset({"v1"}), True),
        (ROW, SOME, None, True),
        (ROW, SOME, frozenset(), False),
        (ROW, frozenset({"v1"}), None, False),
        (ROW, frozenset(), None, False),
        (ROW, None, None, False),
        (replace(ROW, wrote=0), SOME, None, False),
        (replace(ROW, wrote=1), SOME, None, True),
        (replace(ROW, tag="v2-copy", named="v2"), SOME, None, False),
        (replace(ROW, tag="v1-copy", named="v1"), SOME, None, True),
        (replace(ROW, tag="@sha256:7", named=""), SOME, None, False),
        (replace(ROW, tag="made sha256:7", named="2024"), SOME, None, False),
        (replace(ROW, tag="sha256:7", named="sha256:7"), SOME, None, False),
    ],
    ids=[
        "vanished", "target-unknown", "gone-there-too", "still-here", "empty-list", "failed-list",
        "not-ours", "about-to-be-ours", "suffix-stays", "suffix", "referrer", "time", "digest",
    ],
)  # fmt: skip
def test_what_may_be_deleted(
    row: Written, tags: frozenset[str] | None, there: frozenset[str] | None, *, goes: bool
) -> None:
    assert vanished([row], tags, there) == ([row] if goes else [])


# -- platforms -----------------------------------------------------------------------------------

AMD, ARM, S390 = (Platform("linux", each) for each in ("amd64", "arm64", "s390x"))
PLACE = Place(Kind.REPOSITORY, "a.example/x")
MADE = {each: images.image([images.file(str(each))], platform=each) for each in (AMD, ARM, S390)}
INDEX = images.index(*((MADE[each], each) for each in MADE), (images.image(), None))
TOP = parse_document(INDEX.manifest)


class Given:
    """An origin of one index."""

    def document(self, descriptor: Descriptor) -> Manifest | Index:
        return parse_document(INDEX.blobs[descriptor.digest])


def narrowed(*platforms: str, sparse: bool = False) -> tuple[Digest, list[bool]]:
    job = Job("job", PLACE, PLACE, platforms=platforms, sparse=sparse)
    found = narrow(job, Given(), TOP)  # type: ignore[arg-type]
    assert isinstance(TOP, Index)
    return found.top.digest, [found.wants(each) for each in TOP.manifests]


def test_an_index_is_what_it_is() -> None:
    assert narrowed() == (TOP.digest, [True] * 4)


def test_one_platform_is_its_manifest() -> None:
    assert narrowed("linux/arm64")[0] == MADE[ARM].digest
    assert narrowed("linux/arm64/v8")[0] == MADE[ARM].digest


def test_a_sparse_index_stays() -> None:
    assert narrowed("linux/arm64", sparse=True) == (TOP.digest, [False, True, False, False])


def test_several_platforms_are_an_index_of_these() -> None:
    job = Job("job", PLACE, PLACE, platforms=("linux/amd64", "linux/s390x"))
    top = narrow(job, Given(), TOP).top  # type: ignore[arg-type]
    assert isinstance(top, Index)
    assert [each.digest for each in top.manifests] == [MADE[AMD].digest, MADE[S390].digest]
    assert [each.platform for each in top.manifests] == [AMD, S390]
    assert top.digest != TOP.digest


def test_a_platform_that_is_not_there() -> None:
    with pytest.raises(MalformedImage, match="riscv64; it has: linux/amd64"):
        narrowed("linux/riscv64")


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", AMD),
        ("amd64", AMD),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_platforms_as_they_are_written(text: str, platform: Platform) -> None:
    assert parsed(text) == platform


# -- reports -------------------------------------------------------------------------------------


def tag(outcome: TagOutcome, moved: Moved = Moved(), failure: Failure | None = None) -> TagReport:  # noqa: B008
    return TagReport("r", "t", "sha256:1", outcome, moved=moved, failure=failure)


def report(*failures: Failure, stopped: bool = False) -> SyncReport:
    job = JobReport("j", "a", "b", (), 0, failures, Totals.sum(()), 0.0)
    return SyncReport("c", "2024-01-01T00:00:00Z", False, None, (job,), 0.0, stopped)


NETWORK = Failure.of("x", NetworkError("x"))
MISSING = Failure.of("y", NotFound("y"))


@pytest.mark.parametrize(
    ("failures", "code"),
    [((), 0), ((NETWORK,), 5), ((NETWORK, NETWORK), 5), ((MISSING,), 4), ((MISSING, NETWORK), 1)],
    ids=["none", "one", "alike", "other", "mixed"],
)
def test_the_exit_code(failures: tuple[Failure, ...], code: int) -> None:
    assert report(*failures).exit_code == code
    assert report(*failures).to_json()["exitCode"] == code


def test_a_run_that_was_stopped_is_not_done() -> None:
    assert report(stopped=True).exit_code == 1


@given(st.lists(st.tuples(st.sampled_from(TagOutcome), st.integers(0, 9)), max_size=30))
def test_totals_are_the_sums(tags: list[tuple[TagOutcome, int]]) -> None:
    collector = Collector("job", SyncProgress())
    for outcome, count in tags:
        collector.add(tag(outcome, Moved(*([count] * 6))))
    totals = collector.totals(Moved(requests=7))
    assert sum(totals.tags.values()) == len(tags)
    for outcome in TagOutcome:
        assert totals.tags[outcome.value] == sum(each is outcome for each, _ in tags)
    whole = sum(count for _, count in tags)
    assert totals.moved == Moved(whole, whole, whole, whole, whole + 7, whole)
    assert Totals.sum([totals, totals]).moved == totals.moved + totals.moved


def test_what_is_reported_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_TAGS_REPORTED", 3)
    monkeypatch.setattr(limits, "SYNC_FAILURES_REPORTED", 2)
    collector = Collector("job", SyncProgress())
    for _ in range(5):
        collector.add(tag(TagOutcome.UNCHANGED))
    for _ in range(4):
        collector.add(tag(TagOutcome.FAILED, failure=NETWORK))
    totals = collector.totals(Moved())
    assert (totals.tags["unchanged"], totals.tags["failed"]) == (5, 4)
    assert len(collector.failures) == 2
    assert len(collector.tags) + collector.omitted == 9
    assert len(collector.tags) == 5
