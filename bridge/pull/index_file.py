"""The content index's file: opening one that is ours, and making one where that cannot be.

It lies where links and other programs' files may lie too, so it is looked at before SQLite is let
near it: a regular file, with the journals beside it, that nobody but its owner may open; then the
numbers and tables that only this version has.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable

from bridge.limits import CONTENT_INDEX_MAX
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION

NAME = "content.sqlite"
_JOURNALS = ("-journal", "-wal", "-shm")
_APPLICATION = 0x62637079
"""SQLite's `application_id`: the letters bcpy."""
_VERSION = 1
PAGE = 4096
_CACHE = 16 * 1024
"""KiB of pages in memory: those that lead to the leaves, of the largest index."""
_WAIT = 5.0
"""Seconds for another process's checkpoint to end."""
_JOURNAL = 16 * 1024 * 1024
"""Bytes that the journal keeps of what it grew to."""
_CIRCUMSTANCES = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)

# Of a piece's digest the first eight bytes are kept, as an integer: half the size and the time of
# all 32, and as good for what is hashed in full when it is read.
# One place for each object that has a piece: what repeats itself in a file is stored there once.
# An identifier is never given twice, so that pieces of an object that is gone lead nowhere.
_SCHEMA = (
    "CREATE TABLE objects (id INTEGER PRIMARY KEY AUTOINCREMENT, checksum BLOB NOT NULL UNIQUE)",
    "CREATE TABLE pieces (digest INTEGER NOT NULL, object INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (digest, object)) WITHOUT ROWID",
)


def open_file(repo_fd: int, *, writing: bool) -> sqlite3.Connection:
    """Open what is there and is ours; `FileNotFoundError`, else `sqlite3.Error` or `OSError`."""
    fd = durable.open_directory(EXTENSION, repo_fd)
    try:
        for name in (NAME, *(NAME + ending for ending in _JOURNALS)):
            status = _status(name, fd)
            if status is None:
                if name == NAME:
                    raise FileNotFoundError(NAME)
            elif not stat.S_ISREG(status.st_mode):
                raise sqlite3.DatabaseError(f"{name} is not a regular file")
            elif status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise sqlite3.DatabaseError(f"{name} is not its owner's alone")
        return _connected(_path(fd), _check_for_writing if writing else _check_for_reading)
    finally:
        os.close(fd)


def make_file(repo_fd: int) -> sqlite3.Connection:
    """Make an empty one in the place of whatever is there; `sqlite3.Error` or `OSError`."""
    fd = durable.make_directories(EXTENSION, repo_fd)
    try:
        for ending in ("", *_JOURNALS):
            durable.remove_tree(NAME + ending, fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(NAME, flags, 0o600, dir_fd=fd))
        return _connected(_path(fd), _set_up)
    finally:
        os.close(fd)


def in_memory() -> sqlite3.Connection:
    """Make an empty one that is gone when it is closed."""
    return _connected(":memory:", _set_up)


def exists(repo_fd: int) -> bool:
    """Tell whether there is anything of that name."""
    return _status(f"{EXTENSION}/{NAME}", repo_fd) is not None


def code(error: Exception) -> int | None:
    """Return SQLite's primary result code; None where the error is not SQLite's own."""
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def is_useless(error: Exception) -> bool:
    """Tell whether the file is what is wrong, and not the disk, the memory or another process."""
    return isinstance(error, sqlite3.Error) and code(error) not in _CIRCUMSTANCES


def _status(name: str, dir_fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _path(dir_fd: int) -> str:
    # SQLite opens by paths only; this one leads to the directory that is open, wherever it is.
    return f"file:/proc/self/fd/{dir_fd}/{NAME}?mode=rw"


def _connected(name: str, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    database = sqlite3.connect(
        name, timeout=_WAIT, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        for setting in (
            "trusted_schema = OFF",
            "synchronous = NORMAL",
            f"cache_size = -{_CACHE}",
            f"max_page_count = {CONTENT_INDEX_MAX // PAGE}",
            f"journal_size_limit = {_JOURNAL}",
        ):
            database.execute(f"PRAGMA {setting}")
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _set_up(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_VERSION}")
    database.execute("COMMIT")


def _check_for_reading(database: sqlite3.Connection) -> None:
    _check(database)
    database.execute("PRAGMA query_only = ON")


def _check_for_writing(database: sqlite3.Connection) -> None:
    _check(database)
    database.execute("BEGIN IMMEDIATE")  # raises where it can only be read
    database.execute("ROLLBACK")


def _check(database: sqlite3.Connection) -> None:
    """Raise `sqlite3.Error` unless the file is an index of this version."""
    numbers = [pragma(database, name) for name in ("application_id", "user_version", "page_size")]
    if numbers != [_APPLICATION, _VERSION, PAGE]:
        raise sqlite3.DatabaseError("it is of another version or program")
    there = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_schema") if sql}
    if there != {*_SCHEMA, "CREATE TABLE sqlite_sequence(name,seq)"}:
        raise sqlite3.DatabaseError("its tables are not what they should be")


def pragma(database: sqlite3.Connection, name: str) -> int:
    """Return a setting of the file's that is a number."""
    (value,) = database.execute(f"PRAGMA {name}").fetchone()
    return int(value)
