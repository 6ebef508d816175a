"""Numbers for Prometheus, in both of its formats."""

from __future__ import annotations

import pytest

from bridge.sync.metrics import Metrics, prefers_open_metrics


def some() -> Metrics:
    made = Metrics()
    made.counter("x_bytes", 'Bytes of "it",\nby C:\\job.')
    made.gauge("x_when_seconds", "When.")
    made.gauge("x_none", "Nothing yet.")
    made.add("x_bytes", 3, job='a "quoted"\\\njob')
    made.add("x_bytes", 4, job="b")
    made.add("x_bytes", 1 << 53, job="b")
    made.put("x_when_seconds", 1.5)
    return made


def test_the_text_format() -> None:
    assert some().render() == (
        '# HELP x_bytes_total Bytes of "it",\\nby C:\\\\job.\n'
        "# TYPE x_bytes_total counter\n"
        'x_bytes_total{job="a \\"quoted\\"\\\\\\njob"} 3\n'
        'x_bytes_total{job="b"} 9007199254740996\n'
        "# HELP x_when_seconds When.\n"
        "# TYPE x_when_seconds gauge\n"
        "x_when_seconds 1.5\n"
        "# HELP x_none Nothing yet.\n"
        "# TYPE x_none gauge\n"
    )


def test_open_metrics() -> None:
    lines = some().render(open_metrics=True).splitlines()
    assert lines[:2] == [
        '# HELP x_bytes Bytes of \\"it\\",\\nby C:\\\\job.',
        "# TYPE x_bytes counter",
    ]
    assert lines[2].startswith("x_bytes_total{") and lines[-1] == "# EOF"


def test_numbers_that_go_away() -> None:
    made = some()
    made.put("x_when_seconds", None)
    made.put("x_none", None)
    made.keep("job", {"b"})
    text = made.render()
    assert "quoted" not in text and 'job="b"' in text and "\nx_when_seconds " not in text


def test_a_counter_does_not_go_down() -> None:
    with pytest.raises(ValueError, match="x_bytes"):
        some().add("x_bytes", -1, job="b")


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (-2.0, "-2")],
    ids=str,
)
def test_odd_numbers(value: float, text: str) -> None:
    made = Metrics()
    made.gauge("x", "X.")
    made.put("x", value)
    assert made.render().endswith(f"\nx {text}\n")


ACCEPT = {
    "": False,
    "*/*": False,
    "text/plain": False,
    "application/openmetrics-text": True,
    "application/openmetrics-text;q=0": False,
    "application/openmetrics-text;q=x": False,
    "text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4": False,
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2": (
        True
    ),
    " Application/OpenMetrics-Text ; q=1": True,
}


@pytest.mark.parametrize("accept", ACCEPT)
def test_which_format_is_asked_for(accept: str) -> None:
    assert prefers_open_metrics(accept) is ACCEPT[accept]
