"""Many images of one place: what one brings the others wait for, and what fails is begun anew."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from bridge import limits
from bridge.errors import BridgeError, NetworkError, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.push.copy import copied
from bridge.push.shared import Ledger, SharedDestination
from bridge.registry.body import Arriving
from bridge.registry.meter import Meter
from bridge.registry.outcome import Outcome

DATA = os.urandom(600_000)
BLOB = Descriptor("application/x", Digest.of(DATA), len(DATA))


class Place:
    """A repository that keeps what it is given, and lends it."""

    def __init__(self, lends: dict[str, set[Digest]], name: str, piece: int | None = None) -> None:
        self.meter = Meter()
        self.piece = piece
        self.asked: list[str] = []
        self.content: dict[Digest, bytes] = {}
        self._lends = lends
        self._name = name
        lends.setdefault(name, set())

    def has(self, digest: Digest, size: int) -> Outcome | None:
        self.asked.append("has")
        return Outcome.SKIPPED if digest in self._lends[self._name] else None

    def borrow(self, digest: Digest, lender: str) -> bool:
        self.asked.append(f"borrow {lender}")
        if digest not in self._lends.get(lender, ()):
            return False
        self._lends[self._name].add(digest)
        return True

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        self.asked.append("put")
        if arriving is not None:
            for end in range(100_000, size, 100_000):
                arriving.upto(end)
                assert os.fstat(fd).st_size >= end
            arriving.whole()
        self.content[digest] = os.pread(fd, size, 0)
        self._lends[self._name].add(digest)
        return Outcome.PUSHED

    def gave_up(self, digest: Digest) -> None:
        self.asked.append("gave up")

    def write(self, document: bytes, media_type: str) -> Digest:
        self.asked.append("write")
        return Digest.of(document)

    attach = write

    def finish(self, document: bytes, media_type: str, tags: Any = ()) -> Digest:
        return Digest.of(document)


class Begin:
    """A source of one blob, which it may give wrongly at first."""

    overlaps = True
    has_files = False

    def __init__(self, *contents: bytes | BridgeError) -> None:
        self.fetched = 0
        self.begun = threading.Event()
        self.waits: threading.Event | None = None
        self._contents = list(contents) or [DATA]

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        self.fetched += 1
        self.begun.set()
        content = self._contents.pop(0) if len(self._contents) > 1 else self._contents[0]
        if self.waits is not None:
            assert self.waits.wait(60)
        if isinstance(content, BridgeError):
            raise content
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    def file(self, descriptor: Descriptor) -> None:
        return None

    def distrust(self, descriptor: Descriptor) -> bool:
        return len(self._contents) > 1 or (self.fetched == 1 and self._contents[0] == DATA)


def bring(source: Begin, place: SharedDestination | Place) -> Outcome:
    return copied(source, place, BLOB, lambda: None).outcome  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", [None, 1000], ids=["whole", "while-it-comes"])
def test_a_blob_comes_once_for_all_that_want_it(piece: int | None) -> None:
    lends: dict[str, set[Digest]] = {}
    ledger, source = Ledger(), Begin()
    source.waits = threading.Event()
    places = [Place(lends, f"r{n % 3}", piece) for n in range(9)]
    shared = [SharedDestination(place, ledger, f"r{n % 3}") for n, place in enumerate(places)]
    with ThreadPoolExecutor(9) as pool:
        done = [pool.submit(bring, source, each) for each in shared]
        source.waits.set()
        outcomes = [each.result() for each in done]
    assert source.fetched == 1
    assert outcomes.count(Outcome.PUSHED) == 1
    assert outcomes.count(Outcome.MOUNTED) == 2
    assert outcomes.count(Outcome.SKIPPED) == 6
    assert [place.content for place in places if place.content] == [{BLOB.digest: DATA}]


def test_what_is_known_is_not_asked_for() -> None:
    lends: dict[str, set[Digest]] = {}
    ledger = Ledger()
    place = Place(lends, "a")
    for expected in (Outcome.PUSHED, Outcome.SKIPPED, Outcome.SKIPPED):
        assert bring(Begin(), SharedDestination(place, ledger, "a")) is expected
    assert place.asked == ["has", "put"]
    other = Place(lends, "b")
    assert bring(Begin(), SharedDestination(other, ledger, "b")) is Outcome.MOUNTED
    assert other.asked == ["borrow a"]


def test_one_that_will_not_lend_is_sent_to() -> None:
    ledger = Ledger()
    bring(Begin(), SharedDestination(Place({}, "a"), ledger, "a"))
    other = Place({}, "b")
    assert bring(Begin(), SharedDestination(other, ledger, "b", ("c",))) is Outcome.PUSHED
    assert other.asked == ["borrow a", "has", "borrow c", "put"]


@pytest.mark.parametrize("piece", [None, 1000], ids=["whole", "while-it-comes"])
def test_who_waits_goes_on_where_another_failed(piece: int | None) -> None:
    lends: dict[str, set[Digest]] = {}
    ledger = Ledger()
    bad, good = Begin(NetworkError("broken")), Begin()
    bad.waits = threading.Event()
    one = SharedDestination(Place(lends, "a", piece), ledger, "a")
    two = SharedDestination(Place(lends, "b", piece), ledger, "b")
    with ThreadPoolExecutor(2) as pool:
        failing = pool.submit(bring, bad, one)
        assert bad.begun.wait(60)
        waiting = pool.submit(bring, good, two)
        bad.waits.set()
        with pytest.raises(NetworkError, match="broken"):
            failing.result()
        assert waiting.result() is Outcome.PUSHED


def test_waiting_ends_when_the_run_does() -> None:
    stop = threading.Event()
    ledger = Ledger(stop.is_set)
    assert ledger.claim("x", "a") == ()
    stop.set()
    with pytest.raises(BridgeError, match="stopped"):
        ledger.claim("x", "b")


def test_documents_are_written_once() -> None:
    place, ledger = Place({}, "a"), Ledger()
    for _ in range(3):
        SharedDestination(place, ledger, "a").write(b"{}", "x")
    assert place.asked == ["write"]


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_BLOBS_KNOWN", 3)
    ledger = Ledger()
    for number in range(5):
        ledger.learn(f"{number}", "a")
    assert [ledger.has(f"{number}", "a") for number in range(5)] == [False, False, True, True, True]


# -- blobs that go on while they come --------------------------------------------------------------

WRONG = bytes(len(DATA))


@pytest.mark.parametrize("content", [WRONG, DATA[:-1], DATA + b"x"], ids=["other", "short", "long"])
def test_what_is_wrong_never_is_a_blob(content: bytes) -> None:
    place = Place({}, "a", 1000)
    with pytest.raises(VerificationFailed):
        bring(Begin(content), place)
    assert place.content == {}
    assert place.asked[-1] == "gave up"


def test_it_is_fetched_anew_where_that_may_bring_others() -> None:
    source, place = Begin(WRONG, DATA), Place({}, "a", 1000)
    assert bring(source, place) is Outcome.PUSHED
    assert source.fetched == 2
    assert place.content == {BLOB.digest: DATA}


def test_a_failure_of_the_place_ends_the_reading() -> None:
    class Full(Place):
        def put(self, *arguments: Any, **more: Any) -> Outcome:
            raise NetworkError("full")

    before = threading.active_count()
    with pytest.raises(NetworkError, match="full"):
        bring(Begin(), Full({}, "a", 1000))
    assert threading.active_count() == before


def test_nothing_is_left_open() -> None:
    with closing(tempfile.TemporaryFile()):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            bring(Begin(), Place({}, "a", 1000))
        assert len(os.listdir("/proc/self/fd")) == before
