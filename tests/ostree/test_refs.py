"""Refs: the grammar, the files, what is left behind."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from bridge.errors import BridgeError, DamagedRepository, NotFound, UsageError
from bridge.ostree import durable, refs
from bridge.ostree.repository import Repository

A, B = "a" * 64, "b" * 64


@pytest.fixture
def heads(repo: Repository) -> Path:
    return Path(repo.path) / "refs/heads"


@pytest.mark.parametrize(
    "name",
    ["a", "A_1", "_x", "9", "a/b", "ostree/0/1/0", "a.b-c_d", "ostree/container/blob/sha256_3A_ab",
     "a" * 63, "a" * 64 + "/b", "g" * 64],
)  # fmt: skip
def test_valid_names(name: str) -> None:
    assert refs.check_ref(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", ".a", "-a", "a/.b", "a/-b", "a:b",
     "a b", "ü", "a\n", "a\0", "a@b", A],
)  # fmt: skip
def test_names_that_libostree_refuses(name: str) -> None:
    with pytest.raises(UsageError):
        refs.check_ref(name)


def test_write_resolve_replace_delete(repo: Repository, heads: Path) -> None:
    assert refs.resolve(repo, "a/b/c") is None
    refs.write(repo, "a/b/c", A)
    assert (heads / "a/b/c").read_text() == f"{A}\n"
    assert refs.resolve(repo, "a/b/c") == A
    refs.write(repo, "a/b/c", B)
    assert refs.require(repo, "a/b/c") == B
    assert [each.name for each in (heads / "a/b").iterdir()] == ["c"]
    refs.delete(repo, "a/b/c")
    refs.delete(repo, "a/b/c")
    assert list(heads.iterdir()) == []
    with pytest.raises(NotFound, match="no ref a/b/c"):
        refs.require(repo, "a/b/c")


def test_delete_keeps_the_directories_that_others_need(repo: Repository, heads: Path) -> None:
    for name in ("a/b/c", "a/d"):
        refs.write(repo, name, A)
    refs.delete(repo, "a/b/c")
    assert [each.name for each in (heads / "a").iterdir()] == ["d"]


def test_listing_is_sorted_and_by_prefix(repo: Repository) -> None:
    for name in ("x/b", "x/a", "xy", "w"):
        refs.write(repo, name, A)
    assert list(refs.listing(repo)) == ["w", "x/a", "x/b", "xy"]
    assert refs.listing(repo, "x/") == {"x/a": A, "x/b": A}
    assert refs.resolve(repo, "x") is None


def test_unfinished_replacements_are_no_refs(repo: Repository, heads: Path) -> None:
    refs.write(repo, "a", A)
    (heads / ".a.0123").write_text("half")
    assert refs.listing(repo) == {"a": A}


def test_roots_are_refs_of_every_kind(repo: Repository) -> None:
    refs.write(repo, "local", A)
    for path in ("refs/remotes/origin/os/x", "refs/mirrors/org.example/os"):
        file = Path(repo.path) / path
        file.parent.mkdir(parents=True)
        file.write_text(f"{B}\n")
    assert refs.roots(repo) == {
        "refs/heads/local": A,
        "refs/remotes/origin/os/x": B,
        "refs/mirrors/org.example/os": B,
    }


def test_an_alias_is_followed(repo: Repository, heads: Path) -> None:
    refs.write(repo, "a", A)
    (heads / "alias").symlink_to("a")
    (heads / "dangling").symlink_to("nowhere")
    assert refs.listing(repo) == {"a": A, "alias": A}


@pytest.mark.parametrize("text", ["", "junk", A[1:], A + "0", "\xff" * 70, A.upper()])
def test_a_ref_that_holds_no_checksum(repo: Repository, heads: Path, text: str) -> None:
    (heads / "a").write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedRepository, match="refs/heads/a"):
        refs.resolve(repo, "a")


def test_only_checksums_are_written(repo: Repository, heads: Path) -> None:
    with pytest.raises(DamagedRepository):
        refs.write(repo, "a/b", "no checksum")
    assert list(heads.iterdir()) == []


def test_names_that_stand_in_each_others_way(repo: Repository) -> None:
    refs.write(repo, "a/b", A)
    with pytest.raises(BridgeError, match=r"there is a ref a/b"):
        refs.write(repo, "a", B)
    with pytest.raises(BridgeError, match="a part of its name is a ref"):
        refs.write(repo, "a/b/c", B)
    assert refs.listing(repo) == {"a/b": A}


def test_directories_left_empty_give_way(repo: Repository, heads: Path) -> None:
    (heads / "a/b").mkdir(parents=True)
    (heads / "a/b/.c.0123").write_text("half")
    refs.write(repo, "a", A)
    assert refs.listing(repo) == {"a": A}


def test_a_failed_write_leaves_the_old_value(
    repo: Repository, heads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs.write(repo, "a", A)

    def fail(fd: int) -> None:
        raise OSError(5, "disk on fire")

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(OSError, match="fire"):
        refs.write(repo, "a", B)
    assert [each.name for each in heads.iterdir()] == ["a"]
    assert refs.resolve(repo, "a") == A


def test_what_a_writer_left_unfinished_is_removed_and_nothing_else(
    repo: Repository, heads: Path
) -> None:
    refs.write(repo, "a/b", A)
    for name in (".c.new", "a/.b.new", "a/.new", "a/.other", "a/x.new"):
        (heads / name).write_text("half")
    with (heads / "a/.busy.new").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        refs.remove_unfinished(repo)
    left = {str(path.relative_to(heads)) for path in heads.rglob("*") if path.is_file()}
    assert left == {"a/b", "a/.busy.new", "a/.new", "a/.other", "a/x.new"}
    refs.remove_unfinished(repo)
    assert not (heads / "a/.busy.new").exists()
    assert refs.resolve(repo, "a/b") == A
