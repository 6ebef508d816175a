"""Trees in memory: what is loaded, what is written, what stays as it was."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from bridge.errors import MalformedImage
from bridge.ostree.objects import DirMeta, DirTree, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree

A, B, C, META = "a" * 64, "b" * 64, "c" * 64, "e" * 64


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checksums of the metadata objects that are read, in order."""
    seen: list[str] = []
    real = Repository.read_metadata

    def note(self: Repository, checksum: str, kind: ObjectType) -> bytes:
        seen.append(checksum)
        return real(self, checksum, kind)

    monkeypatch.setattr(Repository, "read_metadata", note)
    return seen


def small() -> Tree:
    """`etc/conf/x`, `usr/bin/sh`, `usr/lib/y`, `top`."""
    root = Tree(META)
    root.set_file("top", A)
    for path in ("etc/conf/x", "usr/bin/sh", "usr/lib/y"):
        *parents, name = path.split("/")
        here = root
        for each in parents:
            if each not in here.dirs:
                here.set_dir(each, Tree(META))
            here = here.dirs[each]
        here.set_file(name, B)
    return root


@pytest.fixture
def stored(repo: Repository) -> str:
    with Transaction(repo) as transaction:
        checksum = small().write(transaction)
        transaction.publish()
    return checksum


def written(transaction: Transaction) -> set[str]:
    return set(transaction._staged[ObjectType.DIRTREE])


def test_an_untouched_tree_is_neither_read_nor_written(
    repo: Repository, stored: str, reads: list[str]
) -> None:
    tree = Tree.stored(repo, stored, META)
    with Transaction(repo) as transaction:
        assert tree.write(transaction) == stored
        assert written(transaction) == set()
    assert not tree.is_loaded
    assert reads == []


def test_only_the_way_to_a_change_is_read_and_written(
    repo: Repository, stored: str, reads: list[str]
) -> None:
    usr = repo.read_dirtree(stored).dirs["usr"][0]
    etc = repo.read_dirtree(stored).dirs["etc"][0]
    reads.clear()
    tree = Tree.stored(repo, stored, META)
    tree.dirs["usr"].set_file("new", C)
    assert reads == [stored, usr]
    assert not tree.dirs["etc"].is_loaded
    assert not tree.dirs["usr"].dirs["lib"].is_loaded
    with Transaction(repo) as transaction:
        changed = tree.write(transaction)
        assert len(written(transaction)) == 2  # the root and usr
        transaction.publish()
    assert reads == [stored, usr]
    now = repo.read_dirtree(changed)
    assert now.dirs["etc"] == (etc, META)
    assert repo.read_dirtree(now.dirs["usr"][0]).files == {"new": C}


def test_looking_changes_nothing(repo: Repository, stored: str) -> None:
    tree = Tree.stored(repo, stored, META)
    assert [path for path, _tree in tree.walk()] == [
        "", "etc", "etc/conf", "usr", "usr/bin", "usr/lib",
    ]  # fmt: skip
    with Transaction(repo) as transaction:
        assert tree.write(transaction) == stored
        assert written(transaction) == set()


def test_a_directorys_metadata_can_change_without_loading_it(
    repo: Repository, stored: str, reads: list[str]
) -> None:
    tree = Tree.stored(repo, stored, META)
    tree.dirs["usr"].meta = C
    with Transaction(repo) as transaction:
        changed = tree.write(transaction)
        transaction.publish()
    assert reads == [stored]
    assert repo.read_dirtree(changed).dirs["usr"][1] == C


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("top", A),
        ("etc/conf/x", B),
        ("etc", "tree"),
        ("etc/conf", "tree"),
        ("nowhere", None),
        ("top/below", None),
        ("etc/conf/x/y", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("loaded", [True, False])
def test_find(repo: Repository, stored: str, path: str, found: Any, loaded: bool) -> None:
    tree = small() if loaded else Tree.stored(repo, stored, META)
    result = tree.find(path)
    assert isinstance(result, Tree) if found == "tree" else result == found


def test_whatever_is_put_replaces_what_has_the_name() -> None:
    tree = small()
    tree.set_file("usr", C)
    assert (tree.find("usr"), tree.find("usr/bin")) == (C, None)
    tree.set_dir("usr", Tree(META))
    assert isinstance(tree.find("usr"), Tree)
    assert "usr" not in tree.files
    tree.set_dir("top", Tree(META))
    assert sorted(tree.dirs) == ["etc", "top", "usr"]
    tree.remove("top")
    tree.remove("top")
    tree.remove("never there")
    assert (sorted(tree.dirs), tree.files) == (["etc", "usr"], {})


def test_a_cleared_tree_is_empty_and_was_not_read(
    repo: Repository, stored: str, reads: list[str]
) -> None:
    tree = Tree.stored(repo, stored, META)
    tree.clear()
    with Transaction(repo) as transaction:
        empty = tree.write(transaction)
        assert empty == transaction.write_dirtree(DirTree({}, {}))
    assert reads == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0"])
def test_bad_names_do_not_get_in(name: str) -> None:
    tree = Tree(META)
    with pytest.raises(MalformedImage):
        tree.set_file(name, A)
    with pytest.raises(MalformedImage):
        tree.set_dir(name, Tree(META))
    assert (tree.files, tree.dirs) == ({}, {})


def test_equal_trees_are_equal_objects(repo: Repository) -> None:
    one, other = Tree(META), Tree(META)
    for name in ("a", "Z", "ü", "_"):
        one.set_file(name, A)
    for name in ("ü", "_", "a", "Z"):
        other.set_file(name, A)
    with Transaction(repo) as transaction:
        assert one.write(transaction) == other.write(transaction)
        assert transaction.write_dirmeta(DirMeta(0, 0, stat.S_IFDIR)) != META
