"""Kernel arguments that images bring, and how a machine's change with them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import MalformedImage
from bridge.sysroot import kargs_d

ARGUMENTS = st.lists(st.sampled_from(["quiet", "a=1", "a=2", "b", "c=x"]), max_size=6, unique=True)


def read(tree: Path, machine: str = "x86_64") -> tuple[str, ...]:
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return kargs_d.read(fd, "the image", machine)
    finally:
        os.close(fd)


def test_files_count_in_the_order_of_their_names(tmp_path: Path) -> None:
    assert read(tmp_path) == ()
    place = tmp_path / kargs_d.DIRECTORY
    place.mkdir(parents=True)
    (place / "20-more.toml").write_text('kargs = ["console=ttyS0 quiet"]\n')
    (place / "10-first.toml").write_text('kargs = ["a", \'b="c d"\']\n')
    (place / "30-arm.toml").write_text('kargs = ["arm"]\nmatch-architectures = ["aarch64"]\n')
    (place / "40-both.toml").write_text(
        'kargs = ["both"]\nmatch-architectures = ["aarch64", "x86_64"]\n'
    )
    (place / "50-none.toml").write_text('kargs = ["none"]\nmatch-architectures = []\n')
    (place / "60-power.toml").write_text('kargs = ["power"]\nmatch-architectures = ["powerpc64"]\n')
    (place / "README").write_text("no TOML")
    assert read(tmp_path) == ("a", 'b="c d"', "console=ttyS0", "quiet", "both")
    assert read(tmp_path, "aarch64")[-2:] == ("arm", "both")
    assert read(tmp_path, "ppc64le")[-1] == "power", "as Rust names it"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kargs = 'a'",
        "kargs = [1]",
        "kargs = ['a']\nmatch-architectures = 'x'",
        "kargs = ['a']\nkrags = []",
        'kargs = ["a\\nb"]',
        'kargs = ["a\\u0000"]',
        "kargs = [",
        f"kargs = [{'9' * 5000}]",
        f"kargs = {'[' * 5000}",
    ],
)
def test_what_is_no_such_file_is_the_images_fault(tmp_path: Path, text: str) -> None:
    place = tmp_path / kargs_d.DIRECTORY
    place.mkdir(parents=True)
    (place / "x.toml").write_text(text)
    with pytest.raises(MalformedImage, match=r"the image: .*x\.toml") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_link_leads_out_of_the_image(tmp_path: Path) -> None:
    place = tmp_path / kargs_d.DIRECTORY
    place.mkdir(parents=True)
    (tmp_path / "outside").write_text('kargs = ["a"]')
    (place / "x.toml").symlink_to(tmp_path / "outside")
    with pytest.raises(MalformedImage, match=r"x\.toml: Too many levels"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("current", "before", "after", "expected"),
    [
        ((), (), ("a", "b"), ("a", "b")),
        (("root=x", "a"), ("a",), ("b",), ("root=x", "b")),
        (("root=x",), ("a",), ("a", "b"), ("root=x", "b")),  # a was deleted here: it stays so
        (("a", "a", "mine"), ("a",), (), ("a", "mine")),
        (("b", "mine"), ("a",), ("a", "b"), ("b", "mine")),
        (("console=tty0", "console=ttyS0"), ("console=ttyS0",), ("console=ttyS1",),
         ("console=tty0", "console=ttyS1")),
        (("a-b=1", "c_d"), ("a_b=1",), ("c-d", "e"), ("c_d", "e")),  # a kernel knows no difference
        (("x=a-b",), ("x=a_b",), (), ("x=a-b",)),  # but in values it does
        (("a", "b", "a"), ("a",), (), ("b", "a")),
    ],
)  # fmt: skip
def test_the_difference_is_applied(
    current: tuple[str, ...],
    before: tuple[str, ...],
    after: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    assert kargs_d.change(current, before, after) == expected


@given(ARGUMENTS, ARGUMENTS, ARGUMENTS)
def test_what_is_local_stays(local: list[str], before: list[str], after: list[str]) -> None:
    mine = [f"mine.{each}" for each in local]
    current = (*before, *mine)
    changed = kargs_d.change(current, tuple(before), tuple(after))
    assert [each for each in changed if each in mine] == mine
    assert Counter(each for each in changed if each not in mine) == Counter(after)
    assert kargs_d.change(current, tuple(before), tuple(before)) == current
