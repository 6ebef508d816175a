"""What a lint is, what it finds, and what came of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from bridge.lint.subject import Subject


class Level(Enum):
    """How bad it is; the words are those of `bootc container lint --list`."""

    FATAL = "fatal"
    """It does not install, does not work, or cannot be taken back once it is published."""
    WARNING = "warning"
    """It works, but not as it should."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    path: str
    """Where: as the running system names it, so with a slash in front."""
    problem: str
    """What is wrong with it, without its path: findings with equal ones are told together."""
    cure: str
    """What to do about it."""
    detail: str = ""
    """What is to be known of this very path."""


@dataclass(frozen=True, slots=True)
class Lint:
    """One lint, as data; its name is what `--skip` takes."""

    name: str
    level: Level
    description: str
    check: Callable[[Subject], Iterable[Finding]]
    not_for: Callable[[Subject], str] = lambda _: ""
    """Says why it cannot be told of that subject, or tells nothing; empty where it can."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one lint."""

    lint: Lint
    findings: tuple[Finding, ...] = ()
    skipped: str = ""
    """Why it was not run; empty where it was."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all of them, by name."""

    results: tuple[Result, ...]

    @property
    def passed(self) -> int:
        """How many lints were run and found nothing."""
        return sum(not each.skipped and not each.findings for each in self.results)

    @property
    def skipped(self) -> int:
        """How many were not run."""
        return sum(bool(each.skipped) for each in self.results)

    def failed(self, level: Level) -> int:
        """Return how many lints of that level found something."""
        return sum(bool(each.findings) and each.lint.level is level for each in self.results)
