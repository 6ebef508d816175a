"""A short, seeded run of every target, so that all stay alive; and proof that each can fail."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bridge.errors import MalformedImage

from . import glib, harness
from .harness import Target, fuzz, place, shrunk
from .targets import TARGETS

ROUNDS = {
    "ingest": 20,
    "layout": 40,
    "oci-archive": 20,
    "ref": 40,
    "registries-conf": 40,
    "yaml": 40,
}
NEVER_REFUSES = {
    "challenge", "retry-after", "content-range", "link", "error-body", "image-metadata",
    "boot-entry", "versions", "deployment-name", "os-release", "boot-title", "kernel-arguments",
    "timestamp", "yaml", "rate", "failed-images", "tag",
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run(name: str) -> None:
    tally = fuzz(TARGETS[name], ROUNDS.get(name, 120), seed=1)
    assert tally.broken == {}
    assert tally.accepted > 0
    assert (tally.refused == 0) == (name in NEVER_REFUSES)


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_that_raises_anything_else_is_caught(name: str) -> None:
    """The target's own mutations are what gets a made-up defect to show."""
    numbers = itertools.count()

    def parse(data: bytes) -> Any:
        if next(numbers) >= 10:
            raise KeyError("defect")
        return TARGETS[name].parse(data)

    tally = fuzz(replace(TARGETS[name], parse=parse), 10, seed=1)
    assert any(each.startswith("KeyError at test_fuzz.py:") for each in tally.broken)


# -- the harness itself ----------------------------------------------------------------------


def _refuse(text: str) -> Callable[[bytes], Any]:
    def parse(_data: bytes) -> Any:
        raise MalformedImage(text)

    return parse


def _hang(_data: bytes) -> None:
    while True:
        pass


def _differs(data: bytes, found: bytes) -> None:
    assert data == found, "written differently"


COUNT = itertools.count()
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "two lines": ({"parse": _refuse("a\nb")}, "not one bounded line"),
    "an escape sequence": ({"parse": _refuse("\x1b[2J")}, "not one bounded line"),
    "no words": ({"parse": _refuse("")}, "not one bounded line"),
    "a long line": ({"parse": _refuse("x" * 5000)}, "not one bounded line"),
    "another exception": ({"parse": lambda data: data.decode("ascii")[7]}, "out of range"),
    "an error that is not announced": (
        {"parse": _refuse("a"), "refusals": ()},
        "^a$",
    ),
    "two results": ({"parse": lambda _: next(COUNT)}, "two results"),
    "no end": ({"parse": _hang}, "more than"),
    "not what was written": ({"parse": bytes.upper, "holds": _differs}, "written differently"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_parser_may_do_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SECONDS_MAX", 0.05)
    values, words = BROKEN[name]
    target = Target(name, lambda: [b"seed"], **{"refusals": (MalformedImage,), **values})
    with pytest.raises(Exception, match=words):
        harness.judge(target, b"seed")
    assert len(fuzz(target, 1, seed=1).broken) >= 1


def _needs_a_word(data: bytes) -> bytes:
    if b"\x7fELF" in data:
        raise KeyError("defect")
    return data


def test_mutations_put_words_in_and_findings_are_shrunk() -> None:
    target = Target("words", lambda: [b"0123456789" * 20], _needs_a_word, words=(b"\x7fELF",))
    tally = fuzz(target, 200, seed=1)
    [(where, data)] = tally.broken.items()
    assert where.startswith("KeyError at test_fuzz.py:") and tally.times[where] > 5
    assert shrunk(target, data + b"after") == b"\x7fELF"


def test_the_same_seed_makes_the_same_run() -> None:
    for target in (TARGETS["tar"], TARGETS["manifest"]):
        runs = []
        for _ in range(2):
            seen: list[bytes] = []
            spied = replace(target, parse=lambda data, seen=seen: seen.append(data))
            fuzz(spied, 30, seed=7)
            runs.append(seen)
        assert runs[0] == runs[1]


def test_a_guided_run_keeps_what_reaches_new_lines() -> None:
    reached = harness._Reached()
    digest = TARGETS["digest"]
    runs = [reached.during(lambda: harness.judge(digest, digest.seeds()[0])) for _ in range(2)]
    assert runs == [(True, True), (True, False)]
    assert reached.during(lambda: harness.judge(digest, b"md5:0")) == (False, True)
    assert fuzz(digest, 20, seed=1, guided=True).broken == {}


def test_an_error_is_placed_where_our_code_raised_it() -> None:
    with pytest.raises(ValueError) as caught:
        int(random.Random(1).choice(("x", "y")))
    assert place(caught.value).startswith("ValueError at test_fuzz.py:")


# -- the second opinions ---------------------------------------------------------------------


def test_glib_is_asked() -> None:
    assert glib.is_normal("(si)", b"foo\0\xff\xff\xff\xff\x04")
    assert not glib.is_normal("(si)", b"foo\0\xff\xff\xff\xff\x05")
    assert glib.key_file(b"[a]\nb = c d\ne=\\sf\n") == {("a", "b"): "c d", ("a", "e"): " f"}
    assert glib.key_file(b"a=b\n") is None
    order = [b"000", b"00", b"01", b"010", b"09", b"0", b"1", b"9", b"10"]
    assert all(glib.strverscmp(a, b) < 0 for a, b in itertools.combinations(order, 2))
