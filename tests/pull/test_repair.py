"""Repair: each kind of damage is healed from the image's source, with no more than it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.oci.reference import ImageReference, parse_reference
from bridge.ostree import refs
from bridge.ostree.fsck import fsck
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import reachable
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.cover import cheapest
from bridge.pull.pull import pull
from bridge.pull.refnames import IMAGES, LAYERS, image_ref, layer_ref
from bridge.pull.repair import Repair, repair
from bridge.pull.report import append_history
from tests.support.images import (
    Image,
    directory,
    file,
    hardlink,
    image,
    symlink,
    whiteout,
    write_layout,
)

LOWER = [
    directory("usr", 0o711),
    directory("usr/bin"),
    file("usr/bin/app", b"first\n", 0o755),
    file("usr/bin/tool", b"tool" * 1000, 0o4755),
    file("usr/lib/gone", b"gone\n"),
    symlink("usr/lib64", "lib"),
    file("usr/lib/big", bytes(range(256)) * 8000),
    file("etc/hosts", b"127.0.0.1 localhost\n"),
]
UPPER = [
    whiteout("usr/lib/gone"),
    file("usr/bin/app", b"second\n", 0o755, xattrs={"user.x": "y"}),
    hardlink("usr/bin/again", "usr/bin/tool"),
    directory("usr/share/doc", 0o750, uid=3),
    file("usr/share/doc/one", b"one\n"),
    file("usr/share/doc/two", b"two\n"),
]


@pytest.fixture
def published(tmp_path: Path) -> tuple[ImageReference, Image]:
    made = image(LOWER, UPPER)
    write_layout(tmp_path / "layout", made)
    return parse_reference(f"oci:{tmp_path}/layout:latest"), made


@pytest.fixture
def stored(repo: Repository, published: tuple[ImageReference, Image]) -> str:
    """The commit of an image in `repo`, with its line in the history."""
    report = pull(repo, published[0])
    append_history(repo, "image pull", report)
    return report.commit


def everything(repo: Repository) -> list[tuple[str, ObjectType]]:
    return sorted(repo.objects(), key=lambda each: (each[1].value, each[0]))


def snapshot(repo: Repository) -> dict[str, bytes]:
    top = Path(repo.path)
    return {
        str(path.relative_to(top)): path.read_bytes()
        for part in ("objects", "refs")
        for path in sorted((top / part).rglob("*"))
        if path.is_file()
    }


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    if raw:
        raw[len(raw) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(raw)
    else:
        path.write_bytes(b"x")


def make_directory(path: Path) -> None:
    path.unlink()
    (path / "full").mkdir(parents=True)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def strip(path: Path) -> None:
    if path.suffix == ".file":
        os.removexattr(path, "user.ostreemeta")
    else:
        path.unlink()


DAMAGE: Mapping[str, Callable[[Path], None]] = {
    "flip": flip,
    "empty": lambda path: path.write_bytes(b"") if path.stat().st_size else flip(path),
    "delete": Path.unlink,
    "directory": make_directory,
    "fifo": make_fifo,
    "metadata": strip,
}


def path_of(repo: Repository, checksum: str, kind: ObjectType) -> Path:
    return Path(repo.path) / repo.object_path(checksum, kind)


def name_to_checksum(name: str) -> str:
    return "".join(name.split("/")[1:]).partition(".")[0]


def heal(repo: Repository, **more: Any) -> Repair:
    return repair(repo, fsck(repo).faults, **more)


@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flip", "delete"])
def test_each_object_alone(repo: Repository, stored: str, damage: Callable[[Path], None]) -> None:
    before = snapshot(repo)
    for checksum, kind in everything(repo)[damage is flip :: 2]:
        damage(path_of(repo, checksum, kind))
        assert {each.checksum for each in fsck(repo).faults} == {checksum}
        done = heal(repo)
        assert [each.checksum for each in done.repaired] == [checksum]
        assert (done.unrepaired, done.problems, done.broken_refs) == ((), (), {})
        assert len(done.layers) <= 1
        assert snapshot(repo) == before
    assert repo.damaged == set()


def test_all_objects_at_once(repo: Repository, stored: str) -> None:
    before = snapshot(repo)
    objects = everything(repo)
    for number, (checksum, kind) in enumerate(objects):
        list(DAMAGE.values())[number % len(DAMAGE)](path_of(repo, checksum, kind))
    found = {each.checksum for each in fsck(repo).faults}
    done = heal(repo)
    assert (done.unrepaired, done.problems) == ((), ())
    # Those that were missing below what was missing are found on the way.
    assert found <= {each.checksum for each in done.repaired} == {each for each, _ in objects}
    assert [each.plan.mode.value for each in done.layers] == ["whole", "whole"]
    assert snapshot(repo) == before


def test_what_needs_no_source_is_healed_without_one(
    repo: Repository, stored: str, tmp_path: Path
) -> None:
    """The merge commit and what only its tree has, made again of the layers."""
    shutil.rmtree(tmp_path / "layout")
    before = snapshot(repo)
    commits = {each for name, each in refs.listing(repo).items() if name.startswith(LAYERS)}
    own = reachable(repo, [stored])[ObjectType.DIRTREE]
    own -= reachable(repo, commits)[ObjectType.DIRTREE]
    assert own
    for checksum in own:
        path_of(repo, checksum, ObjectType.DIRTREE).unlink()
    done = heal(repo)
    assert {each.checksum for each in done.repaired} == own
    assert (done.layers, done.requests, done.problems) == ((), 0, ())
    assert snapshot(repo) == before


def test_only_the_layers_that_are_needed_are_read_and_no_more_of_them(
    repo: Repository, stored: str, published: tuple[ImageReference, Image]
) -> None:
    tree = repo.read_dirtree(repo.read_commit(stored).tree)
    for part in ("usr", "bin"):
        tree = repo.read_dirtree(tree.dirs[part][0])
    victim = tree.files["tool"]
    before = snapshot(repo)
    flip(path_of(repo, victim, ObjectType.FILE))
    done = heal(repo)
    (report,) = done.layers
    assert (report.plan.layer.digest, report.plan.mode.value) == (
        published[1].layers[0],
        "partial",
    )
    assert [each.checksum for each in done.repaired] == [victim]
    assert snapshot(repo) == before


def test_a_layer_that_is_wrong_brings_nothing_in(
    repo: Repository, stored: str, published: tuple[ImageReference, Image], tmp_path: Path
) -> None:
    """Whole or in part, what comes is the object that is missed, or it does not come."""
    other = image([file("usr/bin/tool", b"evil" * 1000, 0o4755), file("usr/extra", b"x")], UPPER)
    digest = published[1].layers[0].replace(":", "/")
    wrong = other.blobs[other.layers[0]]
    (tmp_path / "layout/blobs" / digest).write_bytes(wrong)
    before = snapshot(repo)
    for checksum, kind in everything(repo):
        if kind is ObjectType.FILE:
            path_of(repo, checksum, kind).unlink()
    done = heal(repo)
    assert done.problems
    assert done.unrepaired
    assert {each.checksum for each in done.repaired} < {name_to_checksum(each) for each in before}
    assert snapshot(repo).items() < before.items()
    assert len(done.layers) == 1


def test_what_cannot_be_repaired_is_named_and_the_rest_is_repaired(
    repo: Repository, stored: str, tmp_path: Path
) -> None:
    from bridge.ostree.objects import Commit, DirTree
    from bridge.ostree.transaction import Transaction

    with Transaction(repo) as transaction:
        tree = transaction.write_dirtree(DirTree({"mine": "ab" * 32}, {}))
        meta = repo.read_commit(stored).meta
        transaction.set_ref("mine", transaction.write_commit(Commit(tree, meta, {})))
        transaction.publish()
    victim = next(each for each, kind in everything(repo) if kind is ObjectType.FILE)
    flip(path_of(repo, victim, ObjectType.FILE))
    done = heal(repo)
    assert [each.checksum for each in done.repaired] == [victim]
    assert [(each.checksum, each.reason) for each in done.unrepaired] == [("ab" * 32, "missing")]
    assert refs.resolve(repo, "mine")


def test_damage_that_nothing_needs_goes(repo: Repository, stored: str) -> None:
    from bridge.ostree.objects import Commit, DirTree, FileMeta
    from bridge.ostree.transaction import Transaction

    before = snapshot(repo)
    with Transaction(repo) as transaction:
        stray = transaction.write_payload(FileMeta(0, 0, 0o100644), b"stray")
        tree = transaction.write_dirtree(DirTree({"stray": "ab" * 32}, {}))
        commit = transaction.write_commit(Commit(tree, repo.read_commit(stored).meta, {}))
        transaction.publish()
    flip(path_of(repo, stray, ObjectType.FILE))
    assert {each.checksum for each in fsck(repo).faults} == {stray, "ab" * 32}
    done = heal(repo)
    assert done.unrepaired == ()
    assert not repo.has_object(stray, ObjectType.FILE)
    assert not repo.has_object(commit, ObjectType.COMMIT)
    assert repo.has_object(tree, ObjectType.DIRTREE), "it is whole: a prune may take it"
    assert before.items() <= snapshot(repo).items()


GARBAGE = [b"", b"garbage\n", b"\xff\xfe", b"ab" * 32 + b"cd\n", None]


@pytest.mark.parametrize("content", GARBAGE, ids=["empty", "text", "binary", "long", "missing"])
def test_refs_are_written_again(repo: Repository, stored: str, content: bytes | None) -> None:
    before = snapshot(repo)
    names = list(refs.listing(repo))
    assert len(names) == 3
    for name in names:
        path = Path(repo.path) / "refs/heads" / name
        if content is None and name.startswith(IMAGES):
            continue  # nothing else says that it was there: see the next test
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
    if content is not None:
        assert {name.removeprefix("refs/heads/") for name in fsck(repo).broken_refs} == set(names)
    done = heal(repo)
    assert (done.unrepaired, done.broken_refs, done.layers) == ((), {}, ())
    assert snapshot(repo) == before


def test_an_image_ref_is_written_again_where_it_is_deployed(
    repo: Repository, stored: str, published: tuple[ImageReference, Image]
) -> None:
    before = snapshot(repo)
    refs.delete(repo, image_ref(published[0]))
    done = repair(repo, (), origins=[(stored, published[0])])
    assert done.refs == (f"refs/heads/{image_ref(published[0])}",)
    assert snapshot(repo) == before


def test_layers_that_are_gone_are_had_again(
    repo: Repository, stored: str, published: tuple[ImageReference, Image]
) -> None:
    before = snapshot(repo)
    for digest in published[1].layers:
        refs.delete(repo, layer_ref(images.Digest(digest)))
    from bridge.ostree.prune import prune

    prune(repo)
    assert fsck(repo).faults == ()
    done = repair(repo, ())
    assert len(done.layers) == 2
    assert snapshot(repo) == before


def test_a_broken_ref_that_nothing_tells_of_stays(repo: Repository, stored: str) -> None:
    (Path(repo.path) / "refs/heads/mine").write_text("garbage")
    lost = Path(repo.path) / "refs/heads" / layer_ref(images.Digest.of(b"no layer of ours"))
    lost.write_text("garbage")
    done = heal(repo)
    assert list(done.broken_refs) == ["refs/heads/mine"]
    assert not lost.exists()
    assert (Path(repo.path) / "refs/heads/mine").read_text() == "garbage"


def test_a_lost_commit_whose_tag_has_moved(
    repo: Repository, stored: str, published: tuple[ImageReference, Image], tmp_path: Path
) -> None:
    """It is not made of another image, and nothing of that comes in."""
    path_of(repo, stored, ObjectType.COMMIT).unlink()
    before = snapshot(repo)
    shutil.rmtree(tmp_path / "layout")
    write_layout(tmp_path / "layout", image(LOWER, [file("usr/new", b"new")]))
    done = heal(repo)
    assert [each.checksum for each in done.unrepaired] == [stored]
    assert (done.repaired, done.layers) == ((), ())
    assert snapshot(repo) == before
    assert refs.resolve(repo, image_ref(published[0])) == stored


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=2), st.sets(st.integers(0, 12)), max_size=8
    ),
    st.lists(st.integers(1, 1000), min_size=8, max_size=8),
)
def test_cover(held: dict[str, set[int]], numbers: list[int]) -> None:
    wanted = {name: {str(each) for each in held[name]} for name in held}
    sizes = dict(zip(wanted, numbers, strict=False))
    chosen = cheapest(wanted, sizes)
    every = [each for checksums in chosen.values() for each in checksums]
    assert sorted(every) == sorted(set().union(*wanted.values()))
    assert all(chosen[name] and chosen[name] <= wanted[name] for name in chosen)
    for checksum in set(every):
        holders = [name for name in wanted if checksum in wanted[name]]
        assert len(holders) > 1 or checksum in chosen[holders[0]]
