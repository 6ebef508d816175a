"""What is kept of runs, and what is read of a file that may hold anything."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sync import job_report, report, tag_report

from bridge import limits
from bridge.errors import BridgeError
from bridge.sync import history
from bridge.sync.report import Failure, Moved


def test_a_run_and_what_is_read_of_it(tmp_path: Path) -> None:
    tags = [
        tag_report("a/b", f"v{number}", Moved(sent=number * 100), float(30 - number))
        for number in range(30)
    ]
    failure = Failure("a/c", "listing the tags of a/c: 401 \ud800", 3)
    job = job_report("nightly", tags, [failure], Moved(5, 6, 7, 8, 9, 1), 12.5)
    history.append(str(tmp_path), report([job], shard=(1, 4)), "once")
    (run,) = history.read(str(tmp_path))
    assert (run.trigger, run.shard, run.exit_code, run.stopped) == ("once", "1/4", 3, False)
    (found,) = run.jobs
    assert found.totals.moved == run.moved == Moved(5, 6, 7, 8, 9, 1)
    assert found.seconds == 12.5
    assert found.totals.tags["copied"] == 30 and found.totals.tags["unchanged"] == 0
    assert [each.name for each in found.largest[:2]] == ["a/b:v29", "a/b:v28"]
    assert [each.name for each in found.slowest[:2]] == ["a/b:v0", "a/b:v1"]
    assert len(found.largest) == len(found.slowest) == 20
    assert found.failures == (("a/c", "listing the tags of a/c: 401 ?"),) and found.failed == 1
    kept = json.loads((tmp_path / history.FILE).read_text())
    assert run.to_json().items() <= kept.items()


def test_runs_are_in_their_order_and_bounded(tmp_path: Path) -> None:
    for number in range(5):
        history.append(str(tmp_path), report([], started=f"2026-01-0{number + 1}T"), "schedule")
    assert [run.started[9] for run in history.read(str(tmp_path))] == list("12345")
    assert [run.started[9] for run in history.read(str(tmp_path), 2)] == list("45")


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_HISTORY_MAX", 10_000)
    for number in range(100):
        history.append(str(tmp_path), report([job_report(f"job {number}")]), "schedule")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["history.jsonl", "history.jsonl.1", "history.jsonl.lock"]
    sizes = [(tmp_path / name).stat().st_size for name in names[:2]]
    assert max(sizes) < 10_000 and sum(sizes) > 10_000
    found = [run.jobs[0].name for run in history.read(str(tmp_path))]
    assert found == [f"job {number}" for number in range(100 - len(found), 100)]


def test_a_line_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = [tag_report("r" * 200, f"t{number}", Moved(sent=1)) for number in range(40)]
    failures = [Failure("w" * 9_999, "e" * 9_999, 1)] * 40
    jobs = [job_report(f"j{number}", tags, failures) for number in range(40)]
    for most, jobs_left in ((limits.SYNC_RECORD_MAX, 40), (60_000, 40), (2_000, 0)):
        monkeypatch.setattr(limits, "SYNC_RECORD_MAX", most)
        history.append(str(tmp_path), report(jobs), "schedule")
        line = (tmp_path / history.FILE).read_bytes().splitlines()[-1]
        assert len(line) < most
        run = history.parse(line)
        assert run is not None and len(run.jobs) == jobs_left
        assert json.loads(line)["totals"]["tags"]["copied"] == 1600


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    history.append(str(tmp_path), report([], started="2026-01-01T00:00:00Z"), "once")
    file = tmp_path / history.FILE
    file.write_bytes(file.read_bytes() + file.read_bytes()[:50])
    history.append(str(tmp_path), report([], started="2026-01-02T00:00:00Z"), "once")
    assert [run.started[:10] for run in history.read(str(tmp_path))] == ["2026-01-01", "2026-01-02"]


def _append(directory: str, number: int) -> None:
    for each in range(20):
        history.append(directory, report([job_report(f"{number}-{each}")]), "once")


def test_several_processes_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(str(tmp_path), each)) for each in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    found = [run.jobs[0].name for run in history.read(str(tmp_path))]
    assert sorted(found) == sorted(f"{a}-{b}" for a in range(4) for b in range(20))


def test_there_is_none(tmp_path: Path) -> None:
    assert history.read(str(tmp_path)) == []
    assert history.read(str(tmp_path / "nowhere")) == []
    (tmp_path / "file").touch()
    with pytest.raises(BridgeError, match=r"reading .*/file/history\.jsonl"):
        history.read(str(tmp_path / "file"))
    with pytest.raises(BridgeError, match=r"adding to .*/nowhere/history\.jsonl"):
        history.append(str(tmp_path / "nowhere"), report([]), "once")


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "real").write_text(history._line(report([]), "once") + "\n")
    place = tmp_path / history.FILE
    if kind == "link":
        place.symlink_to("real")
    elif kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    assert history.read(str(tmp_path)) == []


GOOD = json.loads(history._line(report([job_report("a", [tag_report("r", "t")])]), "once"))
BAD = {
    "no JSON": b"{",
    "no object": b"[]",
    "nothing": b"",
    "another kind": json.dumps(GOOD | {"kind": "SyncReport"}).encode(),
    "no kind": json.dumps({k: v for k, v in GOOD.items() if k != "kind"}).encode(),
    "jobs that are none": json.dumps(GOOD | {"jobs": [3]}).encode(),
    "jobs that are a text": json.dumps(GOOD | {"jobs": "ab"}).encode(),
    "negative seconds": json.dumps(GOOD | {"seconds": -1}).encode(),
    "endless seconds": json.dumps(GOOD | {"seconds": 1e300}).encode(),
    "a truth for a code": json.dumps(GOOD | {"exitCode": True}).encode(),
    "a name that is a number": json.dumps(GOOD | {"config": 1}).encode(),
    "NaN": json.dumps(GOOD | {"seconds": float("nan")}).encode(),
    "a huge count": json.dumps(GOOD | {"exitCode": 1 << 64}).encode(),
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_record(case: str) -> None:
    assert history.parse(json.dumps(GOOD).encode()) is not None
    assert history.parse(BAD[case]) is None


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.sampled_from([*GOOD, *GOOD["jobs"][0]]), each),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_is_read_without_harm(line: bytes) -> None:
    history.parse(line)
