"""`bootc-py sync`: words, tables, lines and pages; what jobs do is in tests/sync and
registry-tests."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.images import file, image, write_layout
from support.sync import job_report, report, tag_report

from bridge.cli import sync_text
from bridge.cli.sync_page import render
from bridge.cli.sync_progress import SyncLines
from bridge.sync import history
from bridge.sync.report import Failure, Moved, TagOutcome

HOSTILE = '</title><script>x</script>"\u202e\x1b[31m\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A job between two layouts: no registry."""
    made = image([file("usr/a", b"a" * 1000)], [file("usr/b", b"b")])
    write_layout(tmp_path / "source", {"v1": made, "v2": made})
    path = tmp_path / "sync.yaml"
    path.write_text(
        "version: 1\njobs:\n- name: mirror\n  source: oci:source\n  target: oci:target\n"
    )
    return path


def test_a_run_and_what_is_kept_of_it(run: Any, config: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    check = run("sync", "check", config, "--state", state)
    assert check.code == 0 and not (tmp_path / "target").exists() and not state.exists()
    assert [line.split()[0] for line in check.out.splitlines()[:2]] == ["would-copy"] * 2
    first = run("sync", "once", config, "--state", state)
    assert first.code == 0, first.err
    assert first.out.splitlines()[0].split()[:4] == ["JOB", "COPIED", "UNCHANGED", "FAILED"]
    assert first.out.splitlines()[1].split()[:4] == ["mirror", "2", "0", "0"]
    assert "mirror: " in first.err and ":v1: copied" in first.err
    again = run("sync", "once", config, "--state", state, "--json", "--quiet")
    document = json.loads(again.out)
    assert document["kind"] == "SyncReport" and document["totals"]["tags"]["unchanged"] == 2
    assert again.err == ""
    page = tmp_path / "page.html"
    drawn = run("sync", "report", "--state", state, "-o", page)
    assert drawn.code == 0 and "2 runs" in drawn.out
    assert "mirror" in page.read_text()
    runs = json.loads(run("sync", "report", "--state", state, "--json").out)["runs"]
    assert [each["jobs"][0]["totals"]["tags"]["copied"] for each in runs] == [2, 0]


def test_failures_are_listed_and_one_line_is_the_error(
    run: Any, config: Path, tmp_path: Path
) -> None:
    text = config.read_text()
    config.write_text(f"{text}- name: other\n  source: oci:nowhere\n  target: oci:elsewhere\n")
    done = run("sync", "once", config, "--state", tmp_path / "state")
    assert done.code == 4
    lines = done.err.splitlines()
    assert any(line.startswith("failed: other: ") for line in lines)
    assert [line for line in lines if line.startswith("error:")] == lines[-1:]
    assert lines[-1].endswith("1 failure in " + str(config) + ", listed above; all else is done")
    only = run("sync", "once", config, "--state", tmp_path / "state", "--job", "mirror")
    assert only.code == 0


WRONG = {
    "no such job": ("once", "CONFIG", "--job", "other"),
    "no such file": ("once", "nowhere.yaml"),
    "a destination": ("once", "CONFIG", "--dest", "quay.io/a/"),
    "a shard": ("once", "CONFIG", "--shard", "4/4"),
    "no schedule": ("server", "CONFIG"),
    "no page": ("report",),
    "no verb": (),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words(run: Any, config: Path, case: str) -> None:
    done = run("sync", *(str(config) if word == "CONFIG" else word for word in WRONG[case]))
    assert (done.code, done.out) == (2, "") and done.error


def test_a_file_with_mistakes_names_their_lines(run: Any, config: Path) -> None:
    config.write_text(config.read_text() + "  sorce: x\n")
    done = run("sync", "once", config)
    assert done.code == 2 and f"{config}:6" in done.err


def test_the_table() -> None:
    tags = [
        tag_report("r", "t", Moved(sent=1_234_567, reused=5, requests=1_000)),
        tag_report("r", "u"),
    ]
    jobs = [job_report("nightly", tags), job_report("b", seconds=12.0)]
    assert sync_text.table(report(jobs)).splitlines() == [
        "JOB      COPIED  UNCHANGED  FAILED   MOVED  REUSED  MOUNTED  REQUESTS  RETRIES  SECONDS",
        "nightly       2          0       0  1.2 MB     5 B      0 B     1,000        0      1.0",
        "b             0          0       0     0 B     0 B      0 B         0        0     12.0",
        "total: 1,234,567 bytes moved, 5 reused, 0 mounted, 0 received; 1,000 requests, 0 retries; "
        "13.0 s",
    ]
    dry = report([job_report("a", [tag_report("r", "t", outcome=TagOutcome.WOULD_COPY)])], dry=True)
    assert "WOULD-COPY" in sync_text.table(dry) and "bytes would be moved" in sync_text.table(dry)
    assert len(list(sync_text.changes(dry))) == 1


def test_names_do_nothing_to_a_terminal() -> None:
    failure = Failure(HOSTILE, HOSTILE, 1)
    found = report([job_report(HOSTILE, [tag_report(HOSTILE, HOSTILE)], [failure])])
    said: list[str] = []
    lines = SyncLines(said.append)
    lines.tag(HOSTILE, found.jobs[0].tags[0])
    lines.failed(HOSTILE, failure)
    lines.message(HOSTILE)
    texts = [sync_text.table(found), *sync_text.changes(found), *sync_text.failures(found), *said]
    assert len(said) == 3
    assert all(line.isprintable() for text in texts for line in text.split("\n"))


def test_a_line_for_what_changes_and_few_for_what_does_not() -> None:
    now, said = [0.0], []
    lines = SyncLines(said.append, clock=lambda: now[0])
    for _ in range(500):
        now[0] += 0.125
        lines.tag("a", tag_report("r", "t", outcome=TagOutcome.UNCHANGED))
    assert len(said) == 6 and said[-1] == "a: 480 tags looked at"
    lines.tag("a", tag_report("r", "t", Moved(sent=2_000)))
    assert said[-1] == "a: r:t: copied (2.0 kB moved, 0.5 s)"
    quiet: list[str] = []
    SyncLines(quiet.append, quiet=True).tag("a", tag_report("r", "t"))
    assert quiet == []


class _Page(HTMLParser):
    """What a page consists of; it fails at what a page of ours has not got."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "link", "iframe", "a"), tag
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_has_all_of_it_and_does_nothing(tmp_path: Path) -> None:
    for number in range(3):
        tags = [tag_report(HOSTILE, "t", Moved(sent=1_000_000 * (number + 1), mounted=5), 9.5)]
        failures = [Failure(f"lost {number}", HOSTILE, 5)] if number == 1 else []
        made = report(
            [job_report(HOSTILE, tags, failures)], started=f"2026-01-0{number + 1}T03:00:00Z"
        )
        history.append(str(tmp_path), made, "schedule")
    page = _Page(render(history.read(str(tmp_path)), HOSTILE))
    text = " ".join(page.text)
    # The scale is a drawing of its own, which stays in sight.
    assert page.seen["rect"] == 6 and page.seen["svg"] == 2
    for expected in ("3 runs from 2026-01-01 03:00", "6.0 MB", "lost 1", "9.5", "exit code 5"):
        assert expected in text
    assert "1 run had failures" in text


def test_a_page_on_nothing() -> None:
    page = _Page(render([], "nowhere"))
    assert "No runs are recorded." in " ".join(page.text) and "svg" not in page.seen
