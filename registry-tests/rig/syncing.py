"""Sync jobs as users run them, between two registries that are watched; and killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig import corpus
from rig.command import PLAIN_HTTP, Done
from rig.corpus import Corpus
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry, run_registry

_MOMENT = 0.5
"""Seconds in which a process that is killed may not have heard of an answer yet."""


@dataclass
class Mirror:
    """A source that has a corpus, a target that is to have it, and what is asked of them."""

    origin: Registry
    copy: Registry
    source: CountingProxy
    target: CountingProxy
    work: Path
    flying: set[str] = field(default_factory=set)
    """Blobs that were on their way when a run was killed."""

    def stock(self, content: Corpus) -> None:
        """Has the source hold it; tags that it had before move."""
        corpus.store(content, self.origin.storage)

    def config(self, name: str = "sync.yaml", job: str = "", registry: str = "") -> Path:
        """A file with one job for all that the source has; `job` and `registry` (the source's) are
        lines more."""
        path = self.work / name
        path.write_text(
            "version: 1\n"
            "registries:\n"
            f"  {self.source.host}: {{tls-verify: false{registry and f', {registry}'}}}\n"
            f"  {self.target.host}: {{tls-verify: false}}\n"
            "jobs:\n"
            "  - name: mirror\n"
            f"    source: {self.source.host}/\n"
            f"    target: {self.target.host}/\n"
            + "".join(f"    {line}\n" for line in job.splitlines())
        )
        return path

    def command(self, verb: str, *options: str | Path, state: str = "state") -> list[str]:
        """The command line of a run."""
        words = (verb, self.work / "sync.yaml", "--state", self.work / state, PLAIN_HTTP, *options)
        return [sys.executable, "-m", "bridge", "sync", *map(str, words)]

    def sync(self, *options: str | Path, verb: str = "once", state: str = "state") -> Ran:
        """Runs all jobs; the proxies begin to count."""
        self.source.reset()
        self.target.reset()
        command = self.command(verb, "--json", "--quiet", *options, state=state)
        done = subprocess.run(command, capture_output=True, text=True)
        return Ran(Done(done.returncode, done.stdout, done.stderr), self.source, self.target)


@dataclass
class Ran:
    """How a run ended, and what it asked for."""

    done: Done
    _source: CountingProxy
    _target: CountingProxy
    report: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        assert "Traceback" not in self.done.err, self.done.err
        self.report = json.loads(self.done.out) if self.done.out else {}

    @property
    def tags(self) -> dict[str, int]:
        """How many tags there were, by what became of them; those that did not occur left out."""
        return {name: n for name, n in self.report["totals"]["tags"].items() if n}

    @property
    def fetched(self) -> dict[str, int]:
        """How many times each blob was fetched from the source."""
        return fetched(self._source)

    @property
    def requests(self) -> int:
        """Of both sides, as the proxies count them."""
        return self._source.requests + self._target.requests


def fetched(source: CountingProxy) -> dict[str, int]:
    """How many times each blob was fetched since the proxy began to count."""
    counts: dict[str, int] = {}
    for each in source.asked("/blobs/"):
        if each.method == "GET":
            digest = each.path.rpartition("/")[2]
            counts[digest] = counts.get(digest, 0) + 1
    return counts


@contextmanager
def run_mirror(work: Path, content: Corpus) -> Iterator[Mirror]:
    """A source with a corpus and an empty target, until the context ends."""
    corpus.store(content, work / "origin")
    with (
        run_registry(work / "origin") as origin,
        run_registry(work / "copy") as copy,
        run_proxy(origin.port) as source,
        run_proxy(copy.port) as target,
    ):
        mirror = Mirror(origin, copy, source, target, work)
        mirror.config()
        yield mirror


@dataclass(frozen=True)
class Killed:
    """A round: when the process was killed, and what was wrong then."""

    seconds: float
    ended: bool
    """It had ended by then."""
    fetched: int
    """Blobs that came from the source in this round."""
    faults: list[str]


def kill(mirror: Mirror, moment: float) -> Killed:
    """Runs the jobs, kills them after so many seconds, and looks at the target."""
    there = _blobs(mirror.copy.storage)
    mirror.source.reset()
    mirror.target.reset()
    command = mirror.command("once", "--quiet")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        ended, faults = False, []
    else:
        ended = True
        text = said.decode(errors="replace")
        faults = [f"exit code {process.returncode}: {text}"] if process.returncode else []
    mirror.target.wait_for_clients_to_leave()
    faults += corpus.holes(mirror.copy.storage)
    came = set(fetched(mirror.source))
    again = sorted(came & there - mirror.flying)
    faults += [f"{each}: moved, though the target had it" for each in again]
    mirror.flying = set() if ended else came - _sent(mirror.target, time.monotonic() - _MOMENT)
    return Killed(moment, ended, len(came), faults)


def _sent(target: CountingProxy, until: float) -> set[str]:
    """The blobs whose upload was answered by a moment."""
    uploads = (each for each in target.asked("digest=") if each.method == "PUT")
    done = (each for each in uploads if each.status == 201 and each.answered < until)
    return {urllib.parse.unquote(each.path.partition("digest=")[2]) for each in done}


def _blobs(storage: Path) -> set[str]:
    found = (storage / "docker/registry/v2/blobs").glob("*/*/*/data")
    return {f"{each.parts[-4]}:{each.parts[-2]}" for each in found}


def kills(mirror: Mirror, content: Corpus, rounds: int, seed: int, most: float) -> Iterator[Killed]:
    """Kills so many runs at random moments, up to `most` seconds after they began; then one ends.

    The source has `content`. Where a run ends first, it gets newer images, so that there is
    something to do.
    """
    chance = random.Random(seed)
    newer: set[tuple[str, str]] = set()
    for _ in range(rounds):
        done = kill(mirror, chance.uniform(0.3, most))
        yield done
        if done.ended:
            names = sorted(content.repositories)
            tags = sorted(content.repositories[names[0]].tags)
            newer |= {(chance.choice(names), chance.choice(tags)) for _ in range(10)}
            content = corpus.made(len(names), len(tags), changed=newer)
            mirror.stock(content)
    yield finish(mirror, content)


def finish(mirror: Mirror, content: Corpus) -> Killed:
    """Runs the jobs to their end, and looks whether the target has all of it."""
    begun = time.monotonic()
    there = _blobs(mirror.copy.storage)
    ran = mirror.sync()
    faults = corpus.differences(content, mirror.copy.storage)
    faults += [f"{each}: moved twice" for each, count in ran.fetched.items() if count > 1]
    again = sorted(set(ran.fetched) & there - mirror.flying)
    faults += [f"{each}: moved again" for each in again]
    if ran.done.code:
        faults.append(ran.done.err)
    return Killed(time.monotonic() - begun, True, len(ran.fetched), faults)
