"""What a job wrote at its target: kept between runs, so that what has not changed is not asked for.

A SQLite file for each job, `NAME-HEX.state` in the state directory; `HEX` is made from the job's
name, its places, and whatever decides which bytes it writes, so that a job that is changed begins
anew. Every row has a checksum of its own. A file of another version, one that SQLite cannot read,
and a row whose checksum is wrong count as not there: that costs requests, and what is not known to
have been written is never deleted. Each change is on the disk before it is acted on. docs/sync.md
has the tables.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.errors import BridgeError, Busy
from bridge.sync.model import Job

if TYPE_CHECKING:
    import sqlite3

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, named TEXT NOT NULL, source TEXT NOT NULL,
    target TEXT NOT NULL, below TEXT NOT NULL, wrote INTEGER NOT NULL, at INTEGER NOT NULL,
    sum TEXT NOT NULL, PRIMARY KEY (repository, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS converted (
    source TEXT PRIMARY KEY, media_type TEXT NOT NULL, document BLOB NOT NULL,
    sum TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    source TEXT PRIMARY KEY, packed TEXT NOT NULL, sum TEXT NOT NULL) WITHOUT ROWID;
"""
_BUSY = 30_000
"""Milliseconds to wait for another shard of the job to have written."""
_NAME_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a tag at the target, or of a manifest there that has none (`@DIGEST`)."""

    repository: str
    tag: str
    named: str
    """The tag that it has at the source."""
    source: str
    """The digest at the source."""
    target: str
    """The digest at the target."""
    wrote: int
    """0: it was there; 1: this job is about to write it, or was; 2: it wrote it."""
    below: tuple[str, ...] = ()
    """The digests at the source of what it lists, for what refers to these."""
    at: int = 0
    """When, in seconds since 1970."""


class State:
    """The state of one job. Safe for several threads; other shards may have it open, too.

    Once it cannot be used `broken` says why, and everything is as if nothing were known.
    """

    def __init__(self, path: Path | None, connection: sqlite3.Connection | None) -> None:
        self.path = path
        self.broken = ""
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, directory: str, job: Job, tell: Callable[[str], None], dry: bool = False
    ) -> State:
        """Open the state of a job, made if need be: but not if it is a `dry` run. `tell` gets a
        line where there is one that cannot be used. `BridgeError` where none can be kept."""
        path = Path(directory, file_name(job))
        if dry and not path.exists():
            return cls(None, None)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise BridgeError(f"making {directory}: {error.strerror}") from None
        state = cls(path, None)
        try:
            state._connection = _connect(path)
        except BridgeError as error:
            tell(f"{path}: {error}; it counts as empty, and nothing is deleted by it")
            if not dry:
                state._connection = _anew(path)
        return state

    def tag(self, repository: str, tag: str) -> Written | None:
        """Return what is known of a tag, None where that is nothing."""
        rows = self._all("SELECT * FROM tags WHERE repository = ? AND tag = ?", repository, tag)
        return next(filter(None, map(_written, rows)), None)

    def tags(self, repository: str) -> dict[str, Written]:
        """Return what is known of a repository, by tag."""
        rows = self._all("SELECT * FROM tags WHERE repository = ?", repository)
        return {found.tag: found for found in filter(None, map(_written, rows))}

    def repositories(self) -> list[str]:
        """Return the repositories of which something is known."""
        return [row[0] for row in self._all("SELECT DISTINCT repository FROM tags")]

    def put(self, written: Written) -> None:
        """Keep what is known of a tag, in place of what was."""
        row = (
            written.repository, written.tag, written.named, written.source, written.target,
            " ".join(written.below), written.wrote, int(time.time()),
        )  # fmt: skip
        self._change("INSERT OR REPLACE INTO tags VALUES (?,?,?,?,?,?,?,?,?)", *row, _sum(*row))

    def forget(self, repository: str, tag: str) -> None:
        """Know nothing more of a tag."""
        self._change("DELETE FROM tags WHERE repository = ? AND tag = ?", repository, tag)

    def converted(self, source: str) -> tuple[bytes, str] | None:
        """Return the document, and its media type, that one of the source became."""
        for row in self._all("SELECT * FROM converted WHERE source = ?", source):
            if _sum(*row[:-1]) == row[-1]:
                return bytes(row[2]), str(row[1])
        return None

    def put_converted(self, source: str, document: bytes, media_type: str) -> None:
        """Keep what a document became."""
        row = (source, media_type, document)
        self._change("INSERT OR REPLACE INTO converted VALUES (?,?,?,?)", *row, _sum(*row))

    def layer(self, source: str) -> str | None:
        """Return what is kept of a layer that was packed anew, by its digest at the source."""
        for row in self._all("SELECT * FROM layers WHERE source = ?", source):
            if _sum(*row[:-1]) == row[-1]:
                return str(row[1])
        return None

    def put_layer(self, source: str, packed: str) -> None:
        """Keep what a layer became."""
        row = (source, packed)
        self._change("INSERT OR REPLACE INTO layers VALUES (?,?,?)", *row, _sum(*row))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        import sqlite3

        with self._lock:
            if self._connection is None:
                return []
            try:
                return self._connection.execute(query, values).fetchall()
            except (sqlite3.Error, ValueError) as error:  # ValueError: text, or words, not UTF-8
                self._break(error)
                return []

    def _change(self, query: str, *values: object) -> None:
        import sqlite3

        with self._lock:
            if self._connection is None:
                return
            try:
                self._connection.execute(query, values)
            except sqlite3.OperationalError as error:
                # A full disk, say: to go on would be to write what is then not known.
                raise BridgeError(f"writing {self.path}: {error}") from None
            except (sqlite3.Error, ValueError) as error:
                self._break(error)

    def _break(self, error: Exception) -> None:
        self.broken = str(error)
        assert self._connection is not None
        self._connection.close()
        self._connection = None


def file_name(job: Job) -> str:
    """Return the name of a job's file."""
    about = (
        job.name, str(job.source), str(job.target), job.suffix, job.platforms, job.sparse,
        job.conversion, job.include_external,
    )  # fmt: skip
    name = re.sub(r"[^A-Za-z0-9._-]", "_", job.name)[:_NAME_LENGTH].lstrip(".")
    return f"{name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.state"


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file; `BridgeError` where it is none of ours."""
    import sqlite3

    connection = sqlite3.connect(
        path, timeout=_BUSY / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != _VERSION and (version or count):
            raise BridgeError(f"a state of version {version}, not {_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")
        for table in ("tags", "converted", "layers"):
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    except (sqlite3.Error, ValueError) as error:
        connection.close()
        raise BridgeError(f"it cannot be read ({error})") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _anew(path: Path) -> sqlite3.Connection | None:
    """Put a damaged file aside, and begin another; None where that fails, too."""
    try:
        os.replace(path, path.with_suffix(".damaged"))
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return _connect(path)
    except (OSError, BridgeError):
        return None


def _written(row: tuple[Any, ...]) -> Written | None:
    if _sum(*row[:-1]) != row[-1]:
        return None
    repository, tag, named, source, target, below, wrote, at, _ = row
    return Written(repository, tag, named, source, target, wrote, tuple(below.split()), at)


def _sum(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


@contextmanager
def locked(directory: str, job: Job, shard: tuple[int, int] | None) -> Iterator[None]:
    """Hold the lock of a job, or of a shard of it, so that no two runs of it are at once; `Busy`
    where there is one."""
    part = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    path = Path(directory, f"{file_name(job)}{part}.lock")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BridgeError(f"opening {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"job {job.name!r} is under way in another process") from None
        yield
    finally:
        os.close(fd)
