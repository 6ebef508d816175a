"""What a mirror of 500 tags costs: nothing changed, at first, and with a cap of bandwidth.

`skopeo sync` copies the same set between the same registries in turn; both targets have all of it
when runs without changes are timed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig import corpus
from rig.peers import require
from rig.registry import Registry, run_registry
from rig.syncing import run_mirror

from tools.images import cache

RATIO_WANTED = 0.2
CAP = 20_000_000
CAP_TOLERANCE = 0.05


@dataclass(frozen=True)
class Mirrored:
    """Seconds of the wall clock, medians where there were several runs."""

    tags: int
    first: float
    first_skopeo: float
    unchanged: float
    unchanged_skopeo: float
    requests: int
    """Of a run without changes."""
    rate: float
    """Bytes per second under the cap."""

    @property
    def ratio(self) -> float:
        return self.unchanged / self.unchanged_skopeo

    @property
    def met(self) -> bool:
        return self.ratio <= RATIO_WANTED and abs(self.rate / CAP - 1) <= CAP_TOLERANCE

    def to_json(self) -> dict[str, Any]:
        return {
            "tags": self.tags,
            "seconds": {
                "first": {"bootc-py": self.first, "skopeo": self.first_skopeo},
                "unchanged": {"bootc-py": self.unchanged, "skopeo": self.unchanged_skopeo},
            },
            "requests": self.requests,
            "bytesPerSecond": self.rate,
            "met": self.met,
        }


def mirrored(runs: int) -> Mirrored:
    """Times all of it."""
    content = corpus.made()
    with cache.scratch(cache.root() / "work") as work:
        corpus.store(content, work / "origin")
        with (
            run_registry(work / "origin") as origin,
            run_registry(work / "ours") as ours,
            run_registry(work / "theirs") as theirs,
        ):
            file = _skopeo_file(origin, content, work)
            commands = (_ours(origin, ours, work), _skopeo(file, theirs))
            first = [_timed(each)[0] for each in commands]
            times: list[tuple[float, float]] = []
            for _ in range(runs):
                mine, said = _timed(commands[0])
                times.append((mine, _timed(commands[1])[0]))
            report = json.loads(said)
            if report["totals"]["tags"]["unchanged"] != content.tag_count:
                raise AssertionError(f"something changed: {report['totals']}")
    return Mirrored(
        content.tag_count,
        *first,
        *(statistics.median(each) for each in zip(*times, strict=True)),
        report["totals"]["requests"],
        _rate(),
    )


def _ours(origin: Registry, target: Registry, work: Path) -> list[str]:
    (work / "sync.yaml").write_text(
        f"version: 1\njobs:\n  - name: mirror\n    source: {origin.host}/\n"
        f"    target: {target.host}/\n"
    )
    return [
        sys.executable, "-m", "bridge", "sync", "once", str(work / "sync.yaml"), "--json",
        "--quiet", "--tls-verify=false", "--state", str(work / "state"),
    ]  # fmt: skip


def _skopeo_file(origin: Registry, content: corpus.Corpus, work: Path) -> Path:
    lines = [f"{origin.host}:", "  tls-verify: false", "  images:"]
    lines += [f"    {name}: []" for name in content.repositories]
    (work / "skopeo.yaml").write_text("\n".join([*lines, ""]))
    return work / "skopeo.yaml"


def _skopeo(file: Path, target: Registry) -> list[str]:
    return [
        require("skopeo"), "sync", "--all", "--src=yaml", "--dest=docker",
        "--dest-tls-verify=false", str(file), f"{target.host}/mirror",
    ]  # fmt: skip


def _timed(command: list[str]) -> tuple[float, str]:
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.monotonic() - begun, done.stdout


def _rate() -> float:
    """Bytes per second of blobs from a source whose bandwidth is capped."""
    with (
        cache.scratch(cache.root() / "work") as work,
        run_mirror(work, corpus.made(1, 6, layer=40_000_000)) as mirror,
    ):
        mirror.config(registry=f"bandwidth: {CAP // 1_000_000}MB/s")
        if (done := mirror.sync().done).code:
            raise AssertionError(done.err)
        begun = min(each.came for each in mirror.source.asked("/blobs/"))
        # The request that ends an upload comes when all of the blob has come.
        ended = max(each.came for each in mirror.target.asked("digest=") if each.method == "PUT")
        return mirror.source.body_bytes / (ended - begun)


def table(found: Mirrored) -> str:
    """The figures as text."""
    return "\n".join(
        [
            f"a mirror of {found.tags} tags, wall seconds: bootc-py, skopeo sync, ratio",
            f"  first run  {found.first:8.1f}{found.first_skopeo:8.1f}"
            f"{found.first / found.first_skopeo:8.2f}",
            f"  unchanged  {found.unchanged:8.1f}{found.unchanged_skopeo:8.1f}{found.ratio:8.2f}"
            f"  (at most {RATIO_WANTED}; {found.requests} requests)",
            f"  capped at {CAP / 1e6:.0f} MB/s: {found.rate / 1e6:.2f} MB/s (within 5 %)",
            f"  {'met' if found.met else 'MISSED'}",
            "",
        ]
    )
