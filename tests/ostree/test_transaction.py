"""Transactions: what is stored and in which form, when it becomes visible, and in which order."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import (
    BridgeError,
    DamagedRepository,
    MalformedImage,
    NoSpace,
    UsageError,
    VerificationFailed,
)
from bridge.ostree import durable, fsck, objects, refs, staging
from bridge.ostree.config import Config
from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.staging import remove_abandoned
from bridge.ostree.stats import Stats
from bridge.ostree.transaction import Transaction

from .conftest import BIG, ITEMS, Item, objects_below, read, regular, store, store_all, umask

ROOT_META = DirMeta(0, 0, stat.S_IFDIR | 0o755)


def staged(repo: Repository) -> list[str]:
    return [each.name for each in (Path(repo.path) / "tmp").iterdir() if each.name != "cache"]


# -- content ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["payload", "stream"])
@pytest.mark.parametrize("name", ITEMS)
def test_what_is_stored_is_read_back(repo: Repository, name: str, stream: bool) -> None:
    item = ITEMS[name]
    with Transaction(repo) as transaction:
        checksum = store(transaction, item, stream=stream)
        assert not repo.has_object(checksum, ObjectType.FILE)
        transaction.publish()
    assert checksum == objects.file_checksum(item.meta, item.payload)
    assert repo.has_object(checksum, ObjectType.FILE)
    assert read(repo, checksum) == (item.meta, item.payload)
    assert list(repo.objects()) == [(checksum, ObjectType.FILE)]


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000])
def test_objects_have_libostrees_modes_whatever_the_umask(repo: Repository, mask: int) -> None:
    with umask(mask):
        store_all(repo, "payloads")
    for item in ITEMS.values():
        path = Path(repo.path) / repo.object_path(
            objects.file_checksum(item.meta, item.payload), ObjectType.FILE
        )
        status = path.lstat()
        own = stat.S_IMODE(item.meta.mode)
        if repo.mode == "bare":
            assert status.st_mode == item.meta.mode, path
            assert (status.st_uid, status.st_gid) == (item.meta.uid, item.meta.gid)
        elif repo.mode == "archive" or item.meta.is_symlink:
            assert status.st_mode == stat.S_IFREG | 0o644
        else:
            assert status.st_mode == stat.S_IFREG | own & 0o775 | 0o400
        if repo.mode == "bare-user":
            raw = os.getxattr(path, "user.ostreemeta")
            assert raw == objects.encode_filemeta(item.meta)
            if item.meta.is_symlink:
                assert path.read_bytes() == item.meta.target.encode() + b"\0"
        if repo.mode != "archive" and not stat.S_ISLNK(status.st_mode):
            assert status.st_mtime_ns == 0
    for checksum, kind in repo.objects():
        if kind is not ObjectType.FILE:
            path = Path(repo.path) / repo.object_path(checksum, kind)
            assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert fsck.fsck(repo).faults == ()


def test_a_user_without_rights_can_fill_a_bare_user_repository(
    as_user: Callable[[Callable[[Path], Any]], Any],
) -> None:
    """Every mode of file, read-only ones too: their xattr is set before they are."""

    def work(top: Path) -> list[str]:
        with Repository.create(top / "repo", "bare-user") as repo:
            store_all(repo)
            return [str(fault) for fault in fsck.fsck(repo).faults]

    assert as_user(work) == []


def test_a_user_without_rights_is_refused_a_bare_repository(
    as_user: Callable[[Callable[[Path], Any]], Any],
) -> None:
    def work(top: Path) -> str:
        try:
            Repository.create(top / "repo", "bare")
        except UsageError as error:
            return str(error)
        return "made"

    assert "needs root" in as_user(work)


def test_empty_chunks_and_short_writes_lose_nothing(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(durable.os, "write", lambda fd, data: real(fd, bytes(data[:70_000])))
    meta = regular(0o644)
    with Transaction(repo) as transaction:
        checksum = transaction.write_stream(meta, len(BIG), [b"", memoryview(BIG), b""])
        transaction.publish()
    assert read(repo, checksum) == (meta, BIG)


def test_what_is_expected_and_here_is_hashed_and_not_written(repo: Repository) -> None:
    meta = regular(0o644)
    with Transaction(repo) as transaction:
        checksum = transaction.write_stream(meta, len(BIG), [BIG])
        link = transaction.write_link(FileMeta(0, 0, stat.S_IFLNK | 0o777, (), "target"))
        transaction.publish()
    with Transaction(repo) as transaction:
        same = transaction.write_stream(meta, len(BIG), [BIG[:9], BIG[9:]], expected=checksum)
        assert same == checksum
        assert transaction.stats == Stats(reused_objects=1, reused_bytes=len(BIG))
        other = BIG[:-1] + b"x"
        with pytest.raises(VerificationFailed, match=f"file {checksum} hashes to"):
            transaction.write_stream(meta, len(BIG), [other], expected=checksum)
        # What is expected and cannot be it is written, and has the name that it must have.
        for new, payload, expected in [
            (regular(0o600), BIG, checksum),
            (meta, BIG[:-1], checksum),
            (meta, other, link),
            (meta, other + b"y", "0" * 64),
        ]:
            made = transaction.write_stream(new, len(payload), [payload], expected=expected)
            assert made == objects.file_checksum(new, payload)
        transaction.publish()
        assert transaction.stats.new_objects == 4
    assert read(repo, checksum) == (meta, BIG)


ZEROS = bytes(64 * 1024)


@pytest.mark.parametrize(
    "chunks",
    [
        [ZEROS],
        [ZEROS, b""],
        [b"a", ZEROS],
        [b"a", ZEROS, b""],
        [ZEROS, b"a"],
        [ZEROS, b"a", ZEROS, ZEROS],
        [b"a" + ZEROS, ZEROS[1:], memoryview(ZEROS)],
        [ZEROS[: 16 * 1024 - 1]],
        [b"", ZEROS, b"", b"b", b""],
    ],
    ids=lambda chunks: "-".join(str(len(chunk)) for chunk in chunks),
)
def test_zeros_are_kept_and_take_no_room(repo: Repository, chunks: list[bytes]) -> None:
    payload = b"".join(chunks)
    with Transaction(repo) as transaction:
        checksum = transaction.write_stream(regular(0o644), len(payload), chunks)
        transaction.publish()
    assert read(repo, checksum) == (regular(0o644), payload)
    assert checksum == objects.file_checksum(regular(0o644), payload)
    path = Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)
    solid = sum(len(chunk) for chunk in chunks if any(chunk) or len(chunk) < 16 * 1024)
    if repo.mode != "archive":
        assert path.stat().st_size == len(payload)
        assert path.stat().st_blocks * 512 <= -(-solid // 4096) * 4096 + 8192


# -- visibility ------------------------------------------------------------------------------------


def test_nothing_is_visible_before_publish(repo: Repository) -> None:
    with Transaction(repo) as transaction:
        commit = write_small(transaction)
        transaction.set_ref("a/b", commit)
        assert objects_below(repo) == set()
        assert refs.listing(repo) == {}
        assert len(staged(repo)) == 1
        with pytest.raises(DamagedRepository, match="missing"):
            repo.read_commit(commit)
        transaction.publish()
        assert refs.listing(repo) == {"a/b": commit}
        assert repo.read_commit(commit).metadata == {"version": "1"}
    assert staged(repo) == []


def write_small(transaction: Transaction) -> str:
    file = store(transaction, ITEMS["plain"])
    meta = transaction.write_dirmeta(ROOT_META)
    tree = transaction.write_dirtree(DirTree({"plain": file}, {}))
    return transaction.write_commit(Commit(tree, meta, {"version": "1"}))


def test_a_failure_leaves_nothing(repo: Repository) -> None:
    with pytest.raises(MalformedImage), Transaction(repo) as transaction:
        write_small(transaction)
        raise MalformedImage("bad layer")
    assert objects_below(repo) == set()
    assert staged(repo) == []
    with pytest.raises(RuntimeError), Transaction(repo) as transaction:
        transaction.write_stream(regular(0o644), 10, broken_stream())
    assert staged(repo) == []


def broken_stream() -> Iterator[bytes]:
    yield b"half"
    raise RuntimeError


def test_leaving_without_publish_leaves_nothing(repo: Repository) -> None:
    with Transaction(repo) as transaction:
        transaction.set_ref("a", write_small(transaction))
    assert (objects_below(repo), refs.listing(repo), staged(repo)) == (set(), {}, [])


# -- the order of publication ----------------------------------------------------------------------


def test_order_of_publication(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """syncfs; files, dirmetas, dirtrees, commits; their directories to the disk; then the ref."""
    steps: list[str] = []
    rename, fsync, syncfs = os.rename, os.fsync, durable.syncfs

    def note_rename(old: str, new: str, **options: int) -> None:
        steps.append(f"ref {new}" if "." not in new else new.rpartition(".")[2])
        rename(old, new, **options)

    def note_fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        steps.append(f"fsync {path.relative_to(repo.path)}")
        fsync(fd)

    def note_syncfs(fd: int) -> None:
        steps.append("syncfs")
        syncfs(fd)

    with Transaction(repo) as transaction:
        files = {name: store(transaction, item) for name, item in ITEMS.items()}
        meta = transaction.write_dirmeta(ROOT_META)
        below = transaction.write_dirtree(DirTree(files, {}))
        tree = transaction.write_dirtree(DirTree(files, {"sub": (below, meta)}))
        commit = transaction.write_commit(Commit(tree, meta))
        transaction.set_ref("name", commit)
        monkeypatch.setattr(os, "rename", note_rename)
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(durable, "syncfs", note_syncfs)
        transaction.publish()
        monkeypatch.undo()
    file = "filez" if repo.mode == "archive" else "file"
    moves = [file] * len(ITEMS) + ["dirmeta", "dirtree", "dirtree", "commit"]
    assert steps[: len(moves) + 1] == ["syncfs", *moves]
    rest = steps[len(moves) + 1 :]
    prefixes = {f"fsync objects/{checksum[:2]}" for checksum, _kind in repo.objects()}
    last = rest.index("fsync objects")
    assert set(rest[:last]) == prefixes
    assert rest[last + 1 : last + 3] == [
        next(each for each in rest if "/.name" in each),
        "ref name",
    ]
    assert rest[-1] == "fsync refs/heads"


def test_what_was_found_is_synced_before_a_ref_leads_to_it(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was cut off may have moved it in. Where the ref is old news, nothing is."""
    commit = store_all(repo)
    synced: list[str | None] = []
    monkeypatch.setattr(durable, "syncfs", lambda fd: synced.append(refs.resolve(repo, "other")))
    for _ in range(2):
        with Transaction(repo) as transaction:
            transaction.set_ref("other", commit)
            transaction.publish()
    assert synced == [None]
    assert refs.resolve(repo, "other") == commit


@pytest.mark.parametrize("at", [0, 1, 5, 10, 13, 14])
def test_a_publication_that_is_cut_off_has_no_ref_to_a_missing_object(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    rename = os.rename
    done = 0

    def fail(old: str, new: str, **options: int) -> None:
        nonlocal done
        if done == at:
            raise OSError(5, "the plug was pulled")
        done += 1
        rename(old, new, **options)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="plug"):
        store_all(repo)
    monkeypatch.undo()
    assert refs.listing(repo) == {}
    assert staged(repo) == []
    # What was already seen must not be taken for stored when it is not.
    store_all(repo)
    result = fsck.fsck(repo)
    assert (result.faults, result.refs) == ((), 1)


# -- what is new, what is reused -------------------------------------------------------------------


def test_counting(repo: Repository) -> None:
    small, large = ITEMS["plain"], ITEMS["big"]
    size = len(small.payload) + len(large.payload)
    with Transaction(repo) as transaction:
        for item in (small, large, small):
            store(transaction, item)
        store(transaction, large, stream=True)
        assert transaction.publish() == Stats(2, 2, size, size)
    with Transaction(repo) as transaction:
        store(transaction, small)
        store(transaction, large, stream=True)
        store(transaction, ITEMS["link"])
        stats = transaction.publish()
    assert stats == Stats(1, 2, 0, size)
    assert stats.files == 3


def test_an_object_that_two_transactions_stage_is_new_once(repo: Repository) -> None:
    item = ITEMS["plain"]
    size = len(item.payload)
    with Transaction(repo) as one, Transaction(repo) as other:
        commits = [write_small(one), write_small(other)]
        assert commits[0] == commits[1]
        assert one.publish() == Stats(1, 0, size, 0)
        assert other.publish() == Stats(0, 1, 0, size)
    assert len(objects_below(repo)) == 4
    assert fsck.fsck(repo).faults == ()


def test_what_was_pruned_between_transactions_is_stored_again(repo: Repository) -> None:
    """Another process may prune when no transaction holds the lock: nothing is known for good."""
    item = ITEMS["plain"]
    with Transaction(repo) as transaction:
        checksum = store(transaction, item)
        transaction.publish()
    (Path(repo.path) / repo.object_path(checksum, ObjectType.FILE)).unlink()
    with Transaction(repo) as transaction:
        store(transaction, item)
        assert transaction.publish().new_objects == 1
    assert read(repo, checksum) == (item.meta, item.payload)


# -- remains of the dead ---------------------------------------------------------------------------

HOLD = """
import sys
from bridge.ostree.repository import Repository
from bridge.ostree.staging import remove_abandoned
from bridge.ostree.transaction import Transaction
from bridge.ostree.objects import FileMeta
repo = Repository.open({path!r})
transaction = Transaction(repo)
transaction.write_payload(FileMeta(0, 0, 0o100644), b'left behind')
"""


def test_staging_of_the_living_stays_and_of_the_dead_goes(
    repo: Repository, other_process: Callable[[str], Any]
) -> None:
    holder = other_process(HOLD.format(path=repo.path))
    (left,) = staged(repo)
    remove_abandoned(repo.fd)
    with Transaction(repo):
        assert left in staged(repo)
    holder.kill()
    holder.wait()
    assert staged(repo) == [left]
    remove_abandoned(repo.fd)
    with Transaction(repo) as transaction:
        assert left not in staged(repo)
        assert len(staged(repo)) == 1
        transaction.publish()
    assert staged(repo) == []


def test_what_is_not_ours_in_tmp_is_left_alone(repo: Repository) -> None:
    (Path(repo.path) / "tmp/staging-libostree").mkdir()
    staging.remove_abandoned(repo.fd)
    assert staged(repo) == ["staging-libostree"]


# -- space -----------------------------------------------------------------------------------------


def with_space(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, free: int, config: Config
) -> Repository:
    """Have the file system say that it has `free` of 1,000,000 bytes left."""
    real = os.fstatvfs(repo.fd)
    fields = list(real)
    fields[0] = fields[1] = 1  # block and fragment size
    fields[2], fields[3], fields[4] = 1_000_000, free, free
    monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result(fields))
    repo.config = config
    return repo


@pytest.mark.parametrize(
    ("free", "config", "fits"),
    [
        (40_000, Config("bare"), True),
        (35_000, Config("bare"), False),
        (10_000, Config("bare"), False),
        (11_000, Config("bare", min_free_percent=0), True),
        (58_500, Config("bare", min_free_bytes=50_000), False),
        (61_000, Config("bare", min_free_bytes=50_000), True),
        (0, Config("bare", min_free_percent=0), False),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_space_that_must_stay_free_is_not_used(
    repo: Repository,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    config: Config,
    fits: bool,
    stream: bool,
) -> None:
    mode = repo.mode
    with_space(
        repo, monkeypatch, free, Config(mode, config.min_free_percent, config.min_free_bytes)
    )
    item = Item(regular(0o644), bytes(9_000))
    with Transaction(repo) as transaction:
        if fits:
            store(transaction, item, stream=stream)
        else:
            with pytest.raises(NoSpace, match="min-free-space"):
                store(transaction, item, stream=stream)
    assert staged(repo) == []


def test_what_turns_out_to_be_there_gives_its_space_back(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_space(repo, monkeypatch, 20_000, Config(repo.mode, min_free_percent=0))
    item = Item(regular(0o644), bytes(9_000))
    with Transaction(repo) as transaction:
        for _ in range(5):
            store(transaction, item, stream=True)
        assert transaction.publish() == Stats(1, 4, 9_000, 36_000)


@pytest.mark.parametrize(
    ("code", "error"), [(28, NoSpace), (122, NoSpace), (1, BridgeError), (5, BridgeError)]
)
@pytest.mark.parametrize("call", ["open", "write"])
def test_errors_of_the_file_system_are_ours(
    repo: Repository,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[BridgeError],
    call: str,
) -> None:
    real = os.open
    directory = os.O_DIRECTORY

    def fail(*arguments: Any, **options: Any) -> int:
        if call == "open" and arguments[1] & directory:
            return real(*arguments, **options)
        raise OSError(code, os.strerror(code))

    writers = (
        lambda t: t.write_payload(regular(0o644), b"x"),
        lambda t: t.write_stream(regular(0o644), 1, [b"x"]),
        lambda t: t.write_dirmeta(ROOT_META),
    )
    with Transaction(repo) as transaction:
        monkeypatch.setattr(os, call, fail)
        for write in writers:
            with pytest.raises(error):
                write(transaction)
        monkeypatch.undo()
    assert staged(repo) == []


# -- repositories ----------------------------------------------------------------------------------


def test_create_and_open(tmp_path: Path, mode: str) -> None:
    with Repository.create(tmp_path / "repo", mode) as repo:
        assert repo.mode == mode
    repo.close()
    with Repository.open(tmp_path / "repo") as repo:
        assert repo.mode == mode
        assert list(repo.objects()) == []
    made = {each.name for each in (tmp_path / "repo").iterdir()}
    assert made == {"config", "extensions", "objects", "refs", "state", "tmp"}


def test_a_repository_is_not_made_over_another(tmp_path: Path) -> None:
    Repository.create(tmp_path / "repo", "archive").close()
    before = (tmp_path / "repo/config").read_bytes()
    with pytest.raises(UsageError, match="already"):
        Repository.create(tmp_path / "repo", "bare-user")
    assert (tmp_path / "repo/config").read_bytes() == before


def test_a_creation_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "repo/refs/heads").mkdir(parents=True)
    Repository.create(tmp_path / "repo", "archive").close()


def test_oversized_metadata_is_not_written(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.ostree.transaction.METADATA_MAX", 100)
    with Transaction(repo) as transaction, pytest.raises(MalformedImage, match="limit"):
        transaction.write_dirtree(DirTree({"a" * 40: "0" * 64, "b": "0" * 64}, {}))
