"""Numbers for Prometheus: its text format 0.0.4, and OpenMetrics 1.0.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_LABEL_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Family:
    kind: str
    help: str
    samples: dict[Labels, float] = field(default_factory=dict)


class Metrics:
    """Families of numbers, each number with its labels. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, _Family] = {}

    def counter(self, name: str, text: str) -> None:
        """Declare a number that only grows; its name is given without `_total`."""
        self._families[name] = _Family("counter", text)

    def gauge(self, name: str, text: str) -> None:
        """Declare a number that goes up and down."""
        self._families[name] = _Family("gauge", text)

    def add(self, name: str, count: float, **labels: str) -> None:
        """Add to a counter; adding 0 makes it appear."""
        if count < 0:
            raise ValueError(f"{name}: a counter does not go down")
        key = tuple(sorted(labels.items()))
        with self._lock:
            samples = self._families[name].samples
            samples[key] = samples.get(key, 0) + count

    def put(self, name: str, value: float | None, **labels: str) -> None:
        """Set a number; None: it is gone."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            samples = self._families[name].samples
            if value is None:
                samples.pop(key, None)
            else:
                samples[key] = value

    def keep(self, label: str, values: Mapping[str, object] | set[str]) -> None:
        """Drop all numbers whose `label` is none of `values`."""
        with self._lock:
            for family in self._families.values():
                for key in list(family.samples):
                    found = dict(key).get(label)
                    if found is not None and found not in values:
                        del family.samples[key]

    def render(self, *, open_metrics: bool = False) -> str:
        """Return all numbers as text."""
        with self._lock:
            lines = [
                line
                for name, family in self._families.items()
                for line in _family(name, family, open_metrics)
            ]
        if open_metrics:
            lines.append("# EOF")
        return "\n".join([*lines, ""])


def _family(name: str, family: _Family, open_metrics: bool) -> Iterator[str]:
    sample = f"{name}_total" if family.kind == "counter" else name
    # The older format calls a family what its numbers are called.
    head = name if open_metrics else sample
    escapes = _LABEL_ESCAPES if open_metrics else _ESCAPES
    yield f"# HELP {head} {family.help.translate(escapes)}"
    yield f"# TYPE {head} {family.kind}"
    for labels, value in sorted(family.samples.items()):
        inner = ",".join(f'{key}="{text.translate(_LABEL_ESCAPES)}"' for key, text in labels)
        yield f"{sample}{{{inner}}} {_number(value)}" if inner else f"{sample} {_number(value)}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def prefers_open_metrics(accept: str) -> bool:
    """Tell whether an `Accept` header ranks OpenMetrics at least as high as plain text."""
    ranks = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        rank = 1.0
        for each in parameters:
            if each.startswith("q="):
                try:
                    rank = float(each[2:])
                except ValueError:
                    rank = 0.0
        if kind in ranks:
            ranks[kind] = max(ranks[kind], rank)
    return 0 < ranks["application/openmetrics-text"] >= ranks["text/plain"]
