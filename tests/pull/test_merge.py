"""Layers on top of one another: every case is layers, and the tree or the error they give."""

from __future__ import annotations

import pytest
from support.crafted.merging import LAYERS, REFUSED, Layers, Tree
from support.images import directory, file, hardlink, whiteout
from support.merging import merged
from support.trees import listing, nodes

from bridge.errors import MalformedImage
from bridge.ostree.objects import DirMeta, FileMeta
from bridge.ostree.repository import Repository


@pytest.mark.parametrize(("layers", "expected"), LAYERS.values(), ids=LAYERS)
def test_layers_give_the_tree(repo: Repository, layers: Layers, expected: Tree) -> None:
    assert listing(repo, merged(repo, *layers)) == expected


@pytest.mark.parametrize(("layers", "reason"), REFUSED.values(), ids=REFUSED)
def test_layers_are_refused(repo: Repository, layers: Layers, reason: str) -> None:
    with pytest.raises(MalformedImage, match=reason):
        merged(repo, *layers)


def test_a_directory_passed_through_keeps_the_lower_ones_metadata(repo: Repository) -> None:
    base = [directory("./", mode=0o750, uid=1), directory("d", mode=0o700, uid=2, gid=3)]
    found = nodes(repo, merged(repo, base, [file("d/x"), file("e/y")]))
    assert found[""][0] == DirMeta(1, 0, 0o40750)
    assert found["d"][0] == DirMeta(2, 3, 0o40700)
    assert found["e"][0] == DirMeta(0, 0, 0o40755)


def test_a_directorys_entry_gives_the_lower_one_its_metadata(repo: Repository) -> None:
    lower = [directory("d", mode=0o700), file("d/x")]
    found = nodes(repo, merged(repo, lower, [directory("/", mode=0o711), directory("d", uid=9)]))
    assert found[""][0] == DirMeta(0, 0, 0o40711)
    assert found["d"][0] == DirMeta(9, 0, 0o40755)
    assert "d/x" in found


def test_an_entry_after_its_content_still_counts(repo: Repository) -> None:
    found = nodes(repo, merged(repo, [file("d/x"), directory("d", mode=0o1777)]))
    assert found["d"][0] == DirMeta(0, 0, 0o41777)


def test_a_directory_made_anew_has_no_old_metadata(repo: Repository) -> None:
    lower = [directory("d", mode=0o700), directory("e", mode=0o700)]
    upper = [whiteout("d"), file("d/x"), whiteout("e"), directory("e", uid=4)]
    found = nodes(repo, merged(repo, lower, upper))
    assert found["d"][0] == DirMeta(0, 0, 0o40755)
    assert found["e"][0] == DirMeta(4, 0, 0o40755)


def test_a_hard_link_has_its_targets_metadata_and_object(repo: Repository) -> None:
    base = [file("a", "1", mode=0o4711, uid=3, gid=4, xattrs={"user.k": "v"})]
    found = nodes(repo, merged(repo, base, [hardlink("b", "a")]))
    meta = FileMeta(3, 4, 0o104711, ((b"user.k", b"v"),))
    assert found["a"] == found["b"] == (meta, b"1")
