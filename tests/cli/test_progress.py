"""Progress: JSON lines by bootc's schema, a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.images import file, image, write_layout

from bridge.cli.progress import Bar, Both, JsonLines, Lines, choose
from bridge.errors import UsageError
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.pull.plan import LayerPlan, Mode
from bridge.pull.progress import Progress, Stage


def plan(size: int, mode: Mode = Mode.WHOLE) -> LayerPlan:
    digest = Digest.of(str(size).encode())
    return LayerPlan(Descriptor("t", digest, size), digest, mode)


PLANS = [plan(100, Mode.PRESENT), plan(3_000_000), plan(1_000_000)]


def pull(progress: Progress) -> None:
    """Tell `progress` what a pull of three layers tells."""
    progress.stage(Stage.RESOLVING)
    progress.planned(PLANS)
    progress.stage(Stage.PULLING)
    for each in PLANS[1:]:
        for _ in range(10):
            progress.advance(each, each.layer.size // 10)
        progress.layer_done(each)
    progress.stage(Stage.MERGING)
    progress.stage(Stage.DEPLOYING)
    progress.finish()


# -- JSON lines: the rules of bootc's docs/src/progress-v0.schema.json --------------------------

COMMON = {"task": str, "description": str, "id": str}
STEPS = {"stepsCached": int, "steps": int, "stepsTotal": int}
BYTES = {"bytesCached": int, "bytes": int, "bytesTotal": int}
SUBTASK = {"subtask": str, "description": str, "id": str}
EVENTS: dict[str, dict[str, type]] = {
    "Start": {"version": str},
    "ProgressBytes": COMMON | STEPS | BYTES | {"subtasks": list},
    "ProgressSteps": COMMON | STEPS | {"subtasks": list},
}
SUBTASKS: dict[str, dict[str, type]] = {
    "ProgressBytes": SUBTASK | BYTES,
    "ProgressSteps": SUBTASK | {"completed": bool},
}


def check(value: dict[str, Any], shape: dict[str, type]) -> None:
    assert set(value) == set(shape)
    for key, kind in shape.items():
        assert type(value[key]) is kind
        assert kind is not int or 0 <= value[key] < 2**64


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a run, each held to the schema."""
    found = [json.loads(line) for line in text.splitlines()]
    assert text.endswith("\n") and found[0] == {"type": "Start", "version": "0.1.0"}
    for event in found:
        kind = event["type"]
        check({key: value for key, value in event.items() if key != "type"}, EVENTS[kind])
        for subtask in event.get("subtasks", []):
            check(subtask, SUBTASKS[kind])
    return found


def test_json_lines_keep_the_schema() -> None:
    out = io.StringIO()
    pull(JsonLines(out))
    found = events(out.getvalue())
    assert {each["type"] for each in found} == set(EVENTS)
    moved = [each for each in found if each["type"] == "ProgressBytes"]
    last = moved[-1]
    assert (last["bytesCached"], last["bytes"], last["bytesTotal"]) == (100, 4_000_100, 4_000_100)
    assert (last["stepsCached"], last["steps"], last["stepsTotal"]) == (1, 3, 3)
    assert [each["bytes"] for each in last["subtasks"]] == [100, 3_000_000, 1_000_000]
    assert [each["id"] for each in last["subtasks"]] == [each.layer.digest for each in PLANS]
    counts = [each["bytes"] for each in moved]
    assert counts == sorted(counts)
    steps = [
        (each["task"], each["steps"], each["subtasks"][0]["completed"])
        for each in found
        if each["type"] == "ProgressSteps"
    ]
    assert steps == [
        ("importing", 0, False),
        ("importing", 1, True),
        ("staging", 0, False),
        ("staging", 1, True),
    ]
    # At most five a second, and the last one always: two dozen advances take no time here.
    assert len(moved) <= 3


def test_a_reader_that_is_gone_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    progress = JsonLines.open(writer)
    pull(progress)


@pytest.mark.parametrize("fd", [-1, 0, 1, 2, 9999])
def test_a_descriptor_that_will_not_do(fd: int) -> None:
    with pytest.raises(UsageError, match="--progress-fd"):
        JsonLines.open(fd)


def test_progress_fd_of_a_pull(run: Any, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", image([file("a", "1")], [file("b", "2")]))
    events_file = tmp_path / "events"
    fd = os.open(events_file, os.O_WRONLY | os.O_CREAT)
    done = run(
        "image", "pull", f"oci:{layout}", "--repo", tmp_path / "repo",
        "--progress-fd", fd, "--quiet", "--json",
    )  # fmt: skip
    assert done.code == 0 and done.err == ""
    found = events(events_file.read_text())
    moved = [each for each in found if each["type"] == "ProgressBytes"]
    sizes = [each["size"] for each in done.document["layers"]]
    assert (moved[-1]["bytes"], moved[-1]["bytesTotal"]) == (sum(sizes), sum(sizes))
    assert (moved[-1]["steps"], moved[-1]["stepsTotal"]) == (2, 2)
    assert [each["type"] for each in found][-1] == "ProgressSteps"


# -- for people --------------------------------------------------------------------------------


END = "(end)"


@pytest.fixture
def terminal() -> Iterator[tuple[int, Any]]:
    """Yield a terminal's two sides: what it shows, and the stream of the program in it."""
    shown, inside = pty.openpty()
    with os.fdopen(inside, "w", encoding="utf-8") as stream:
        yield shown, stream
    os.close(shown)


def screen(terminal: tuple[int, Any]) -> str:
    """Return all that the terminal got. The kernel hands it over when it likes, but in order."""
    shown, stream = terminal
    stream.write(END)
    stream.flush()
    seen = b""
    while not seen.endswith(END.encode()):
        seen += os.read(shown, 100_000)
    return seen.decode().removesuffix(END)


def test_a_terminal_gets_a_bar(terminal: tuple[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    _, stream = terminal
    bar = choose(quiet=False, stream=stream)
    assert isinstance(bar, Bar)
    pull(bar)
    bar.message("said in between")
    bar.finish()
    text = screen(terminal)
    assert "Pulling layers  " in text and "░" in text
    assert "100%  4.0 MB of 4.0 MB" in text and "layer 2/2" in text
    assert "\r\x1b[Ksaid in between\r\n" in text
    assert text.endswith("\r\x1b[K")  # nothing is left of it


def test_no_bar_where_it_would_not_show(
    terminal: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = terminal[1]
    for term in ("dumb", None):
        monkeypatch.setenv("TERM", term or "")
        if term is None:
            monkeypatch.delenv("TERM")
        assert isinstance(choose(quiet=False, stream=stream), Lines)
    assert isinstance(choose(quiet=False, stream=io.StringIO()), Lines)
    assert type(choose(quiet=True, stream=stream)) is Progress


def test_elsewhere_there_are_plain_lines() -> None:
    out = io.StringIO()
    pull(choose(quiet=False, stream=out))
    digests = [each.layer.digest[:19] for each in PLANS]
    assert out.getvalue().splitlines() == [
        "Resolving the image",
        "3 layers: 1 here already, 2 to pull (4.0 MB)",
        "Pulling layers",
        f"layer {digests[1]}: imported (3.0 MB)",
        f"layer {digests[2]}: imported (1.0 MB)",
        "Merging layers",
        "Deploying",
    ]


def test_both_displays_are_told_the_same() -> None:
    lines, again = io.StringIO(), io.StringIO()
    both = Both(Lines(lines), Lines(again))
    both.message("hello")
    pull(both)
    assert lines.getvalue() == again.getvalue() != ""


def test_a_pull_with_nothing_to_move_shows_no_bar(
    terminal: tuple[int, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    _, stream = terminal
    bar = choose(quiet=False, stream=stream)
    bar.planned([])
    bar.stage(Stage.PULLING)
    bar.finish()
    assert screen(terminal) == "\r\x1b[KPulling layers …\r\x1b[K"
