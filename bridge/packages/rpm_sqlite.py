"""rpm's database as an SQLite file: the headers are the column `blob` of the table `Packages`.

SQLite gets it as a copy of its own, together with the journal that may lie beside it, and may do
nothing there but read that table: the file is whatever an image has.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing

from bridge import limits
from bridge.errors import MalformedImage

_NAME = "rpmdb.sqlite"
_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at how many there were."""
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)


def headers(database: Iterable[bytes], journal: Iterable[bytes] | None) -> Iterator[bytes]:
    """Yield the packages' headers, in the order they were installed in.

    `database` and `journal` (its `-wal` file, if there is one) are what the files hold.
    `MalformedImage` for what SQLite cannot read, or where there is more than there may be.
    """
    place = os.environ.get("TMPDIR") or "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="bootc-py-", dir=place) as directory:
        path = os.path.join(directory, _NAME)
        _write(path, database)
        if journal is not None:
            _write(f"{path}-wal", journal)
        try:
            with closing(_opened(path)) as connection:
                yield from _headers(connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes what it does not like
            raise MalformedImage(f"rpm's database cannot be read: {error}") from None


def _opened(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = bytes
    try:
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limits.RPM_HEADER_MAX)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_authorizer(_authorized)
        left = limits.RPM_SQLITE_STEPS_MAX // _STEPS

        def step() -> int:
            nonlocal left
            left -= 1
            return left < 0

        connection.set_progress_handler(step, _STEPS)
    except BaseException:
        connection.close()
        raise
    return connection


def _headers(connection: sqlite3.Connection) -> Iterator[bytes]:
    # A view, or a virtual table, would be a program.
    found = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'Packages'"
    ).fetchone()
    if found is None or not found[0].upper().startswith(b"CREATE TABLE "):
        raise MalformedImage("rpm's database has no table of packages")
    for count, (raw,) in enumerate(connection.execute("SELECT blob FROM Packages"), 1):
        if count > limits.RPM_PACKAGES_MAX:
            raise MalformedImage(f"rpm's database has more than {limits.RPM_PACKAGES_MAX} packages")
        if not isinstance(raw, bytes):  # a number, or nothing
            raise MalformedImage("rpm's database has a package without a header")
        yield raw


def _authorized(
    action: int, _first: str | None, _second: str | None, _database: str | None, _by: str | None
) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _write(path: str, chunks: Iterable[bytes]) -> None:
    size = 0
    with open(path, "xb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > limits.RPM_DATABASE_MAX:
                raise MalformedImage(
                    f"rpm's database is larger than {limits.RPM_DATABASE_MAX} bytes"
                )
            file.write(chunk)
