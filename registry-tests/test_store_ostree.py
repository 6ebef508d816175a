"""The store next to the real `ostree`: each reads, checks, prunes and copies what the other wrote.

Needs the `ostree` command (Debian package `ostree`), and root for what only root can own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.errors import Busy
from bridge.ostree import checkout, lock, refs
from bridge.ostree.fsck import fsck
from bridge.ostree.objects import Commit, DirMeta, FileMeta, ObjectType
from bridge.ostree.prune import prune
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.ostree.tree import Tree

MODES = ("bare", "bare-user", "archive")
REF = "test/all"


def ostree(*arguments: str | Path, succeeds: bool = True) -> str:
    """Run `ostree`; return what it printed."""
    if shutil.which("ostree") is None:
        pytest.fail("ostree is missing: apt install ostree")
    done = subprocess.run(
        ["ostree", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode == 0) == succeeds, f"ostree {arguments}: {done.stderr}"
    return done.stdout if succeeds else done.stderr


@dataclass(frozen=True)
class Thing:
    """What one path is: all that a store keeps of it."""

    mode: int
    uid: int
    gid: int
    content: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]


def look(top: Path) -> dict[str, Thing]:
    """Return everything below `top` by path; the root is ``."""
    found = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        elif path.is_file():
            content = path.read_bytes()
        names = sorted(os.listxattr(path, follow_symlinks=False))
        xattrs = tuple(
            (name.encode(), os.getxattr(path, name, follow_symlinks=False)) for name in names
        )
        found[str(path.relative_to(top)).removeprefix(".")] = Thing(
            status.st_mode, status.st_uid, status.st_gid, content, xattrs
        )
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every kind of thing that a store keeps."""
    if os.geteuid() != 0:
        pytest.fail("only root can make files of every owner: run as root")
    top = tmp_path_factory.mktemp("source") / "tree"
    top.mkdir(0o755)
    for number, (name, mode, owner, payload) in enumerate(
        [
            ("plain", 0o644, (0, 0), b"hello\n"),
            ("empty", 0o600, (0, 0), b""),
            ("setuid", 0o4755, (0, 0), b"#!/bin/sh\n"),
            ("setgid", 0o2755, (0, 8), b"#!/bin/sh\n"),
            ("readonly", 0o444, (1000, 1001), b"read only\n"),
            ("unreadable", 0o000, (5, 5), b"not for you\n"),
            ("world", 0o666, (65534, 65534), b"for all\n"),
            ("noexec-owner", 0o055, (3, 3), b"odd\n"),
            ("large-ids", 0o640, (2**31, 2**32 - 2), b"large\n"),
            ("big", 0o644, (0, 0), bytes(range(256)) * 20_000),
            ("same-as-plain", 0o644, (0, 0), b"hello\n"),
            ("ü €", 0o644, (0, 0), b"unicode\n"),
            ("\\ \n*", 0o644, (0, 0), b"strange name\n"),
            ("x" * 255, 0o644, (0, 0), b"long name\n"),
            ("xattrs", 0o644, (0, 0), b"xattrs\n"),
            ("capable", 0o755, (0, 0), b"capable\n"),
        ]
    ):
        path = top / ("sub/dir" if number % 3 == 1 else "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
        os.chown(path, *owner)
        path.chmod(mode)
    (top / "xattrs").exists() or pytest.fail("the tree is not as expected")
    os.setxattr(top / "xattrs", "user.z", b"last")
    os.setxattr(top / "xattrs", "user.a", b"\0\xff" * 100)
    capable = next(top.rglob("capable"))
    net_raw = bytes.fromhex("0100000200200000") + bytes(12)  # revision 2, effective
    os.setxattr(capable, "security.capability", net_raw)
    for name, target in [("link", "plain"), ("dangling", "/no/such"), ("long", "a/" * 900)]:
        (top / "links").mkdir(exist_ok=True)
        (top / "links" / name).symlink_to(target)
    os.chown(top / "links/link", 7, 8, follow_symlinks=False)
    (top / "void").mkdir(0o700)
    (top / "sticky").mkdir()
    (top / "sticky").chmod(0o1777)
    os.setxattr(top / "sticky", "user.d", b"directory")
    os.chown(top / "sticky", 9, 10)
    (top / "closed").mkdir()
    (top / "closed" / "in").write_text("inside")
    (top / "closed").chmod(0o555)
    many = top / "many"  # a dirtree with wide offsets
    many.mkdir()
    for number in range(1500):
        (many / f"{number:04}").write_bytes(b"" if number % 2 else b"odd")
    deep = top.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("bottom")
    return top


def import_tree(transaction: Transaction, top: Path) -> Tree:
    """Store a directory through our writer."""
    found = look_one(top)
    tree = Tree(transaction.write_dirmeta(DirMeta(found.uid, found.gid, found.mode, found.xattrs)))
    for path in top.iterdir():
        if path.is_dir() and not path.is_symlink():
            tree.set_dir(path.name, import_tree(transaction, path))
            continue
        it = look_one(path)
        if path.is_symlink():
            meta = FileMeta(it.uid, it.gid, it.mode, it.xattrs, os.readlink(path))
            tree.set_file(path.name, transaction.write_link(meta))
            continue
        meta = FileMeta(it.uid, it.gid, it.mode, it.xattrs)
        payload = path.read_bytes()
        if len(payload) > 1 << 20:
            chunks = [payload[at : at + 100_000] for at in range(0, len(payload), 100_000)]
            checksum = transaction.write_stream(meta, len(payload), chunks)
        else:
            checksum = transaction.write_payload(meta, payload)
        tree.set_file(path.name, checksum)
    return tree


def look_one(path: Path) -> Thing:
    status = path.lstat()
    names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = tuple((n.encode(), os.getxattr(path, n, follow_symlinks=False)) for n in names)
    return Thing(status.st_mode, status.st_uid, status.st_gid, b"", xattrs)


def write_ours(path: Path, mode: str, source: Path, ref: str = REF) -> str:
    """Make a repository at `path` if there is none, and commit `source` to it; the commit."""
    made = (path / "config").exists()
    with (
        Repository.open(path) if made else Repository.create(path, mode) as repo,
        Transaction(repo) as transaction,
    ):
        tree = import_tree(transaction, source)
        root = tree.write(transaction)
        commit = transaction.write_commit(
            Commit(root, tree.meta, {"version": "1"}, subject="ours", timestamp=981173106)
        )
        transaction.set_ref(ref, commit)
        transaction.publish()
    return commit


def write_theirs(path: Path, mode: str, source: Path, ref: str = REF) -> str:
    """The same by the command."""
    if not (path / "config").exists():
        ostree("init", f"--repo={path}", f"--mode={mode}")
    return ostree(
        "commit", f"--repo={path}", "-b", ref, f"--tree=dir={source}", "-s", "theirs",
        "--timestamp=2001-02-03 04:05:06 +0000",
    ).strip()  # fmt: skip


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ours(tmp_path: Path, mode: str, source: Path) -> Path:
    write_ours(tmp_path / "ours", mode, source)
    return tmp_path / "ours"


@pytest.fixture
def theirs(tmp_path: Path, mode: str, source: Path) -> Path:
    write_theirs(tmp_path / "theirs", mode, source)
    return tmp_path / "theirs"


def object_names(repo: Path) -> set[str]:
    """Return all objects by name; archive's `.filez` as `.file`."""
    return {
        f"{each.parent.name}{each.name}".removesuffix("z")
        for each in (repo / "objects").glob("*/*")
    }


def listing(repo: Path, ref: str = REF) -> str:
    return ostree("ls", f"--repo={repo}", "-R", "-C", "-X", ref)


def checked_out(repo: Path, out: Path, ref: str = REF) -> dict[str, Thing]:
    ostree("checkout", f"--repo={repo}", ref, out)
    return look(out)


# -- ours, judged by ostree ------------------------------------------------------------------------


def test_ostree_finds_no_fault(ours: Path, source: Path) -> None:
    assert "no errors found" in ostree("fsck", f"--repo={ours}")
    assert ostree("refs", f"--repo={ours}").split() == [REF]
    shown = ostree("show", f"--repo={ours}", REF)
    assert "Version: 1" in shown
    assert "2001-02-03 04:05:06 +0000" in shown


def test_a_checkout_by_ostree_is_the_tree(ours: Path, source: Path, tmp_path: Path) -> None:
    assert checked_out(ours, tmp_path / "out") == look(source)


def test_ostree_lists_the_same_as_of_its_own(
    ours: Path, source: Path, tmp_path: Path, mode: str
) -> None:
    write_theirs(tmp_path / "theirs", "bare", source)
    assert listing(ours) == listing(tmp_path / "theirs")


def test_the_same_tree_has_the_same_checksums(
    ours: Path, source: Path, tmp_path: Path, mode: str
) -> None:
    """Every object but the commit, and the content checksum that libostree reckons."""
    write_theirs(tmp_path / "theirs", mode, source)
    commits = {}
    for name in ("ours", "theirs"):
        with Repository.open(tmp_path / name) as repo:
            commits[name] = repo.read_commit(refs.require(repo, REF))
    assert commits["ours"].tree == commits["theirs"].tree
    assert commits["ours"].meta == commits["theirs"].meta
    shown = ostree("show", f"--repo={tmp_path / 'theirs'}", REF)
    (reckoned,) = [line.split()[1] for line in shown.splitlines() if "ContentChecksum" in line]
    assert commits["ours"].content_checksum == reckoned
    different = object_names(ours) ^ object_names(tmp_path / "theirs")
    assert all(name.endswith(".commit") for name in different)


def test_objects_are_the_same_files(ours: Path, source: Path, tmp_path: Path, mode: str) -> None:
    """Byte by byte, with their modes, owners, xattrs and times; deflated payloads may differ."""
    write_theirs(tmp_path / "theirs", mode, source)
    for path in (tmp_path / "theirs/objects").glob("*/*"):
        if path.suffix == ".commit":
            continue
        own = ours / "objects" / path.parent.name / path.name
        assert look_one(own) == look_one(path), path
        if path.is_symlink():
            assert os.readlink(own) == os.readlink(path)
        elif path.suffix != ".filez":
            assert own.read_bytes() == path.read_bytes()
        if path.suffix == ".file" and not path.is_symlink():
            assert own.stat().st_mtime_ns == path.stat().st_mtime_ns == 0


# -- theirs, read by us ----------------------------------------------------------------------------


def test_we_read_what_ostree_wrote(theirs: Path, source: Path, mode: str) -> None:
    with Repository.open(theirs) as repo:
        assert repo.mode == mode
        result = fsck(repo)
        assert result.faults == ()
        assert result.refs == 1
        assert result.objects == len(object_names(theirs))
        commit = repo.read_commit(refs.require(repo, REF))
        assert (commit.subject, commit.timestamp) == ("theirs", 981173106)
        assert commit.metadata == {"ostree.ref-binding": [REF]}
        assert read_back(repo, commit) == look(source)


def read_back(repo: Repository, commit: Commit) -> dict[str, Thing]:
    """Return the whole tree as our reader has it."""
    found = {}
    for path, tree in Tree.stored(repo, commit.tree, commit.meta).walk():
        meta = repo.read_dirmeta(tree.meta)
        found[path] = Thing(meta.mode, meta.uid, meta.gid, b"", meta.xattrs)
        for name, checksum in tree.files.items():
            file, payload = repo.open_file(checksum)
            content = file.target.encode()
            if payload is not None:
                with payload:
                    parts = []
                    while chunk := payload.read(1 << 16):
                        parts.append(chunk)
                    content = b"".join(parts)
            full = f"{path}/{name}" if path else name
            found[full] = Thing(file.mode, file.uid, file.gid, content, file.xattrs)
    return found


@pytest.mark.parametrize("hardlink", [True, False])
def test_our_checkout_is_ostrees(
    theirs: Path, source: Path, tmp_path: Path, hardlink: bool
) -> None:
    (tmp_path / "out").mkdir()
    fd = os.open(tmp_path / "out", os.O_RDONLY | os.O_DIRECTORY)
    with Repository.open(theirs) as repo:
        commit = refs.require(repo, REF)
        checkout.checkout(repo, commit, fd, "tree", hardlink=hardlink)
    os.close(fd)
    assert look(tmp_path / "out/tree") == checked_out(theirs, tmp_path / "other") == look(source)


def test_ostree_does_not_see_empty_xattrs(tmp_path: Path, mode: str) -> None:
    """Why an image's empty xattrs are left out: in a bare repository they would be damage."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("text")
    os.setxattr(tmp_path / "tree/file", "user.empty", b"")
    os.setxattr(tmp_path / "tree/file", "user.full", b"v")
    write_theirs(tmp_path / "theirs", mode, tmp_path / "tree")
    shown = listing(tmp_path / "theirs")
    assert "user.full" in shown
    assert "user.empty" not in shown


def test_we_write_to_what_ostree_made(theirs: Path, source: Path, mode: str) -> None:
    before = object_names(theirs)
    commit = write_ours(theirs, mode, source, "more/ours")
    assert object_names(theirs) - before == {f"{commit}.commit"}
    ostree("fsck", f"--repo={theirs}")
    assert listing(theirs, "more/ours") == listing(theirs)


def test_both_find_the_same_damage(theirs: Path, source: Path, mode: str) -> None:
    with Repository.open(theirs) as repo:
        tree = repo.read_dirtree(repo.read_commit(refs.require(repo, REF)).tree)
        victims = [tree.files["plain"], tree.files["xattrs"]]
        damaged, missing = (theirs / repo.object_path(each, ObjectType.FILE) for each in victims)
        with damaged.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\xaa")
        missing.unlink()
        assert {each.checksum for each in fsck(repo).faults} == set(victims)
    complaint = ostree("fsck", f"--repo={theirs}", "-a", succeeds=False)
    assert victims[0] in complaint


# -- prune -----------------------------------------------------------------------------------------


def test_both_prunes_leave_the_same(tmp_path: Path, mode: str, source: Path) -> None:
    """Refs-only, depth 0: parents and what no ref leads to go."""
    first = tmp_path / "first"
    write_theirs(first, mode, source)
    small = tmp_path / "small"
    small.mkdir()
    for text in ("one", "two", "three"):
        (small / "file").write_text(text)
        write_theirs(first, mode, small, "grown")
        write_theirs(first, mode, small, f"single/{text}")
    ostree("refs", f"--repo={first}", "--delete", "single/one")
    second = tmp_path / "second"
    subprocess.run(["cp", "-a", first, second], check=True)
    ostree("prune", f"--repo={first}", "--refs-only", "--depth=0")
    with Repository.open(second) as repo:
        before = object_names(second)
        result = prune(repo)
    assert object_names(second) == object_names(first) < before
    assert result.objects == len(before) - len(object_names(first))
    ostree("fsck", f"--repo={second}")


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", MODES)
def test_pull_local_there_and_back(ours: Path, source: Path, tmp_path: Path, other: str) -> None:
    there = tmp_path / "there"
    ostree("init", f"--repo={there}", f"--mode={other}")
    ostree("pull-local", f"--repo={there}", ours, REF)
    with Repository.open(ours) as one, Repository.open(there) as two:
        commit = refs.require(one, REF)
        assert refs.require(two, REF) == commit
        assert fsck(two).faults == ()
        with Transaction(one):
            pass
    back = tmp_path / "back"
    Repository.create(back, "bare").close()
    ostree("pull-local", f"--repo={back}", there, REF)
    ostree("fsck", f"--repo={back}")
    assert object_names(back) == object_names(ours)
    assert checked_out(back, tmp_path / "out") == look(source)


@pytest.fixture
def served(tmp_path: Path, source: Path) -> Iterator[tuple[Path, int]]:
    """An archive of ours behind a plain web server on the loopback; the port."""
    archive = tmp_path / "archive"
    write_ours(archive, "archive", source)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        cwd=archive,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None
    server.stdout.readline()  # it says when it listens
    yield archive, port
    server.kill()
    server.wait()
    server.stdout.close()


def test_ostree_pulls_our_archive_over_http(served: tuple[Path, int], tmp_path: Path) -> None:
    archive, port = served
    client = tmp_path / "client"
    ostree("init", f"--repo={client}", "--mode=bare")
    ostree(
        "remote", "add", f"--repo={client}", "--no-gpg-verify", "ours", f"http://127.0.0.1:{port}/"
    )
    ostree("pull", f"--repo={client}", "ours", REF)
    ostree("fsck", f"--repo={client}")
    # The client keeps a mirror of nothing else.
    assert object_names(client) == object_names(archive)
    with Repository.open(client) as repo:
        assert list(refs.roots(repo)) == [f"refs/remotes/ours/{REF}"]
        assert fsck(repo).faults == ()
        assert prune(repo).objects == 0


# -- locks -----------------------------------------------------------------------------------------


def test_our_lock_keeps_ostree_out(ours: Path, source: Path, mode: str) -> None:
    ostree("config", f"--repo={ours}", "set", "core.lock-timeout-secs", "1")
    with Repository.open(ours) as repo:
        with lock.held(repo.fd, ".lock", repo.path):
            complaint = ostree("prune", f"--repo={ours}", "--refs-only", succeeds=False)
            assert "lock" in complaint.lower()
        with Transaction(repo):  # a writer's lock, which only keeps out who deletes
            ostree("prune", f"--repo={ours}", "--refs-only", succeeds=False)
            write_theirs(ours, mode, source, "theirs")
        ostree("prune", f"--repo={ours}", "--refs-only")


def test_ostrees_lock_keeps_us_out(ours: Path) -> None:
    """Held as libostree does it, by a real `ostree` that waits in the middle of a commit."""
    fifo = ours.parent / "commit-input"
    os.mkfifo(fifo)
    # It reads the archive inside of its transaction, and we do not give it one yet.
    writer = subprocess.Popen(
        ["ostree", "commit", f"--repo={ours}", "-b", "waiting", f"--tree=tar={fifo}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        with fifo.open("wb"), Repository.open(ours) as repo:  # opens once the reader is there
            with pytest.raises(Busy):
                prune(repo)
            with Transaction(repo):
                pass
    finally:
        writer.kill()
        writer.wait()
        assert writer.stderr is not None
        writer.stderr.close()
    with Repository.open(ours) as repo:
        assert prune(repo).objects == 0


def test_ostree_leaves_our_staging_alone(ours: Path, source: Path, mode: str) -> None:
    with Repository.open(ours) as repo, Transaction(repo) as transaction:
        meta = FileMeta(0, 0, stat.S_IFREG | 0o644)
        checksum = transaction.write_payload(meta, b"staged")
        write_theirs(ours, mode, source, "theirs")
        ostree("refs", f"--repo={ours}", "--delete", "theirs")
        transaction.publish()
        assert repo.has_object(checksum, ObjectType.FILE)
    assert hashlib.sha256(b"staged").hexdigest() != checksum  # the header counts too
