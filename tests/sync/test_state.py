"""What a job keeps between runs: written, read again, damaged in every way."""

from __future__ import annotations

import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import Busy
from bridge.sync.model import Conversion, Job, Kind, Place
from bridge.sync.state import State, Written, file_name, locked

JOB = Job("nightly", Place(Kind.REPOSITORY, "a.example/x"), Place(Kind.REPOSITORY, "b.example/x"))
ONE = Written("os/a", "v1", "v1", "sha256:1", "sha256:2", 2, ("sha256:3", "sha256:4"))


def opened(directory: Path, job: Job = JOB, **more: Any) -> tuple[State, list[str]]:
    told: list[str] = []
    return State.open(str(directory), job, told.append, **more), told


def known(directory: Path, job: Job = JOB) -> Written | None:
    state, _ = opened(directory, job)
    found = state.tag("os/a", "v1")
    state.close()
    return None if found is None else replace(found, at=0)


def test_what_was_written_is_known_the_next_time(tmp_path: Path) -> None:
    state, told = opened(tmp_path)
    assert state.tag("os/a", "v1") is None
    state.put(ONE)
    state.put(replace(ONE, tag="v2", wrote=0, below=()))
    state.put_converted("sha256:1", b"{}\xff", "application/json")
    state.put_layer("sha256:5", "[1]")
    state.close()
    assert known(tmp_path) == ONE
    state, told = opened(tmp_path)
    assert set(state.tags("os/a")) == {"v1", "v2"}
    assert state.repositories() == ["os/a"]
    assert state.converted("sha256:1") == (b"{}\xff", "application/json")
    assert state.layer("sha256:5") == "[1]"
    assert state.converted("sha256:9") is state.layer("sha256:9") is None
    state.forget("os/a", "v1")
    assert state.tag("os/a", "v1") is None
    assert told == []


@pytest.mark.parametrize(
    "changed",
    [
        replace(JOB, name="other"),
        replace(JOB, source=Place(Kind.REPOSITORY, "c.example/x")),
        replace(JOB, target=Place(Kind.REPOSITORY, "c.example/x")),
        replace(JOB, conversion=Conversion()),
        replace(JOB, conversion=Conversion(level=3)),
        replace(JOB, platforms=("linux/amd64",)),
        replace(JOB, suffix="-copy"),
    ],
    ids=["name", "source", "target", "conversion", "level", "platforms", "suffix"],
)
def test_a_job_that_writes_something_else_begins_anew(tmp_path: Path, changed: Job) -> None:
    state, _ = opened(tmp_path)
    state.put(ONE)
    state.close()
    assert known(tmp_path, changed) is None
    assert known(tmp_path, replace(JOB, parallel=3, fast_check=True)) == ONE


@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", "ä" * 300, "", "x\0y"])
def test_a_name_is_no_path(name: str) -> None:
    found = file_name(replace(JOB, name=name))
    assert "/" not in found
    assert "\0" not in found
    assert not found.startswith(".")
    assert len(found) < 100


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    state, _ = opened(tmp_path / "none", dry=True)
    assert state.tag("os/a", "v1") is None
    state.put(ONE)
    assert not (tmp_path / "none").exists()


def damaged(path: Path, how: str) -> None:
    if how == "version":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        return
    if how == "columns":
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE layers")
            connection.execute("CREATE TABLE layers (x)")
        return
    if how == "foreign":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE other (x)")
        return
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "noise": b"\x55" * 5000,
            "cut": data[: len(data) // 2],
            "header": b"X" + data[1:],
        }[how]
    )


@pytest.mark.parametrize("how", ["version", "foreign", "noise", "cut", "header"])
def test_a_damaged_one_counts_as_empty(tmp_path: Path, how: str) -> None:
    state, _ = opened(tmp_path)
    for number in range(200):
        state.put(replace(ONE, tag=f"v{number}"))
    state.close()
    damaged(tmp_path / file_name(JOB), how)
    state, told = opened(tmp_path)
    found = state.tags("os/a")
    assert found == {} or state.broken
    assert told or state.broken
    state.put(ONE)
    state.close()


def test_a_row_that_was_changed_is_none(tmp_path: Path) -> None:
    state, _ = opened(tmp_path)
    state.put(ONE)
    state.put_converted("sha256:1", b"{}", "x")
    state.put_layer("sha256:1", "[]")
    state.close()
    with sqlite3.connect(tmp_path / file_name(JOB)) as connection:
        connection.execute("UPDATE tags SET wrote = 1")
        connection.execute("UPDATE converted SET document = x'00'")
        connection.execute("UPDATE layers SET packed = '[2]'")
    state, told = opened(tmp_path)
    assert state.tags("os/a") == {}
    assert state.converted("sha256:1") is state.layer("sha256:1") is None
    assert told == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.binary(min_size=1, max_size=64))
def test_no_damage_is_an_error(at: int, noise: bytes) -> None:
    """Whatever bytes are wrong: what is told is what was written, or nothing."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        state, _ = opened(directory)
        for number in range(50):
            state.put(replace(ONE, tag=f"v{number}"))
        state.close()
        path = directory / file_name(JOB)
        data = bytearray(path.read_bytes())
        place = at % len(data)
        data[place : place + len(noise)] = noise
        path.write_bytes(data)
        state, _ = opened(directory)
        for tag, found in state.tags("os/a").items():
            assert replace(found, at=0) == replace(ONE, tag=tag)
        state.close()


def hold(directory: str, shard: tuple[int, int] | None, ready: Any, done: Any) -> None:
    with locked(directory, JOB, shard):
        ready.set()
        done.wait(60)


@pytest.mark.parametrize(
    ("other", "free"), [(None, False), ((0, 2), True)], ids=["same", "another-shard"]
)
def test_one_run_of_a_job_at_once(tmp_path: Path, other: Any, *, free: bool) -> None:
    spawned = multiprocessing.get_context("fork")
    ready, done = spawned.Event(), spawned.Event()
    process = spawned.Process(target=hold, args=(str(tmp_path), None, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        if free:
            with locked(str(tmp_path), JOB, other):
                pass
        else:
            with pytest.raises(Busy, match="nightly"), locked(str(tmp_path), JOB, other):
                pass
    finally:
        done.set()
        process.join()
    with locked(str(tmp_path), JOB, None):
        pass
