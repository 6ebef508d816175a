"""fsck: each kind of damage is named, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.ostree import objects, refs, variant
from bridge.ostree.fsck import Fault, fsck
from bridge.ostree.objects import ObjectType
from bridge.ostree.prune import prune
from bridge.ostree.repository import Repository

from .conftest import ITEMS, store_all


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-4] ^= 0x10  # the last bits of a deflated payload mean nothing
    path.write_bytes(raw)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def remove_xattr(path: Path) -> None:
    for name in os.listxattr(path):
        os.removexattr(path, name)


def change_xattr(path: Path) -> None:
    for name in os.listxattr(path):
        raw = os.getxattr(path, name)
        os.setxattr(path, name, raw[:-1] + bytes([raw[-1] ^ 1]))


def file_checksum(name: str) -> str:
    return objects.file_checksum(ITEMS[name].meta, ITEMS[name].payload)


def only_fault(repo: Repository, checksum: str, kind: ObjectType) -> Fault:
    result = fsck(repo)
    assert [(each.checksum, each.kind) for each in result.faults] == [(checksum, kind)]
    fault = result.faults[0]
    assert str(fault).startswith(f"{kind.value} {checksum}: ")
    assert "\n" not in str(fault)
    return fault


def test_a_clean_repository(repo: Repository) -> None:
    store_all(repo)
    sizes: list[int] = []
    result = fsck(repo, sizes.append)
    assert result.faults == ()
    assert result.refs == 1
    assert result.objects == len(sizes) == len(list(repo.objects()))
    assert result.bytes == sum(sizes) > sum(len(item.payload) for item in ITEMS.values())


CONTENT_DAMAGE: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (flip, ("bare", "bare-user", "archive")),
    (truncate, ("bare", "bare-user", "archive")),
    (lengthen, ("bare", "bare-user")),
    (replace_by_directory, ("bare", "bare-user", "archive")),
    (replace_by_fifo, ("bare", "bare-user", "archive")),
    (replace_by_link, ("bare", "bare-user", "archive")),
    # These are part of an object only where the mode keeps them so.
    (lambda path: path.chmod(0o600), ("bare",)),
    (lambda path: os.chown(path, 1, -1), ("bare",)),
    (lambda path: os.setxattr(path, "user.new", b"1"), ("bare",)),
    (remove_xattr, ("bare", "bare-user")),
    (change_xattr, ("bare", "bare-user")),
]


@pytest.mark.parametrize(
    ("damage", "found_in"),
    CONTENT_DAMAGE,
    ids=["flip", "truncate", "lengthen", "directory", "fifo", "link", "chmod", "chown", "new xattr",
         "no xattr", "other xattr"],
)  # fmt: skip
def test_damaged_content_is_named(
    repo: Repository, damage: Callable[[Path], None], found_in: tuple[str, ...]
) -> None:
    store_all(repo)
    checksum = file_checksum("xattrs")
    damage(Path(repo.path) / repo.object_path(checksum, ObjectType.FILE))
    if repo.mode not in found_in:
        assert fsck(repo).faults == ()
        return
    assert only_fault(repo, checksum, ObjectType.FILE).reason.startswith("damaged")


@pytest.mark.parametrize("name", ["big", "empty", "link", "setuid"])
def test_missing_content_is_named(repo: Repository, name: str) -> None:
    store_all(repo)
    checksum = file_checksum(name)
    (Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)).unlink()
    assert only_fault(repo, checksum, ObjectType.FILE).reason == "missing"


def test_a_changed_link_is_named(repo: Repository) -> None:
    store_all(repo)
    checksum = file_checksum("link")
    path = Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)
    if repo.mode == "bare":
        path.unlink()
        path.symlink_to("elsewhere")
    else:
        flip(path)
    only_fault(repo, checksum, ObjectType.FILE)


@pytest.mark.parametrize("kind", [ObjectType.COMMIT, ObjectType.DIRTREE, ObjectType.DIRMETA])
@pytest.mark.parametrize(
    "damage", [flip, truncate, lengthen, Path.unlink, replace_by_directory, replace_by_fifo]
)
def test_damaged_metadata_is_named(
    repo: Repository, kind: ObjectType, damage: Callable[[Path], None]
) -> None:
    commit = store_all(repo)
    found = repo.read_commit(commit)
    checksum = {"commit": commit, "dirtree": found.tree, "dirmeta": found.meta}[kind.value]
    damage(Path(repo.path) / repo.object_path(checksum, kind))
    fault = only_fault(repo, checksum, kind)
    assert fault.reason.startswith("missing" if damage is Path.unlink else "damaged")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ObjectType.COMMIT, b"junk"),
        (ObjectType.DIRTREE, b"\xff"),
        (ObjectType.DIRMETA, b""),
        (ObjectType.DIRTREE, variant.encode("(a(say)a(sayay))", ([("..", bytes(32))], []))),
    ],
)
def test_an_object_with_the_right_hash_and_no_meaning_is_named(
    repo: Repository, kind: ObjectType, data: bytes
) -> None:
    import hashlib

    store_all(repo)
    checksum = hashlib.sha256(data).hexdigest()
    path = Path(repo.path) / repo.object_path(checksum, kind)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    if kind is ObjectType.COMMIT:
        refs.write(repo, "junk", checksum)
    only_fault(repo, checksum, kind)


def test_a_ref_to_nothing_is_named(repo: Repository) -> None:
    refs.write(repo, "nothing", "ab" * 32)
    assert only_fault(repo, "ab" * 32, ObjectType.COMMIT).reason == "missing"


def test_all_damage_is_named_at_once(repo: Repository) -> None:
    store_all(repo)
    for name in ("plain", "setuid", "readonly"):
        (Path(repo.path) / repo.object_path(file_checksum(name), ObjectType.FILE)).unlink()
    assert {each.checksum for each in fsck(repo).faults} == {
        file_checksum(name) for name in ("plain", "setuid", "readonly")
    }


def test_a_ref_that_holds_no_checksum_is_named(repo: Repository) -> None:
    store_all(repo)
    for name, content in (("empty", b""), ("binary", b"\0\xff"), ("text", b"master\n")):
        (Path(repo.path) / "refs/heads" / name).write_bytes(content)
    os.mkfifo(Path(repo.path) / "refs/heads/fifo")
    result = fsck(repo)
    assert result.faults == ()
    assert result.refs == 5
    names = {f"refs/heads/{name}" for name in ("empty", "binary", "text", "fifo")}
    assert set(result.broken_refs) == names
    assert all(name in reason for name, reason in result.broken_refs.items())


def test_a_commit_that_no_ref_names_needs_its_objects(repo: Repository) -> None:
    commit = store_all(repo)
    refs.delete(repo, "test/all")
    assert fsck(repo).faults == ()
    missing = file_checksum("plain")
    (Path(repo.path) / repo.object_path(missing, ObjectType.FILE)).unlink()
    assert only_fault(repo, missing, ObjectType.FILE).reason == "missing"
    mark = Path(repo.path) / f"state/{commit}.commitpartial"
    mark.write_bytes(b"")
    assert fsck(repo).faults == (), "it is partial: never all of it was wanted"
    mark.write_bytes(b"f")
    assert only_fault(repo, missing, ObjectType.FILE).reason == "missing"


def test_what_comes_and_goes_meanwhile_is_no_fault(repo: Repository) -> None:
    """A prune takes objects that were listed; a writer adds a commit that was not."""
    store_all(repo)
    done: list[int] = []

    def meddle(size: int) -> None:
        done.append(size)
        if len(done) == 1:
            refs.delete(repo, "test/all")
            prune(repo)
            store_all(repo, "test/other")
            refs.delete(repo, "test/other")
            prune(repo)

    result = fsck(repo, meddle)
    assert (result.faults, result.broken_refs) == ((), {})
    assert len(done) == result.objects > 0
