"""Checkout: every kind of thing as it was stored; what is damaged is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import BridgeError, DamagedRepository, NoSpace, NotFound
from bridge.ostree import objects
from bridge.ostree.checkout import checkout
from bridge.ostree.objects import DirMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction

from .conftest import ITEMS, ROOT, regular, store_all


@pytest.fixture
def commit(repo: Repository) -> str:
    return store_all(repo)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    (tmp_path / "out").mkdir()
    fd = os.open(tmp_path / "out", os.O_RDONLY | os.O_DIRECTORY)
    yield fd, tmp_path / "out"
    os.close(fd)


def object_file(repo: Repository, name: str) -> Path:
    item = ITEMS[name]
    checksum = objects.file_checksum(item.meta, item.payload)
    return Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)


def check_files(top: Path, *, undated: bool = True) -> None:
    assert {each.name for each in top.iterdir()} - {"sub"} == set(ITEMS)
    for name, item in ITEMS.items():
        path = top / name
        status = path.lstat()
        assert stat.S_IFMT(status.st_mode) == stat.S_IFMT(item.meta.mode)
        if ROOT:
            assert (status.st_uid, status.st_gid) == (item.meta.uid, item.meta.gid)
        if item.meta.is_symlink:
            assert os.readlink(path) == item.meta.target
            continue
        own = stat.S_IMODE(item.meta.mode)
        assert stat.S_IMODE(status.st_mode) == (own if ROOT else own & 0o777)
        assert (status.st_mtime_ns == 0) == undated
        if ROOT:
            assert path.read_bytes() == item.payload
            found = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            assert found == {key.decode(): value for key, value in item.meta.xattrs}


@pytest.mark.parametrize("hardlink", [True, False])
def test_every_kind_of_thing(
    repo: Repository, commit: str, out: tuple[int, Path], hardlink: bool
) -> None:
    fd, path = out
    checkout(repo, commit, fd, "tree", hardlink=hardlink)
    # Copies that were asked for are somebody's own files, and as old as they are.
    check_files(path / "tree", undated=hardlink)
    check_files(path / "tree/sub/dir", undated=hardlink)
    sticky = (path / "tree/sub/dir").stat()
    assert stat.S_IMODE(sticky.st_mode) == 0o1777
    assert sticky.st_mtime_ns == 0
    if ROOT:
        assert (sticky.st_uid, sticky.st_gid) == (9, 10)
        assert os.getxattr(path / "tree/sub/dir", "user.d") == b"v"
    linked = hardlink and repo.mode == "bare"
    for name in ITEMS:
        same = (path / "tree" / name).lstat().st_ino == object_file(repo, name).lstat().st_ino
        assert same == linked, name


def test_a_part_of_the_tree(repo: Repository, commit: str, out: tuple[int, Path]) -> None:
    fd, path = out
    checkout(repo, commit, fd, "part", subpath="sub/dir")
    check_files(path / "part")
    assert stat.S_IMODE((path / "part").stat().st_mode) == 0o1777


@pytest.mark.parametrize("subpath", ["nowhere", "sub/nowhere", "plain", "sub/dir/plain", ".."])
def test_a_part_that_is_no_directory(
    repo: Repository, commit: str, out: tuple[int, Path], subpath: str
) -> None:
    with pytest.raises(NotFound, match="no directory"):
        checkout(repo, commit, out[0], "part", subpath=subpath)
    assert list(out[1].iterdir()) == []


def test_a_damaged_file_is_not_copied(repo: Repository, commit: str, out: tuple[int, Path]) -> None:
    fd, path = out
    victim = object_file(repo, "plain")
    raw = bytearray(victim.read_bytes())
    raw[-4] ^= 1
    times = victim.stat()
    victim.write_bytes(raw)
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DamagedRepository):
        checkout(repo, commit, fd, "tree", hardlink=False)
    assert not (path / "tree/plain").exists()


@pytest.mark.parametrize("hardlink", [True, False])
def test_a_missing_file(
    repo: Repository, commit: str, out: tuple[int, Path], hardlink: bool
) -> None:
    object_file(repo, "plain").unlink()
    with pytest.raises(DamagedRepository, match="is missing"):
        checkout(repo, commit, out[0], "tree", hardlink=hardlink)


@pytest.mark.parametrize("kind", [ObjectType.COMMIT, ObjectType.DIRTREE, ObjectType.DIRMETA])
@pytest.mark.parametrize("how", ["missing", "changed"])
def test_missing_or_changed_metadata(
    repo: Repository, commit: str, out: tuple[int, Path], kind: ObjectType, how: str
) -> None:
    found = repo.read_commit(commit)
    checksum = {"commit": commit, "dirtree": found.tree, "dirmeta": found.meta}[kind.value]
    path = Path(repo.path) / repo.object_path(checksum, kind)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DamagedRepository, match=f"{kind.value} {checksum}"):
        checkout(repo, commit, out[0], "tree")


def test_what_is_there_is_not_written_over(
    repo: Repository, commit: str, out: tuple[int, Path]
) -> None:
    fd, path = out
    (path / "tree").mkdir()
    with pytest.raises(BridgeError, match="cannot check out tree"):
        checkout(repo, commit, fd, "tree")
    (path / "link").symlink_to("/")
    with pytest.raises(BridgeError, match="cannot check out link"):
        checkout(repo, commit, fd, "link")


def test_another_file_system_gets_copies(
    repo: Repository, commit: str, out: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    checkout(repo, commit, out[0], "tree")
    check_files(out[1] / "tree")


def test_no_room(
    repo: Repository, commit: str, out: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(NoSpace, match="no room to check out"):
        checkout(repo, commit, out[0], "tree")


@pytest.mark.parametrize("target", [b"\xff", b"", b"a\0b\0"])
def test_a_link_that_cannot_be_is_damage(repo: Repository, target: bytes) -> None:
    """No mode stores such a link; an object that holds one was changed."""
    path = object_file(repo, "link")
    with Transaction(repo) as transaction:
        checksum = transaction.write_link(ITEMS["link"].meta)
        transaction.publish()
    if repo.mode == "bare":
        if target != b"\xff":
            return  # the file system itself refuses the others
        path.unlink()
        os.symlink(target, path)
    elif repo.mode == "bare-user":
        path.write_bytes(target)
    else:
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"plain\0", target.ljust(5, b"\xff") + b"\0"))
    with pytest.raises(DamagedRepository):
        repo.open_file(checksum)


def test_a_directory_nobody_may_write_to(repo: Repository, out: tuple[int, Path]) -> None:
    """It is filled before it gets its mode."""
    from bridge.ostree.objects import Commit, DirTree

    with Transaction(repo) as transaction:
        file = transaction.write_payload(regular(0o644), b"x")
        meta = transaction.write_dirmeta(DirMeta(0, 0, stat.S_IFDIR | 0o555))
        leaf = transaction.write_dirtree(DirTree({"x": file}, {}))
        root = transaction.write_dirtree(DirTree({}, {"d": (leaf, meta)}))
        commit = transaction.write_commit(Commit(root, meta))
        transaction.publish()
    checkout(repo, commit, out[0], "tree")
    assert stat.S_IMODE((out[1] / "tree/d").stat().st_mode) == 0o555
    assert (out[1] / "tree/d/x").read_bytes() == b"x"
    for each in ("tree/d", "tree"):
        (out[1] / each).chmod(0o755)
