"""Progress: a bar on a terminal, plain lines elsewhere, bootc's JSON lines on a descriptor."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from bridge.cli.units import count_text, size_text
from bridge.errors import UsageError
from bridge.pull.plan import LayerPlan, Mode
from bridge.pull.progress import Progress, Stage

_FRAMES_PER_SECOND = 10
_STEPS = {Stage.MERGING: "importing", Stage.DEPLOYING: "staging"}
"""Stages that bootc counts in steps, by the names it has for them."""
_LINES_EVERY = 5.0
"""Seconds between plain lines: a log wants to be short."""


def choose(*, quiet: bool, stream: TextIO | None = None) -> Progress:
    """Return the display that suits `stream`, by default standard error."""
    stream = stream or sys.stderr
    if quiet:
        return Progress()
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bar(stream)
    return Lines(stream)


class _Counter(Progress):
    """Counts layers and bytes; the displays draw from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._layers_done = self._layers = 0
        self._started = time.monotonic()

    def planned(self, layers: Sequence[LayerPlan]) -> None:
        self._total = sum(each.transfer_bytes for each in layers)
        self._layers = sum(each.mode is not Mode.PRESENT for each in layers)
        self._started = time.monotonic()

    def advance(self, plan: LayerPlan, count: int) -> None:
        with self._lock:
            self._done += count
            self._draw(final=False)

    def layer_done(self, plan: LayerPlan) -> None:
        with self._lock:
            self._layers_done += 1
            self._draw(final=self._layers_done == self._layers)

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._started, 0.001)

    def _draw(self, *, final: bool) -> None:
        raise NotImplementedError


class Bar(_Counter):
    """One line that is drawn over and over, and wiped away at the end."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._next = 0.0
        self._stage = ""

    def message(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"\r\x1b[K{text}\n")
            self._stream.flush()

    def stage(self, name: Stage) -> None:
        with self._lock:
            self._stage = name.value
            self._stream.write(f"\r\x1b[K{name.value} …")
            self._stream.flush()

    def finish(self, *, failed: bool = False) -> None:
        with self._lock:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, *, final: bool) -> None:
        now = time.monotonic()
        if not self._total or (now < self._next and not final):
            return
        self._next = now + 1 / _FRAMES_PER_SECOND
        share = min(1.0, self._done / self._total)
        text = (
            f"{share:4.0%}  {size_text(self._done)} of {size_text(self._total)}"
            f"  {size_text(self._rate())}/s  layer {self._layers_done}/{self._layers}"
        )
        width = max(10, min(40, _columns(self._stream) - len(text) - len(self._stage) - 8))
        filled = round(share * width)
        bar = "█" * filled + "░" * (width - filled)
        self._stream.write(f"\r\x1b[K{self._stage}  {bar}  {text}")
        self._stream.flush()


class Lines(_Counter):
    """A line for each stage, each layer, and every few seconds in between."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._next = time.monotonic() + _LINES_EVERY

    def message(self, text: str) -> None:
        self._write(text)

    def planned(self, layers: Sequence[LayerPlan]) -> None:
        super().planned(layers)
        present = len(layers) - self._layers
        self._write(
            f"{count_text(len(layers), 'layer')}: {present} here already, {self._layers} to pull "
            f"({size_text(self._total)})"
        )

    def layer_done(self, plan: LayerPlan) -> None:
        super().layer_done(plan)
        self._write(f"layer {plan.layer.digest[:19]}: imported ({size_text(plan.layer.size)})")

    def stage(self, name: Stage) -> None:
        self._write(name.value)

    def _draw(self, *, final: bool) -> None:
        now = time.monotonic()
        if now >= self._next and self._total:
            self._next = now + _LINES_EVERY
            self._write(
                f"{self._done / self._total:4.0%}  {size_text(self._done)} of "
                f"{size_text(self._total)}  {size_text(self._rate())}/s"
            )

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


class JsonLines(_Counter):
    """bootc's `--progress-fd` format, version 0.1.0: docs/src/progress-v0.schema.json."""

    _MOST_PER_SECOND = 5

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._next = 0.0
        self._cached = 0
        self._plans: Sequence[LayerPlan] = ()
        self._bytes: dict[str, int] = {}
        self._step: Stage | None = None
        self._write({"type": "Start", "version": "0.1.0"})

    @classmethod
    def open(cls, fd: int) -> JsonLines:
        """Write to the descriptor `fd`; `UsageError` for a standard one or one that is not open."""
        if fd <= 2:
            raise UsageError(f"--progress-fd {fd}: it must be a descriptor above 2")
        try:
            return cls(os.fdopen(fd, "w", encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--progress-fd {fd}: {error.strerror}") from None

    def planned(self, layers: Sequence[LayerPlan]) -> None:
        super().planned(layers)
        self._plans = layers
        self._cached = sum(each.layer.size for each in layers if each.mode is Mode.PRESENT)

    def advance(self, plan: LayerPlan, count: int) -> None:
        with self._lock:
            digest = plan.layer.digest
            self._bytes[digest] = self._bytes.get(digest, 0) + count
        super().advance(plan, count)

    def stage(self, name: Stage) -> None:
        with self._lock:
            self._end_step()
            self._step = name if name in _STEPS else None
            if self._step is not None:
                self._write_step(self._step, completed=False)

    def finish(self, *, failed: bool = False) -> None:
        if not failed:
            with self._lock:
                self._end_step()

    def _end_step(self) -> None:
        if self._step is not None:
            self._write_step(self._step, completed=True)
            self._step = None

    def _write_step(self, stage: Stage, *, completed: bool) -> None:
        task, text = _STEPS[stage], stage.value
        step = {"subtask": task, "description": text, "id": task, "completed": completed}
        self._write(
            {
                "type": "ProgressSteps",
                "task": task,
                "description": text,
                "id": task,
                "stepsCached": 0,
                "steps": int(completed),
                "stepsTotal": 1,
                "subtasks": [step],
            }
        )

    def _draw(self, *, final: bool) -> None:
        now = time.monotonic()
        if now < self._next and not final:
            return
        self._next = now + 1 / self._MOST_PER_SECOND
        present = len(self._plans) - self._layers
        self._write(
            {
                "type": "ProgressBytes",
                "task": "pulling",
                "description": Stage.PULLING.value,
                "id": "pulling",
                "bytesCached": self._cached,
                "bytes": self._cached + self._done,
                "bytesTotal": self._cached + self._total,
                "stepsCached": present,
                "steps": present + self._layers_done,
                "stepsTotal": len(self._plans),
                "subtasks": [self._subtask(each) for each in self._plans],
            }
        )

    def _subtask(self, plan: LayerPlan) -> dict[str, Any]:
        size = plan.layer.size
        cached = size if plan.mode is Mode.PRESENT else 0
        return {
            "subtask": "layer",
            "description": f"layer: {plan.layer.digest[:19]}",
            "id": plan.layer.digest,
            "bytesCached": cached,
            "bytes": max(cached, self._bytes.get(plan.layer.digest, 0)),
            "bytesTotal": size,
        }

    def _write(self, event: dict[str, Any]) -> None:
        try:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()
        except OSError:
            return  # whoever read it is gone; that is no reason to stop


class Both(Progress):
    """Tells two displays the same."""

    def __init__(self, *displays: Progress) -> None:
        self._displays = displays

    def message(self, text: str) -> None:
        for each in self._displays:
            each.message(text)

    def planned(self, layers: Sequence[LayerPlan]) -> None:
        for each in self._displays:
            each.planned(layers)

    def advance(self, plan: LayerPlan, count: int) -> None:
        for each in self._displays:
            each.advance(plan, count)

    def layer_done(self, plan: LayerPlan) -> None:
        for each in self._displays:
            each.layer_done(plan)

    def stage(self, name: Stage) -> None:
        for each in self._displays:
            each.stage(name)

    def finish(self, *, failed: bool = False) -> None:
        for each in self._displays:
            each.finish(failed=failed)


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return 80
