"""Links that lead deeper than a path may be: paths are limited, and what they lead to as well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.images import Member, directory, file, symlink
from support.merging import merged
from support.trees import listing

from bridge.errors import MalformedImage
from bridge.ostree.checkout import checkout
from bridge.ostree.repository import Repository

DEEP = "d/" * 255
BELOW = "e/" * 250


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    with Repository.create(tmp_path / "repo", "bare-user") as made:
        yield made


@pytest.mark.parametrize(
    "layers",
    [
        [[symlink("a", "x/" * 2000), file("a/f")]],
        [[symlink("a", "x/" * 2000)], [file("a/f")]],
        [[file(f"{DEEP}f")], [symlink("a", DEEP)], [file(f"a/{BELOW}f")]],
        [[symlink("a", "x/" * 250), symlink("b", "a/" + "y/" * 250), file("b/f")]],
    ],
    ids=["in a layer", "of a lower layer", "to a deep directory", "one after the other"],
)
def test_too_deep_is_refused(repo: Repository, layers: list[list[Member]]) -> None:
    with pytest.raises(MalformedImage, match=r"more than 256 levels|names behind links"):
        merged(repo, *layers)


def test_the_deepest_that_is_taken_can_be_checked_out(repo: Repository, tmp_path: Path) -> None:
    entries = [directory("e/" * depth) for depth in range(1, 251)]
    moved = [directory(f"a/{member.path}") for member in entries]
    commit = merged(
        repo, [file(f"{DEEP}f")], [symlink("a", DEEP)], [*moved, file(f"a/{BELOW}f", "x")]
    )
    assert listing(repo, commit)[f"{DEEP}{BELOW}f"] == "x"
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        checkout(repo, commit, fd, "out")
    finally:
        os.close(fd)
