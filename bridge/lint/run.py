"""Running the lints."""

from __future__ import annotations

from collections.abc import Collection

from bridge.errors import UsageError
from bridge.lint.model import Report, Result
from bridge.lint.registry import LINTS
from bridge.lint.subject import Subject


def run(subject: Subject, skip: Collection[str] = ()) -> Report:
    """Run all lints but those named in `skip`; return what came of each, in the order of names.

    Raises `UsageError` for a name that no lint has, and what reading the subject raises.
    """
    check_names(skip)
    results = []
    for lint in LINTS:
        reason = "by --skip" if lint.name in skip else lint.not_for(subject)
        if reason:
            results.append(Result(lint, skipped=reason))
        else:
            results.append(Result(lint, tuple(lint.check(subject))))
    return Report(tuple(results))


def check_names(names: Collection[str]) -> None:
    """Raise `UsageError` where one is no lint's."""
    unknown = sorted(set(names) - {lint.name for lint in LINTS})
    if unknown:
        raise UsageError(f"--skip {unknown[0]!r:.100}: there is no such lint; --list shows all")
