"""The content index: what it finds, what it forgets, and every way in which its file may be bad."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.images import directory, file
from support.merging import ingested

from bridge.ostree import lock
from bridge.ostree.objects import FileMeta, ObjectType
from bridge.ostree.repository import EXTENSION, Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import images, index_file
from bridge.pull.catch_up import catch_up
from bridge.pull.content_index import ContentIndex, Place

META = FileMeta(0, 0, stat.S_IFREG | 0o644)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def stored(repo: Repository, *payloads: bytes, meta: FileMeta = META) -> list[str]:
    """Put files into the store; return their checksums."""
    with Transaction(repo) as transaction:
        checksums = [transaction.write_payload(meta, each) for each in payloads]
        transaction.publish()
    return checksums


def whole(repo: Repository, *payloads: bytes) -> dict[bytes, Place]:
    """Put files into the store; return the places that they make."""
    checksums = stored(repo, *payloads)
    return {
        sha256(each): Place(checksum, 0, len(each))
        for each, checksum in zip(payloads, checksums, strict=True)
    }


@pytest.fixture
def path(repo: Repository) -> Path:
    return Path(repo.path) / EXTENSION / index_file.NAME


def no_message(text: str) -> None:
    raise AssertionError(text)


def open_index(repo: Repository) -> ContentIndex:
    return ContentIndex.open(repo, no_message)


def test_what_was_added_is_found_again(repo: Repository, path: Path) -> None:
    places = whole(repo, b"one", b"two")
    (checksum,) = stored(repo, b"three and four")
    places[sha256(b"four")] = Place(checksum, 10, 4)
    with open_index(repo) as index:
        assert index.find(places) == {}
        index.add(places.items())
        assert index.find([*places, sha256(b"five")]) == places
    with open_index(repo) as index:
        assert index.find(places) == places
        assert index.find([]) == {}
        assert index.size().pieces == index.size().objects == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == [path.name]


def test_nothing_is_made_for_who_only_looks(repo: Repository, path: Path) -> None:
    assert not ContentIndex.exists(repo)
    with ContentIndex.open(repo, no_message, writing=False) as index:
        assert index.find([sha256(b"")]) == {}
    assert not path.parent.exists()


def test_only_what_the_store_still_has_is_offered(repo: Repository, path: Path) -> None:
    (first,) = stored(repo, b"same")
    (second,) = stored(repo, b"same", meta=FileMeta(1, 1, stat.S_IFREG | 0o600))
    digest = sha256(b"same")
    with open_index(repo) as index:
        index.add([(digest, Place(first, 0, 4)), (digest, Place(second, 0, 4))])
        assert index.find([digest])[digest].checksum in (first, second)
        repo.damaged.add(first)
        assert index.find([digest]) == {digest: Place(second, 0, 4)}
        repo.damaged.add(second)
        assert index.find([digest]) == {}
        repo.damaged.clear()
        repo.known.forget()
        os.unlink(repo.object_path(second, ObjectType.FILE), dir_fd=repo.fd)
        assert index.find([digest]) == {digest: Place(first, 0, 4)}


def test_an_object_with_a_wrong_place_is_indexed_anew(repo: Repository) -> None:
    places = whole(repo, b"one", b"two")
    place = places[sha256(b"one")]
    with open_index(repo) as index:
        index.add([(sha256(b"not one"), place), (sha256(b"ne"), Place(place.checksum, 1, 2))])
        index.wrong(place)
        assert index.find([sha256(b"not one"), sha256(b"ne")]) == {}
        assert catch_up(repo, index) == 2
        assert index.find([*places, sha256(b"not one"), sha256(b"ne")]) == places


def test_pieces_of_objects_that_are_gone_go_with_a_prune(repo: Repository) -> None:
    kept, commit = ingested(repo, [file("kept", b"kept"), directory("usr")])
    with Transaction(repo) as transaction:
        transaction.set_ref("kept", commit)
        transaction.publish()
    places = whole(repo, b"one", b"two")
    with lock.writing(repo), open_index(repo) as index:
        catch_up(repo, index)
        assert index.size().pieces == 3
    images.prune(repo)
    with open_index(repo) as index:
        assert index.size().pieces == index.size().objects == 1
        assert index.find([*places, sha256(b"kept")]).keys() == {sha256(b"kept")}
        # An identifier that was given again would lead to another object's bytes.
        again = whole(repo, b"three")
        index.add(again.items())
        assert index.find([*places, *again]) == again
    assert kept.tree.files["kept"] in {each for each, _ in repo.objects()}


# -- what may lie there instead --------------------------------------------------------------


def put(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def changed(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute(statement)
            database.commit()

    return change


def of_another_program(path: Path) -> None:
    path.unlink()
    changed("CREATE TABLE pieces (digest, object, offset, size)")(path)
    path.chmod(0o600)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def journal_linked(path: Path) -> None:
    Path(f"{path}-wal").symlink_to("../../config")


def a_directory(path: Path) -> None:
    path.unlink()
    (path / "with").mkdir(parents=True)
    (path / "link").symlink_to("../../config")


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def scribbled(path: Path) -> None:
    """Leave the first pages, which are read when it is opened."""
    with path.open("r+b") as opened:
        opened.seek(2 * index_file.PAGE)
        opened.write(os.urandom(path.stat().st_size - 2 * index_file.PAGE))


BAD: dict[str, Callable[[Path], None]] = {
    "empty": put(b""),
    "no database": put(b"content " * 5000),
    "zeros": put(bytes(65536)),
    "a header and nothing more": lambda path: os.truncate(path, 100),
    "cut off": cut,
    "scribbled over": scribbled,
    "of a later version": changed("PRAGMA user_version = 2"),
    "of another program": of_another_program,
    "with another program's number": changed("PRAGMA application_id = 1"),
    "a column more": changed("ALTER TABLE pieces ADD COLUMN more"),
    "a trigger more": changed(
        "CREATE TRIGGER t AFTER INSERT ON pieces BEGIN DELETE FROM pieces; END"
    ),
    "a table less": changed("DROP TABLE pieces"),
    "readable to others": lambda path: path.chmod(0o644),
    "a link": linked,
    "a link for a journal": journal_linked,
    "a directory": a_directory,
    "a fifo": a_fifo,
}


@pytest.fixture
def filled(repo: Repository) -> dict[bytes, Place]:
    """An index of so many pages that damage in its middle is in none that opening it reads."""
    (checksum,) = stored(repo, b"payload")
    rows = {sha256(b"%d" % each): Place(checksum, each, 1) for each in range(1000)}
    with open_index(repo) as index:
        index.add(rows.items())
    return rows


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_a_bad_file_is_thrown_away_and_told_once(
    repo: Repository, path: Path, filled: dict[bytes, Place], spoil: Callable[[Path], None]
) -> None:
    config = (Path(repo.path) / "config").read_bytes()
    spoil(path)
    told: list[str] = []
    with ContentIndex.open(repo, told.append) as index:
        assert index.find(filled) == {}
        assert len(told) == 1 and "is begun anew: " in told[0] and "\n" not in told[0]
        index.add(filled.items())
        assert index.find(filled) == filled
    assert len(told) == 1
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600 and path.is_file()
    with open_index(repo) as index:
        assert index.find(filled) == filled
    assert (Path(repo.path) / "config").read_bytes() == config


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_who_only_looks_leaves_a_bad_file_as_it_is(
    repo: Repository, path: Path, filled: dict[bytes, Place], spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    before = sorted(each.name for each in path.parent.rglob("*"))
    content = path.read_bytes() if path.is_file() else b""
    told: list[str] = []
    with ContentIndex.open(repo, told.append, writing=False) as index:
        assert index.find(filled) == {}
        index.add(filled.items())
    assert len(told) == 1 and "is not used: " in told[0]
    after = sorted(each.name for each in path.parent.rglob("*"))
    assert [each for each in after if not each.endswith("-shm")] == before
    assert (path.read_bytes() if path.is_file() else b"") == content


def test_it_is_kept_in_memory_where_there_is_no_place_for_it(
    repo: Repository, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (Path(repo.path) / EXTENSION).symlink_to(tmp_path / "elsewhere")
    places = whole(repo, b"one")
    told: list[str] = []
    with ContentIndex.open(repo, told.append) as index:
        index.add(places.items())
        assert index.find(places) == places
    assert len(told) == 1 and "is not used: " in told[0]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("ending", ["-wal", "-journal", "-shm"])
def test_a_journal_of_no_sense_costs_nothing(
    repo: Repository, path: Path, filled: dict[bytes, Place], ending: str
) -> None:
    journal = Path(f"{path}{ending}")
    journal.write_bytes(os.urandom(70_000))
    journal.chmod(0o600)
    with open_index(repo) as index:
        assert index.find(filled) == filled


def test_a_deleted_file_with_its_journal_left_is_begun_anew(
    repo: Repository, path: Path, filled: dict[bytes, Place]
) -> None:
    with open_index(repo) as index:
        index.wrong(Place("0" * 64, 0, 1))
        path.unlink()  # while it is in use
    with open_index(repo) as index:
        index.add(filled.items())
        assert index.find(filled) == filled


def test_a_disk_that_takes_nothing_does_not_cost_what_is_there(
    repo: Repository, filled: dict[bytes, Place]
) -> None:
    told: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with ContentIndex.open(repo, told.append) as index:
            index.find(filled)
            index.add(filled.items())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(told) == 1 and "is not used: " in told[0]
    with open_index(repo) as index:
        assert index.find(filled) == filled


def test_a_disk_that_takes_no_more_costs_what_was_to_be_added(
    repo: Repository, path: Path, filled: dict[bytes, Place]
) -> None:
    told: list[str] = []
    place = next(iter(filled.values()))
    more = {sha256(b"more %d" % each): place for each in range(2000)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ContentIndex.open(repo, told.append) as index:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
        try:
            index.add(more.items())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(told) == 1
    with open_index(repo) as index:
        assert index.find([*filled, *more]) == filled


def test_a_closed_one_is_not_taken_for_a_bad_one(
    repo: Repository, filled: dict[bytes, Place]
) -> None:
    index = open_index(repo)
    index.close()
    with pytest.raises(sqlite3.ProgrammingError):
        index.find(filled)
    with open_index(repo) as index:
        assert index.find(filled) == filled


# -- limits ----------------------------------------------------------------------------------


def test_it_stops_growing_at_its_limit(
    repo: Repository, path: Path, filled: dict[bytes, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = path.stat().st_size + 64 * 1024
    monkeypatch.setattr(index_file, "CONTENT_INDEX_MAX", most)
    told: list[str] = []
    place = next(iter(filled.values()))
    with ContentIndex.open(repo, told.append) as index:
        for turn in range(5):
            index.add((sha256(b"%d.%d" % (turn, each)), place) for each in range(1000))
        assert index.find(filled) == filled
    assert len(told) == 1 and "does not grow" in told[0]
    assert path.stat().st_size <= most


def test_it_does_not_take_the_space_that_has_to_stay_free(tmp_path: Path) -> None:
    values = [("core", "min-free-space-size", "100TB")]
    with Repository.create(tmp_path / "full", "bare-user", values) as repo:
        told: list[str] = []
        place = Place("0" * 64, 0, 1)
        repo.known.add(place.checksum)
        with ContentIndex.open(repo, told.append) as index:
            index.add([(sha256(b"one"), place)])
            index.add([(sha256(b"two"), place)])
            assert index.find([sha256(b"one"), sha256(b"two")]) == {}
        assert len(told) == 1 and "has no space" in told[0]


# -- crashes and company ---------------------------------------------------------------------

KILLED = """
import os, signal, sys
from bridge.ostree.repository import Repository
from bridge.pull.content_index import ContentIndex, Place
left = int(sys.argv[3])
def kill():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
with Repository.open(sys.argv[1]) as repo, ContentIndex.open(repo) as index:
    index._database.set_progress_handler(kill, 5000)
    place = Place(sys.argv[2], 0, 1)
    for turn in range(256):
        digests = [bytes([turn]) + each.to_bytes(31, "little") for each in range(2000)]
        index.add((each, place) for each in digests)
        print(turn, flush=True)
"""


@pytest.mark.parametrize("calls", [0, 3, 10, 40])
def test_a_kill_in_the_middle_costs_what_was_not_added_yet(repo: Repository, calls: int) -> None:
    (checksum,) = stored(repo, b"payload")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, repo.path, checksum, str(calls)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    turns = len(done.stdout.split())
    with open_index(repo) as index:
        for turn in range(turns + 1):
            digests = [bytes([turn]) + each.to_bytes(31, "little") for each in range(2000)]
            found = index.find(digests)
            assert len(found) == (2000 if turn < turns else 0)


def test_threads_of_one_pull_add_and_look_up_at_once(repo: Repository) -> None:
    checksums = stored(repo, *(b"%d" % each for each in range(4)))
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                rows = {
                    sha256(b"%d %d %d" % (number, turn, each)): Place(checksums[number], turn, each)
                    for each in range(50)
                }
                index.add(rows.items())
                assert index.find(rows) == rows
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    with open_index(repo) as index:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert failed == []
        assert index.size().pieces == 4 * 20 * 50


def test_a_reader_sees_what_was_there_while_another_writes(repo: Repository) -> None:
    first, second = whole(repo, b"one"), whole(repo, b"two")
    with open_index(repo) as writer:
        writer.add(first.items())
        with ContentIndex.open(repo, no_message, writing=False) as reader:
            writer._database.execute("BEGIN IMMEDIATE")
            assert reader.find([*first, *second]) == first
            writer._database.execute("ROLLBACK")
            writer.add(second.items())
            assert reader.find([*first, *second]) == first | second
