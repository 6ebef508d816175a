"""Regular expressions of a configuration, in RE2's syntax: Go's, and in time linear to the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bridge import limits
from bridge.errors import UsageError
from bridge.sync.extra import extra


@dataclass(frozen=True, slots=True)
class Pattern:
    """A matcher (`model.Matcher`): whether the expression is found in a name.

    `whole`: it has to be all of the name.
    """

    expression: str
    whole: bool = False
    _compiled: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", _compiled(self.expression))

    def __call__(self, name: str, /) -> bool:
        compiled = self._compiled
        found = compiled.fullmatch(name) if self.whole else compiled.search(name)
        return found is not None


def whole(expression: str) -> Pattern:
    """Return a matcher of names that the expression matches in full; raises `UsageError`."""
    return Pattern(expression, whole=True)


def found_in(expression: str) -> Pattern:
    """Return a matcher of names in which the expression is found; raises `UsageError`."""
    return Pattern(expression)


def _compiled(expression: str) -> Any:
    re2 = extra("re2")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = limits.SYNC_PATTERN_MEMORY_MAX
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        told = error.args[0] if error.args else ""
        reason = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        raise UsageError(
            f"{expression!r:.100} is no regular expression as RE2 and Go have them: {reason:.200}"
        ) from None
