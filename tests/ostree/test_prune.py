"""Prune: refs keep; the rest goes, commits first; nobody prunes under a writer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bridge.errors import Busy, DamagedRepository
from bridge.ostree import fsck, refs
from bridge.ostree.objects import Commit, DirMeta, DirTree, ObjectType
from bridge.ostree.prune import PruneResult, prune
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

from .conftest import ITEMS, objects_below, regular, store_all


def commit_file(repo: Repository, text: bytes, ref: str = "", parent: str | None = None) -> str:
    """Publish a commit with the file `common`, and one with `text`."""
    with Transaction(repo) as transaction:
        files = {
            "common": transaction.write_payload(regular(0o644), b"common"),
            "own": transaction.write_payload(regular(0o644), text),
        }
        meta = transaction.write_dirmeta(DirMeta(0, 0, stat.S_IFDIR | 0o755))
        tree = transaction.write_dirtree(DirTree(files, {}))
        commit = transaction.write_commit(Commit(tree, meta, parent=parent))
        if ref:
            transaction.set_ref(ref, commit)
        transaction.publish()
    return commit


def test_what_refs_need_stays(repo: Repository) -> None:
    kept = store_all(repo, "kept")
    before = objects_below(repo)
    assert prune(repo) == PruneResult(0, len(before), 0)
    commit_file(repo, b"gone")
    assert objects_below(repo) > before
    result = prune(repo)
    assert (result.objects, result.total) == (4, len(before) + 4)
    assert result.bytes > 0
    assert objects_below(repo) == before
    assert repo.read_commit(kept)
    assert fsck.fsck(repo).faults == ()
    refs.delete(repo, "kept")
    assert prune(repo).objects == len(before)
    assert objects_below(repo) == set()


def test_shared_objects_stay_and_parents_do_not_count(repo: Repository) -> None:
    parent = commit_file(repo, b"one")
    child = commit_file(repo, b"two", "child", parent)
    assert prune(repo).objects == 3  # commit, dirtree and file of the parent
    assert not repo.has_object(parent, ObjectType.COMMIT)
    assert repo.has_object(child, ObjectType.COMMIT)
    assert fsck.fsck(repo).faults == ()


@pytest.mark.parametrize("kind", ["remotes/origin", "mirrors/org.example"])
def test_other_refs_keep_too(repo: Repository, kind: str) -> None:
    commit = commit_file(repo, b"one")
    path = Path(repo.path) / "refs" / kind / "os"
    path.parent.mkdir(parents=True)
    path.write_text(f"{commit}\n")
    assert prune(repo).objects == 0


def test_commits_go_first_files_last(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    store_all(repo, "gone")
    refs.delete(repo, "gone")
    gone: list[str] = []
    real = os.unlink

    def note(path: str, **options: int) -> None:
        real(path, **options)
        gone.append(path.rpartition(".")[2].removesuffix("z"))

    monkeypatch.setattr(os, "unlink", note)
    prune(repo)
    assert gone == ["commit"] + ["dirtree"] * 3 + ["dirmeta"] * 2 + ["file"] * len(ITEMS)


def test_a_commits_companions_go_with_it(repo: Repository) -> None:
    commit = commit_file(repo, b"gone")
    meta = Path(repo.path) / f"objects/{commit[:2]}/{commit[2:]}.commitmeta"
    partial = Path(repo.path) / f"state/{commit}.commitpartial"
    meta.write_bytes(b"")
    partial.write_bytes(b"")
    prune(repo)
    assert not meta.exists()
    assert not partial.exists()


def test_a_writer_keeps_prunes_out(repo: Repository) -> None:
    commit_file(repo, b"gone")
    before = objects_below(repo)
    with Transaction(repo), pytest.raises(Busy, match="locked"):
        prune(repo)
    assert objects_below(repo) == before
    assert prune(repo).objects == len(before)


@pytest.mark.parametrize("kind", [ObjectType.COMMIT, ObjectType.DIRTREE])
@pytest.mark.parametrize("how", ["missing", "changed"])
def test_a_damaged_tree_stops_it_before_anything_goes(
    repo: Repository, kind: ObjectType, how: str
) -> None:
    commit_file(repo, b"gone")
    commit = commit_file(repo, b"kept", "kept")
    checksum = commit if kind is ObjectType.COMMIT else repo.read_commit(commit).tree
    path = Path(repo.path) / repo.object_path(checksum, kind)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"\0")
    before = objects_below(repo)
    with pytest.raises(DamagedRepository, match=checksum):
        prune(repo)
    assert objects_below(repo) == before


def test_bytes_that_a_deployment_still_holds_do_not_count(repo: Repository, tmp_path: Path) -> None:
    commit_file(repo, b"x" * 100_000)
    for path in (Path(repo.path) / "objects").glob("*/*"):
        os.link(path, tmp_path / path.name, follow_symlinks=False)
    assert prune(repo).bytes == 0


def test_abandoned_staging_goes(repo: Repository) -> None:
    left = Path(repo.path) / "tmp/bootc-py-staging-0123"
    left.mkdir()
    (left / "stream-1").write_bytes(b"half")
    prune(repo)
    assert not left.exists()


@pytest.mark.parametrize("damage", ["empty", "garbage", "no heads", "heads a file"])
def test_nothing_goes_while_refs_do_not_say_what_they_keep(repo: Repository, damage: str) -> None:
    store_all(repo)
    heads = Path(repo.path) / "refs/heads"
    if damage in ("empty", "garbage"):
        (heads / "test/all").write_text("" if damage == "empty" else "garbage\n")
    else:
        heads.rename(heads.with_name("elsewhere"))
        if damage == "heads a file":
            heads.write_text("")
    before = objects_below(repo)
    with pytest.raises(DamagedRepository):
        prune(repo)
    assert objects_below(repo) == before
