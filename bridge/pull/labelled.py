"""Which object a file becomes with a label: kept, so that an upgrade reads only what is new.

`labelled` in the repository's corner: a first line, the sha256 of what follows, and then for each
object with a label 32 bytes that stand for the one without it and the label, and its own 32. Its
rows were computed here. A file that is cut off or changed is none, and can be deleted at any time.
"""

from __future__ import annotations

import hashlib

from bridge.limits import LABELLED_MAX
from bridge.ostree import corner
from bridge.ostree.repository import Repository

NAME = "labelled"
_MAGIC = b"bootc-py labelled 1\n"
_HASH = 32


class Labelled:
    """The objects with labels that a repository has, by those without them. For one thread."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._rows = _read(repo)
        self._new: set[bytes] = set()

    def find(self, checksum: str, label: bytes) -> str | None:
        """Return the object that `checksum` is with that label, where it is known and there."""
        found = self._rows.get(_key(checksum, label))
        if found is None or found.hex() not in self._repo.known:
            return None
        return found.hex()

    def remember(self, checksum: str, label: bytes, labelled: str) -> None:
        """Take that `checksum` is `labelled` with that label."""
        key = _key(checksum, label)
        self._rows[key] = bytes.fromhex(labelled)
        self._new.add(key)

    def keep(self) -> None:
        """Write what is new, and forget what is no longer there. Where there is no room for it,
        or it would be too much, it is as it was: what is not known is read again."""
        known = self._repo.known
        rows = [
            key + value
            for key, value in self._rows.items()
            if key in self._new or value.hex() in known
        ]
        if self._new:
            corner.write(self._repo, NAME, _MAGIC, LABELLED_MAX, b"".join(rows))


def _key(checksum: str, label: bytes) -> bytes:
    return hashlib.sha256(bytes.fromhex(checksum) + label).digest()


def _read(repo: Repository) -> dict[bytes, bytes]:
    body = corner.read(repo, NAME, _MAGIC, LABELLED_MAX) or b""
    if len(body) % (2 * _HASH):
        return {}
    rows = range(0, len(body), 2 * _HASH)
    return {body[at : at + _HASH]: body[at + _HASH : at + 2 * _HASH] for at in rows}
