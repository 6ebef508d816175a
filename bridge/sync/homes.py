"""Which repository of a registry was seen to have a blob: kept between runs, and only a hint.

A run that was killed has sent blobs of images that it did not finish. The next finds those of the
same repository by asking; that another repository could lend one, it would not know. A SQLite file
for each registry, `HOST-HEX.blobs` in the state directory; without it blobs are sent again.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge import limits

if TYPE_CHECKING:
    import sqlite3

_BUSY = 1.0
"""Seconds to wait for another process: a hint is not worth more."""


class BlobHomes:
    """The file of one registry. Safe for several threads. Where it cannot be used, nothing is
    known, and nothing kept."""

    def __init__(self, directory: str, host: str) -> None:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", host)[:60].lstrip(".")
        about = hashlib.sha256(host.encode()).hexdigest()[:16]
        self._path = os.path.join(directory, f"{name}-{about}.blobs")
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._is_usable = True

    def homes(self, digest: str) -> Sequence[str]:
        """Return the repositories that were seen to have a blob."""
        rows = self._do("SELECT repository FROM homes WHERE digest = ?", digest)
        return [row[0] for row in rows]

    def keep(self, digest: str, repository: str) -> None:
        """Take that a repository has a blob."""
        self._do("INSERT OR REPLACE INTO homes VALUES (?, ?)", digest, repository)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._is_usable = False
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _do(self, query: str, *values: str) -> list[tuple[str]]:
        import sqlite3

        with self._lock:
            if not self._is_usable:
                return []
            try:
                if self._opened is None:
                    self._opened = _open(self._path)
                return self._opened.execute(query, values).fetchall()
            except (sqlite3.Error, OSError):
                self._is_usable = False
                return []


def _open(path: str) -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Nothing waits for the disk: what a power cut takes is sent again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS homes "
            "(digest TEXT PRIMARY KEY, repository TEXT NOT NULL) WITHOUT ROWID"
        )
        (count,) = connection.execute("SELECT count(*) FROM homes").fetchone()
        if count > limits.SYNC_BLOBS_KNOWN:
            connection.execute("DELETE FROM homes")
    except BaseException:
        connection.close()
        raise
    return connection
