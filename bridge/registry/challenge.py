"""The `WWW-Authenticate` header: challenges of RFC 9110, section 11.6.1, as registries send them.

One field may hold several challenges, and commas part both challenges and parameters: a scheme is
a token that is not followed by `=`. Text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(
    rf'(?P<name>{_TOKEN})[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s",=][^\s",]*))'
    r"[ \t]*(?=,|$)"
)
_SCHEME = re.compile(rf"(?P<scheme>{_TOKEN})(?=[ \t]|,|$)[ \t]*")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_BETWEEN = re.compile(r"[ \t,]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(value: str) -> list[Challenge]:
    """Parse one header value (several fields are joined by commas).

    What cannot be read ends the parse: the challenges before it are returned, and of a repeated
    parameter the first counts. Never raises.
    """
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    at = _end(_BETWEEN.match(value, 0))
    while at < len(value):
        if challenges and (found := _PARAMETER.match(value, at)):
            quoted = found["quoted"]
            text = found["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(found["name"].lower(), text)
        elif found := _SCHEME.match(value, at):
            parameters = {}
            challenges.append(Challenge(found["scheme"].lower(), parameters))
            after = found.end()
            # `Negotiate a87421==`: credentials data instead of parameters, of no use to us.
            if not _PARAMETER.match(value, after) and (data := _TOKEN68.match(value, after)):
                found = data
        else:
            break
        at = _end(_BETWEEN.match(value, found.end()))
    return challenges


def _end(found: re.Match[str] | None) -> int:
    return found.end() if found else 0
