"""The content index: where in the store the bytes of a given sha256 are.

An SQLite file beside our own others. It names *pieces*: a run of an object's payload, by the
sha256 that this program computed over it; a whole payload is the piece at offset 0 with the
object's size. It saves bytes and is never believed: whoever reads a piece hashes it again (see
`places`), and an index that is damaged, of another version or of another program is thrown away
and begun anew. So may anybody delete it at any time.

The journal is a write-ahead log, with a sync at checkpoints only: a process that is killed, or a
power cut, costs the last additions but never the file; who only reads is in nobody's way; and
additions, which fall all over a tree sorted by digest, are written in one run.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

from bridge.errors import NoSpace
from bridge.ostree.repository import Known, Repository
from bridge.pull import index_file

_ASKED = 1000
"""Digests in one query: more of them make it no faster."""
_BATCH = 50_000
"""Rows of one transaction: memory, and what a kill costs."""
_ROW = 160
"""Bytes that a row takes at most, in the table and in its journal, with its part of the tree."""

_FIND = (
    "SELECT digest, checksum, offset, size FROM pieces JOIN objects ON id = object"
    " WHERE digest IN ({})"
)

Tell = Callable[[str], None]
T = TypeVar("T")
_Row = tuple[bytes, "Place"]


class Place(NamedTuple):
    """A run of an object's payload."""

    checksum: str
    """The object's."""
    offset: int
    size: int


_place: Callable[[tuple[str, int, int]], Place] = partial(tuple.__new__, Place)
"""As its constructor, which is a Python function: tens of thousands are made at once."""


@dataclass(frozen=True, slots=True)
class IndexSize:
    """How much an index holds, and the bytes of its file."""

    pieces: int
    objects: int
    bytes: int


class ContentIndex:
    """The index of one open repository. Use as a context manager; safe for several threads.

    Whatever is wrong with its file is told once and costs what it knew: no method raises for it.
    """

    def __init__(self, repo: Repository, tell: Tell | None, writing: bool) -> None:
        self._repo = repo
        self._tell = tell or (lambda _text: None)
        self._writing = writing
        self._lock = threading.Lock()
        self._full = False
        self._database = self._opened()

    @classmethod
    def open(
        cls, repo: Repository, tell: Tell | None = None, *, writing: bool = True
    ) -> ContentIndex:
        """Open the index of `repo`, made where there is none; `tell` gets what the user should
        know.

        For writing the lock of our own writers (`lock.writing`) has to be held. Without it the
        file is left as it is, and where it is of no use, nothing is found.
        """
        return cls(repo, tell, writing)

    @staticmethod
    def exists(repo: Repository) -> bool:
        """Tell whether there is a file of that name."""
        return index_file.exists(repo.fd)

    def __enter__(self) -> ContentIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            _close(self._database)

    # -- looking up ------------------------------------------------------------------------

    def find(
        self, digests: Collection[bytes], within: AbstractSet[str] | None = None
    ) -> dict[bytes, Place]:
        """Return a place for each of the sha256 digests that the store has, as far as is known.

        The store has the object; that its bytes are those is for the reader to check. With
        `within` only these objects are looked at.
        """
        asked = {_key(each): each for each in digests}
        known: Known | AbstractSet[str] = self._repo.known if within is None else within
        if within is None and len(asked) > _ASKED:
            known = self._repo.known.everything()  # to look each of many up costs more
        return self._do(lambda database: _find(database, asked, known), {})

    def objects(self) -> set[str]:
        """Return the checksums of the objects that were indexed, with those that have no pieces."""
        return self._do(_objects, set())

    def size(self) -> IndexSize:
        """Return how much is in it."""
        return self._do(_size, IndexSize(0, 0, 0))

    # -- filling ---------------------------------------------------------------------------

    def add(self, rows: Iterable[tuple[bytes, Place]], empty: Iterable[str] = ()) -> None:
        """Take pieces of objects that are in the store, by digests that this program computed.

        What is given here of an object is taken for all that is to be known of it; `empty` are
        objects without payload, which are remembered as such. Where there is no space, or the
        index has reached its limit, it stays as it is.
        """
        todo = iter(rows)
        seen = list(empty)
        while (batch := list(islice(todo, _BATCH))) or seen:
            if self._full:
                return
            self._add_batch(batch, seen)
            seen = []

    def _add_batch(self, batch: list[_Row], empty: list[str]) -> None:
        try:
            with self._repo.space.writing(_ROW * (len(batch) + len(empty))):
                self._do(lambda database: _add(database, batch, empty), None)
        except NoSpace:
            self._stop_growing("the file system has no space for it")

    def wrong(self, place: Place) -> None:
        """Forget an object of which a place did not hold what it should."""
        self.forget([place.checksum])

    def forget(self, checksums: Iterable[str]) -> None:
        """Forget what is known of these objects."""
        gone = [(bytes.fromhex(each),) for each in checksums]
        self._do(lambda database: _forget(database, gone), None)

    def retain(self) -> int:
        """Forget the objects that the store has no more, and return how many those were."""
        known = self._repo.known
        if not self._repo.writers:
            known.forget()
        gone = [(bytes.fromhex(each),) for each in self.objects() if each not in known]
        if gone:
            self._do(lambda database: _forget(database, gone, sweep=True), None)
        return len(gone)

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            _close(self._database)
            self._full = False
            self._database = self._anew()

    # -- the file --------------------------------------------------------------------------

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        with self._lock:
            try:
                return work(self._database)
            except sqlite3.ProgrammingError:
                raise  # ours: the file has nothing to do with it
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                code = index_file.code(error)
                if code == sqlite3.SQLITE_FULL:
                    self._stop_growing("it has reached its limit, or the file system has no space")
                elif code != sqlite3.SQLITE_BUSY:
                    _close(self._database)
                    self._database = self._instead(error)
                return otherwise

    def _stop_growing(self, reason: str) -> None:
        if not self._full:
            self._full = True
            self._tell(f"the content index of {self._repo.path} does not grow: {reason}")

    def _opened(self) -> sqlite3.Connection:
        try:
            return index_file.open_file(self._repo.fd, writing=self._writing)
        except FileNotFoundError:
            return self._anew()
        except (sqlite3.Error, OSError) as error:
            return self._instead(error)

    def _instead(self, error: Exception) -> sqlite3.Connection:
        """Return another database for one that is of no use, for good or for now."""
        if self._writing and index_file.is_useless(error):
            self._tell(f"the content index of {self._repo.path} is begun anew: {error}")
            return self._anew()
        self._tell(f"the content index of {self._repo.path} is not used: {error}")
        return index_file.in_memory()

    def _anew(self) -> sqlite3.Connection:
        """Return an empty database: in the file's place, or where that cannot be, in memory."""
        if self._writing:
            try:
                return index_file.make_file(self._repo.fd)
            except (sqlite3.Error, OSError) as error:
                self._tell(f"no content index can be kept in {self._repo.path}: {error}")
        return index_file.in_memory()


def _key(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big", signed=True)


def _close(database: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        database.close()


def _find(
    database: sqlite3.Connection, asked: dict[int, bytes], known: Known | AbstractSet[str]
) -> dict[bytes, Place]:
    found: dict[bytes, Place] = {}
    keys = sorted(asked)  # the way the table is sorted: each page is read once
    for start in range(0, len(keys), _ASKED):
        part = keys[start : start + _ASKED]
        query = _FIND.format(",".join("?" * len(part)))
        for key, raw, offset, size in database.execute(query, part).fetchall():
            # A damaged page may have anything in it, whatever the schema says.
            checksum = raw.hex() if type(raw) is bytes else ""
            if checksum in known:
                found[asked[key]] = _place((checksum, offset, size))
    return found


def _objects(database: sqlite3.Connection) -> set[str]:
    # A damaged page may have anything in it, whatever the schema says; of that, too, it makes text.
    return {text for (text,) in database.execute("SELECT lower(hex(checksum)) FROM objects")}


def _size(database: sqlite3.Connection) -> IndexSize:
    (pieces,) = database.execute("SELECT count(*) FROM pieces").fetchone()
    (objects,) = database.execute("SELECT count(*) FROM objects").fetchone()
    return IndexSize(pieces, objects, index_file.PAGE * index_file.pragma(database, "page_count"))


def _add(database: sqlite3.Connection, batch: list[_Row], empty: list[str]) -> None:
    checksums = {place.checksum: bytes.fromhex(place.checksum) for _digest, place in batch}
    database.execute("BEGIN IMMEDIATE")
    database.executemany(
        "INSERT OR IGNORE INTO objects (checksum) VALUES (?)",
        ((each,) for each in sorted({*checksums.values(), *map(bytes.fromhex, empty)})),
    )
    ids = dict(_ids(database, sorted(checksums.values())))
    rows = [
        (_key(digest), ids[checksums[place.checksum]], place.offset, place.size)
        for digest, place in batch
    ]
    rows.sort()
    database.executemany("INSERT OR IGNORE INTO pieces VALUES (?, ?, ?, ?)", rows)
    database.execute("COMMIT")


def _ids(database: sqlite3.Connection, checksums: list[bytes]) -> Iterator[tuple[bytes, int]]:
    for start in range(0, len(checksums), _ASKED):
        part = checksums[start : start + _ASKED]
        asked = ",".join("?" * len(part))
        yield from database.execute(
            f"SELECT checksum, id FROM objects WHERE checksum IN ({asked})", part
        )


def _forget(database: sqlite3.Connection, gone: list[tuple[bytes]], *, sweep: bool = False) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany("DELETE FROM objects WHERE checksum = ?", gone)
    if sweep:  # a walk through all pieces; until it is made they lead nowhere
        database.execute("DELETE FROM pieces WHERE object NOT IN (SELECT id FROM objects)")
    database.execute("COMMIT")
