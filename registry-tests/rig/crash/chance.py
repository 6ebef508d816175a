"""Commands on images of real size, killed at random moments, one round after the other.

Every round goes on from what the round before left. The moment is drawn from the time that the
command takes undisturbed, and a tenth more.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rig import raw, store
from rig.command import PLAIN_HTTP, bootc_py
from rig.crash import host
from rig.registry import Registry
from tools.images.layout import Layout

MOVING = "os/moving"


@dataclass(frozen=True)
class Published:
    """An image in a registry: REPOSITORY:TAG."""

    registry: Registry
    name: str
    layout: Layout

    @property
    def reference(self) -> str:
        return f"{self.registry.host}/{self.name}"


@dataclass
class Tally:
    """What became of the rounds of one command; `faults` says what was wrong in which."""

    command: str
    rounds: int = 0
    hit: int = 0
    damaged: int = 0
    lost: int = 0
    failed: int = 0
    left_over: int = 0
    cycle: float = 0.0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Course:
    """One command on one directory. `arrange` prepares round N and returns the words to run."""

    root: Path
    repository: Path
    arrange: Callable[[int], list[str | Path]]
    images: int

    def result(self) -> object:
        """What the command is for, to be compared: what boots first, else what is stored."""
        if boots := host.boots(self.root, shallow=True):
            return boots[0].tree, boots[0].kernel
        return frozenset(store.object_names(self.repository))


def _pull(root: Path, images: Sequence[Published]) -> Course:
    def arrange(number: int) -> list[str | Path]:
        shutil.rmtree(root / "repo", ignore_errors=True)
        image = images[number % len(images)]
        return ["image", "pull", image.reference, "--repo", root / "repo", PLAIN_HTTP]

    return Course(root, root / "repo", arrange, len(images))


def _prune(root: Path, images: Sequence[Published]) -> Course:
    repo = root / "repo"

    def arrange(number: int) -> list[str | Path]:
        gone = images[1 + number % (len(images) - 1)]
        for image in (images[0], gone):
            _must("image", "pull", image.reference, "--repo", repo, PLAIN_HTTP)
        _must("image", "remove", gone.reference, "--repo", repo)
        return ["image", "prune", "--repo", repo]

    return Course(root, repo, arrange, len(images) - 1)


def _switch(root: Path, images: Sequence[Published]) -> Course:
    def arrange(number: int) -> list[str | Path]:
        image = images[number % len(images)]
        return ["switch", image.reference, "--sysroot", root, PLAIN_HTTP]

    return Course(root, root / "ostree/repo", arrange, len(images))


def _upgrade(root: Path, images: Sequence[Published]) -> Course:
    def arrange(number: int) -> list[str | Path]:
        image = images[number % len(images)]
        registry = image.registry
        raw.move_tag(registry, image.layout, image.name.partition(":")[0], MOVING, "stable")
        if not (root / "boot/loader").exists():
            _must("switch", f"{registry.host}/{MOVING}:stable", "--sysroot", root, PLAIN_HTTP)
        return ["upgrade", "--sysroot", root, PLAIN_HTTP]

    return Course(root, root / "ostree/repo", arrange, len(images))


COURSES = {"pull": _pull, "switch": _switch, "upgrade": _upgrade, "prune": _prune}


def series(command: str, images: Sequence[Published], root: Path, rounds: int, seed: int) -> Tally:
    """Runs `rounds` rounds of a command in the new directory `root`."""
    root.mkdir()
    course, tally = COURSES[command](root, images), Tally(command)
    dice = random.Random(f"{seed} {command}")
    wanted: dict[int, tuple[object, set[str]]] = {}
    # Twice around, undisturbed: from the second time on each image finds what it always will.
    cycles = []
    for number in range(2 * course.images):
        words = course.arrange(number)
        started = time.monotonic()
        _must(*words)
        cycles.append(time.monotonic() - started)
        wanted[number % course.images] = course.result(), host.paths(course.repository)
    tally.cycle = statistics.median(cycles)
    before = course.result()
    for number in range(rounds):
        words = course.arrange(number)
        before = course.result() if command == "prune" else before
        tally.rounds += 1
        tally.hit += _killed(words, dice.uniform(0, 1.1 * tally.cycle))
        fault = _judge(course, tally, words, before, *wanted[number % course.images])
        if fault:
            tally.faults.append(f"round {number}: {fault}")
        before = course.result()
    return tally


def _judge(
    course: Course,
    tally: Tally,
    words: Sequence[str | Path],
    before: object,
    result: object,
    paths: set[str],
) -> str:
    """Counts what is wrong after a kill and after the next run; the first fault, in words."""
    fault = _look(course, tally, (before, result))
    again = bootc_py(*words, "--quiet")
    if again.code:
        tally.failed += 1
        return fault or f"the next run: {again.err}"
    fault = fault or _look(course, tally, (result,))
    if extra := host.paths(course.repository) - paths:
        tally.left_over += 1
        fault = fault or f"left over: {sorted(extra)[:3]} of {len(extra)}"
    return fault


def _look(course: Course, tally: Tally, allowed: Sequence[object]) -> str:
    try:
        if (course.repository / "config").exists():
            store.fsck(course.repository)
    except AssertionError as error:
        tally.damaged += 1
        return str(error)
    if course.root == course.repository.parent:
        return ""
    try:
        assert course.result() in allowed, "neither old nor new boots"
        names = [boot.deployment for boot in host.boots(course.root, shallow=True)]
        assert host.names(course.root) == names, "`ostree admin` sees other deployments"
    except (AssertionError, OSError) as error:
        tally.lost += 1
        return f"lost: {error}"
    return ""


def _must(*words: str | Path) -> None:
    done = bootc_py(*words, "--quiet")
    assert done.code == 0, done


def _killed(words: Sequence[str | Path], delay: float) -> bool:
    """Starts a command, kills it after `delay` seconds; whether it was still running then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", *map(str, words), "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False
