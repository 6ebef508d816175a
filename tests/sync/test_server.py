"""The server's loop, step by step: the clock, the file and the jobs are the tests' own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.sync import job_report, report, tag_report

from bridge.errors import NetworkError, UsageError
from bridge.sync import history
from bridge.sync.endpoint import Request
from bridge.sync.metrics import OPEN_METRICS, TEXT
from bridge.sync.model import Config, Job, Kind, Names, Place, Schedule, TagSet
from bridge.sync.report import Failure, Moved, SyncReport
from bridge.sync.server import LOOK_EVERY, Server, World

NOW = 1_800_000_000.0


def job(name: str, interval: float | None = 600.0) -> Job:
    place = Place(Kind.REPOSITORY, "registry.example/a")
    return Job(name, place, place, schedule=Schedule(interval=interval))


@dataclass
class Rig:
    """A world that stands still until a test moves it."""

    config: Config | Exception
    state: Path
    now: float = NOW
    version: int = 0
    lines: list[str] = field(default_factory=list)
    ran: list[tuple[Config, tuple[str, ...]]] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    outcome: Callable[[str, threading.Event], SyncReport] = field(
        default=lambda name, stop: report([job_report(name, stopped_by(stop))])
    )

    def load(self) -> Config:
        if isinstance(self.config, Exception):
            raise self.config
        return self.config

    def run(self, config: Config, jobs: Collection[str], stop: threading.Event, /) -> SyncReport:
        self.ran.append((config, tuple(jobs)))
        (name,) = jobs
        return self.outcome(name, stop)

    def server(self, *, at_once: bool = False) -> Server:
        world = World(
            load=self.load,
            fingerprint=lambda: self.version,
            run=self.run,
            next_time=lambda expression, after: None,
            chance=lambda: 0.0,
            log=self.lines.append,
            clock=lambda: self.now,
            spawn=lambda work, name: self.waiting.append(work),
        )
        return Server(world, str(self.state), "sync.yaml", at_once=at_once)

    def finish(self) -> None:
        """Lets the jobs end that were begun."""
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()

    @property
    def names(self) -> list[str]:
        return [jobs[0] for _, jobs in self.ran]


def stopped_by(stop: threading.Event) -> list[object]:
    assert not stop.is_set()
    return []


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(Config((job("a"), job("b", 900.0), job("never", None))), tmp_path)


def metrics(server: Server) -> dict[str, float]:
    """Each number by its name and labels, without the prefix."""
    text = server.pages()["/metrics"](Request("/metrics")).body
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.removeprefix("bootc_py_sync_")] = float(value)
    return found


def test_jobs_begin_at_their_times(rig: Rig) -> None:
    server = rig.server()
    assert server.step() == LOOK_EVERY
    rig.finish()
    assert rig.names == ["a", "b"]
    rig.now = NOW + 599.5
    assert server.step() == 0.5
    rig.now = NOW + 600
    server.step()
    rig.finish()
    rig.now = NOW + 900
    server.step()
    rig.finish()
    assert rig.names == ["a", "b", "a", "b"]
    assert [run.jobs[0].name for run in history.read(str(rig.state))] == ["a", "b", "a", "b"]


def test_a_job_does_not_overlap_with_itself(rig: Rig) -> None:
    server = rig.server()
    server.step()
    slow, quick = rig.waiting
    rig.waiting = []
    quick()
    for late in (600, 900, 1_200):
        rig.now = NOW + late
        server.step()
        rig.finish()
    assert rig.names == ["b", "b"]
    assert metrics(server)['runs_skipped_total{job="a"}'] == 2
    assert metrics(server)['running{job="a"}'] == 1
    slow()
    assert metrics(server)['running{job="a"}'] == 0
    rig.now = NOW + 1_800
    server.step()
    rig.finish()
    assert rig.names == ["b", "b", "a", "a", "b"]


def test_what_is_selected_is_what_the_file_says_each_time(rig: Rig) -> None:
    """A run gets the job as it is configured then, filters and all, however often it ran."""
    wanted = Names(allow=(lambda tag: tag.startswith("v1"),))
    rig.config = Config((replace(job("a"), tags=(TagSet(wanted, newest=3),)),))
    server = rig.server()
    for number in range(20):
        rig.now = NOW + number * 600
        server.step()
        rig.finish()
    assert [config.jobs[0].tags for config, _ in rig.ran] == [(TagSet(wanted, newest=3),)] * 20
    rig.config, rig.version = Config((replace(job("a"), tags=(TagSet(newest=1),)),)), 1
    rig.now = NOW + 20 * 600
    server.step()
    rig.finish()
    assert rig.ran[-1][0].jobs[0].tags == (TagSet(newest=1),)


def test_failures_of_one_job_are_no_other_ones(rig: Rig) -> None:
    def outcome(name: str, stop: threading.Event) -> SyncReport:
        if name == "a":
            raise NetworkError("asking registry.example: it is gone")
        if name == "b":
            raise ZeroDivisionError
        return report([job_report(name, failures=[Failure("x:y", "401", 3)])])

    rig.config = Config((job("a"), job("b"), job("c")))
    rig.outcome = outcome
    server = rig.server()
    for late in (0, 600):
        rig.now = NOW + late
        server.step()
        rig.finish()
    assert rig.names == ["a", "b", "c"] * 2
    assert "a: asking registry.example: it is gone" in rig.lines
    assert any("b: a defect:" in line and "ZeroDivisionError" in line for line in rig.lines)
    found = metrics(server)
    for name in "abc":
        assert found[f'runs_total{{job="{name}",result="failure"}}'] == 2
        assert found[f'runs_total{{job="{name}",result="success"}}'] == 0
        assert found[f'last_failures{{job="{name}"}}'] == 1
        assert f'last_success_timestamp_seconds{{job="{name}"}}' not in found


def test_a_new_file_is_taken(rig: Rig) -> None:
    server = rig.server()
    server.step()
    rig.finish()
    rig.config, rig.version = Config((job("a"), job("new"))), 1
    rig.now = NOW + 10
    server.step()
    rig.finish()
    assert rig.names == ["a", "b", "new"]
    found = metrics(server)
    assert found['next_run_timestamp_seconds{job="a"}'] == NOW + 600
    assert found["config_last_reload_success_timestamp_seconds"] == NOW + 10
    assert not any('job="b"' in name for name in found)
    assert "took the new configuration: 2 jobs" in rig.lines


def test_a_broken_file_leaves_the_old_one_in_force(rig: Rig) -> None:
    server = rig.server()
    good = rig.config
    rig.config, rig.version = UsageError("sync.yaml:3: unknown key 'jbos'"), 1
    server.step()
    rig.finish()
    assert rig.names == ["a", "b"] and server.config is good
    assert metrics(server)["config_last_reload_successful"] == 0
    health = server.pages()["/healthz"](Request("/healthz"))
    assert health.status == 200
    assert json.loads(health.body)["configuration"] == {
        "inForce": False,
        "error": "sync.yaml:3: unknown key 'jbos'",
    }
    assert rig.lines[0] == "the configuration stays as it was: sync.yaml:3: unknown key 'jbos'"
    said = len(rig.lines)
    server.step()  # it is told once
    assert len(rig.lines) == said
    rig.config, rig.version = good, 2
    server.step()
    assert metrics(server)["config_last_reload_successful"] == 1
    health = server.pages()["/healthz"](Request("/healthz"))
    assert json.loads(health.body)["configuration"] == {"inForce": True, "error": None}


def test_a_reload_that_is_asked_for(rig: Rig) -> None:
    server = rig.server()
    server.step()
    rig.config = Config((job("c"),))
    server.step()
    assert len(rig.waiting) == 2
    server.reload()
    server.step()
    assert len(rig.waiting) == 3


def test_a_run_goes_on_with_the_configuration_it_began_with(rig: Rig) -> None:
    old = rig.config
    server = rig.server()
    server.step()
    rig.config, rig.version = Config((job("b"),)), 1
    server.step()
    rig.finish()
    assert [config is old for config, _ in rig.ran] == [True, True]
    assert not any('job="a"' in name for name in metrics(server))
    assert metrics(server)['runs_total{job="b",result="success"}'] == 1


def test_the_first_configuration_has_to_be_good(rig: Rig) -> None:
    rig.config = UsageError("sync.yaml:1: it is empty")
    with pytest.raises(UsageError, match="it is empty"):
        rig.server()


def test_what_is_counted(rig: Rig) -> None:
    tags = [tag_report("r", "t", Moved(10, 20, 30, 40, 5, 1)), tag_report("r", "u")]
    rig.outcome = lambda name, stop: report([job_report(name, tags, seconds=2.5)])
    server = rig.server()
    before = metrics(server)
    assert before['moved_bytes_total{job="a"}'] == 0
    assert before['tags_total{job="a",outcome="copied"}'] == 0
    for late in (0, 600):
        rig.now = NOW + late
        server.step()
        rig.finish()
    found = metrics(server)
    wanted = {
        "moved_bytes_total": 20,
        "reused_bytes_total": 40,
        "mounted_bytes_total": 60,
        "received_bytes_total": 80,
        "requests_total": 10,
        "retries_total": 2,
        "last_duration_seconds": 2.5,
        "last_success_timestamp_seconds": NOW + 600,
        "last_run_timestamp_seconds": NOW + 600,
        "next_run_timestamp_seconds": NOW + 1200,
        "running": 0,
        "last_failures": 0,
    }
    assert {name: found[f'{name}{{job="a"}}'] for name in wanted} == wanted
    assert found['tags_total{job="a",outcome="copied"}'] == 4
    assert found["start_time_seconds"] == NOW


def test_both_formats(rig: Rig) -> None:
    page = rig.server().pages()["/metrics"]
    assert page(Request("/metrics")).content_type == TEXT
    found = page(Request("/metrics", "application/openmetrics-text"))
    assert found.content_type == OPEN_METRICS and found.body.endswith("\n# EOF\n")


def test_a_server_that_comes_back_knows_what_ran(rig: Rig) -> None:
    runs = {"a": "2027-01-15T07:55:00Z", "b": "2027-01-15T07:40:00Z"}  # 5 and 20 minutes ago
    for name, started in runs.items():
        history.append(str(rig.state), report([job_report(name)], started=started), "once")
    server = rig.server()
    found = metrics(server)
    assert found['next_run_timestamp_seconds{job="a"}'] == NOW + 300
    assert found['next_run_timestamp_seconds{job="b"}'] == NOW
    assert found['last_success_timestamp_seconds{job="a"}'] == NOW - 299
    assert found['last_duration_seconds{job="a"}'] == 1


def test_runs_of_another_configuration_are_no_concern(rig: Rig) -> None:
    run = report([job_report("a")], started="2027-01-15T07:55:00Z")
    history.append(str(rig.state), replace(run, config="other.yaml"), "once")
    assert metrics(rig.server())['next_run_timestamp_seconds{job="a"}'] == NOW


def test_a_run_that_was_stopped_is_gone_on_with(rig: Rig) -> None:
    stopped = report([job_report("a")], started="2027-01-15T07:55:00Z", stopped=True)
    history.append(str(rig.state), stopped, "schedule")
    assert metrics(rig.server())['next_run_timestamp_seconds{job="a"}'] == NOW


def test_all_at_once(rig: Rig) -> None:
    history.append(
        str(rig.state), report([job_report("a")], started="2027-01-15T07:55:00Z"), "once"
    )
    rig.server(at_once=True).step()
    rig.finish()
    assert sorted(rig.names) == ["a", "b"]


def test_nothing_begins_once_it_was_stopped(rig: Rig) -> None:
    server = rig.server()
    pages = server.pages()
    assert pages["/readyz"](Request("/readyz")).status == 200
    server.stop()
    server.step()
    assert rig.waiting == []
    assert pages["/readyz"](Request("/readyz")).status == 503
    assert pages["/healthz"](Request("/healthz")).status == 200


def test_a_loop_that_hangs_is_not_healthy(rig: Rig) -> None:
    server = rig.server()
    server.step()
    rig.now = NOW + 61
    assert server.pages()["/healthz"](Request("/healthz")).status == 503


def test_it_serves_until_it_is_stopped(rig: Rig) -> None:
    """With threads: jobs under way are told, and waited for."""
    begun, ended = threading.Event(), threading.Event()

    def outcome(name: str, stop: threading.Event) -> SyncReport:
        begun.set()
        assert stop.wait(60)
        ended.set()
        return report([job_report(name)], stopped=True)

    rig.config, rig.outcome = Config((job("a"),)), outcome
    server = rig.server()
    server._world = replace(server._world, spawn=World.__dataclass_fields__["spawn"].default)
    serving = threading.Thread(target=server.serve)
    serving.start()
    assert begun.wait(60)
    server.stop()
    serving.join(60)
    assert ended.is_set() and not serving.is_alive()
    assert metrics(server)['runs_total{job="a",result="stopped"}'] == 1
