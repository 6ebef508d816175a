"""Which object a file becomes with a label: remembered, so that an upgrade reads only what is new.

`labels.sqlite` in the repository's corner. It can be deleted at any time. A row is used only where
the object it names is there, and where its own check sum is right.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository

NAME = "labels.sqlite"
_TABLE = "CREATE TABLE IF NOT EXISTS labelled (file BLOB PRIMARY KEY, object BLOB) WITHOUT ROWID"


class LabelCache:
    """Objects by the object without a label, and the label."""

    def __init__(self, rows: sqlite3.Connection | None) -> None:
        self._rows = rows
        self._new: list[tuple[bytes, bytes]] = []

    def find(self, checksum: str, label: bytes) -> str | None:
        """Return the object that `checksum` became with the label, if that is remembered."""
        if self._rows is None:
            return None
        key = _key(checksum, label)
        try:
            row = self._rows.execute(
                "SELECT object FROM labelled WHERE file = ?", (key,)
            ).fetchone()
        except sqlite3.Error:
            return None
        if row is None or not isinstance(row[0], bytes) or len(row[0]) != 40:
            return None
        value = row[0][:32]
        return value.hex() if row[0][32:] == _check(key, value) else None

    def remember(self, checksum: str, label: bytes, labelled: str) -> None:
        """Remember it, once the objects are in the repository: see `keep`."""
        key, value = _key(checksum, label), bytes.fromhex(labelled)
        self._new.append((key, value + _check(key, value)))

    def keep(self) -> None:
        """Write what is to be remembered. What cannot be written is looked up once more, later."""
        if self._rows is not None:
            with suppress(sqlite3.Error), self._rows:
                self._rows.executemany("INSERT OR REPLACE INTO labelled VALUES (?, ?)", self._new)


@contextmanager
def opened(repo: Repository) -> Iterator[LabelCache]:
    """Open the cache; one that cannot be opened knows nothing."""
    os.close(durable.make_directories(EXTENSION, repo.fd))
    path = f"/proc/self/fd/{repo.fd}/{EXTENSION}/{NAME}"
    rows: sqlite3.Connection | None = None
    try:
        rows = sqlite3.connect(path)
        rows.execute(_TABLE)
    except sqlite3.Error:
        rows = None
    if rows is None:
        yield LabelCache(None)
        return
    with closing(rows):
        yield LabelCache(rows)


def _key(checksum: str, label: bytes) -> bytes:
    return hashlib.sha256(bytes.fromhex(checksum) + label).digest()


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()[:8]
