"""Kernel arguments as somebody changes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError, UsageError
from bridge.sysroot import kargs
from bridge.sysroot.change_kargs import Changes

BEFORE = ("root=x", "console=tty0", "console=ttyS0", "quiet", 'a="b c"')


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        (Changes(), BEFORE),
        (Changes(delete=["quiet"]), BEFORE[:3] + BEFORE[4:]),
        (Changes(delete=["console=tty0", "quiet"]), ("root=x", "console=ttyS0", 'a="b c"')),
        (Changes(replace=["console=hvc0"]), ("root=x", "console=hvc0", "quiet", 'a="b c"')),
        (Changes(replace=["new=1"]), (*BEFORE, "new=1")),
        (Changes(append=["console=tty0", "x y"]), (*BEFORE, "console=tty0", "x", "y")),
        (Changes(["quiet"], ["root=y"], ["quiet"]), ("root=y", *BEFORE[1:3], 'a="b c"', "quiet")),
    ],
)
def test_what_comes_of_it(changes: Changes, after: tuple[str, ...]) -> None:
    assert changes.apply(BEFORE) == after


@pytest.mark.parametrize(
    "changes",
    [
        Changes(delete=["missing"]),
        Changes(delete=["console"]),
        Changes(delete=["root=y"]),
        Changes(delete=["ostree"]),
        Changes(replace=["ostree=/x"]),
        Changes(append=["a ostree=/x"]),
    ],
)
def test_what_is_refused(changes: Changes) -> None:
    with pytest.raises(UsageError):
        changes.apply((*BEFORE, "ostree"))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("x" * 1901, "1901 bytes"),
        ("é" * 951, "1902 bytes"),
        ('a="b\nlinux /x"', "control characters"),
        ("a\x1b", "control characters"),
        ("a\udc80", "control characters"),
    ],
)
def test_what_no_boot_entry_can_have(argument: str, words: str) -> None:
    with pytest.raises(BridgeError, match=words) as caught:
        kargs.check((argument,))
    assert "\n" not in str(caught.value)
    kargs.check(("x" * 1900,))


WORDS = st.sampled_from(["a", "b=1", "b=2", "c=x", "d-e"])


@given(st.lists(WORDS), WORDS)
def test_a_replaced_key_has_one_value_and_all_else_stays(before: list[str], word: str) -> None:
    after = Changes(replace=[word]).apply(tuple(before))
    key = kargs.key(word)
    assert [each for each in after if kargs.key(each) == key] == [word]
    others = [each for each in before if kargs.key(each) != key]
    assert [each for each in after if kargs.key(each) != key] == others
    assert Changes(replace=[word]).apply(after) == after


@given(st.lists(WORDS), st.lists(WORDS, max_size=3))
def test_what_is_appended_comes_last(before: list[str], more: list[str]) -> None:
    assert Changes(append=more).apply(tuple(before)) == (*before, *more)
