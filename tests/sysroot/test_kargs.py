"""Kernel argument lists, by libostree's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.sysroot import kargs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  rw   quiet ", ("rw", "quiet")),
        ('a="b c" d', ('a="b c"', "d")),
        ('"a b=c" d', ('"a b=c"', "d")),
        ('a="b c', ('a="b c',)),
        ("root=LABEL=root\n", ("root=LABEL=root",)),
    ],
)
def test_split(text: str, expected: tuple[str, ...]) -> None:
    assert kargs.split(text) == expected


def test_replace_takes_the_first_place_and_drops_the_others() -> None:
    before = ("rw", "console=tty0", "quiet", "console=ttyS0")
    assert kargs.replace(before, "console=hvc0") == ("rw", "console=hvc0", "quiet")
    assert kargs.replace(before, "ostree=/x") == (*before, "ostree=/x")
    assert kargs.without(before, "console") == ("rw", "quiet")


@pytest.mark.parametrize(
    ("delete", "expected"),
    [
        ("quiet", ("rw", "console=tty0", "console=ttyS0", "k=")),
        ("console=tty0", ("rw", "quiet", "console=ttyS0", "k=")),
        ("rw quiet", ("console=tty0", "console=ttyS0", "k=")),
        ("k", ("rw", "quiet", "console=tty0", "console=ttyS0")),
    ],
)
def test_delete(delete: str, expected: tuple[str, ...]) -> None:
    before = ("rw", "quiet", "console=tty0", "console=ttyS0", "k=")
    assert kargs.delete(before, delete) == expected


@pytest.mark.parametrize(
    ("delete", "message"),
    [
        ("missing", "no kernel argument 'missing'"),
        ("console", "has several values"),
        ("console=hvc0", "no kernel argument 'console=hvc0'"),
    ],
)
def test_delete_that_is_not_clear(delete: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kargs.delete(("console=tty0", "console=ttyS0"), delete)


@given(st.text())
def test_split_and_join_settle(text: str) -> None:
    once = kargs.split(text)
    assert kargs.split(kargs.join(once)) == once or text.count('"') % 2 == 1


@given(st.lists(st.from_regex(r"[a-z.]{1,5}(=[a-z0-9,]{0,5})?", fullmatch=True)))
def test_append_then_delete_is_nothing(arguments: list[str]) -> None:
    start = ("zz=1",)
    after = kargs.append(start, arguments)
    assert kargs.split(kargs.join(after)) == after
    for argument in arguments:
        exact = argument if "=" in argument else next(a for a in after if a == argument)
        after = kargs.delete(after, exact) if after.count(exact) else after
    assert after == start
