"""What layers became when they were packed: kept, so that one which is there is not packed again.

`packed` in the repository's corner: a first line, the sha256 of what follows, and a JSON object: by
DiffID, compression, level and library, a blob's media type, digest, size and annotations. Its rows
were made here. A file that is cut off or changed is none, and can be deleted at any time.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from typing import Any

from bridge.errors import BridgeError
from bridge.limits import PACKED_MAX
from bridge.oci.digest import Digest
from bridge.ostree import corner
from bridge.ostree.repository import Repository
from bridge.pull import skeleton
from bridge.push.compress import Compression, Packed

NAME = "packed"
_MAGIC = b"bootc-py packed 1\n"
_WRITER = 1
"""Goes up where equal layers come to be packed to other bytes."""


class Remembered:
    """The blobs that a repository's layers became. Safe for several threads."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._rows = _read(repo)
        self._lock = threading.Lock()
        self._new = False

    def find(self, diff_id: Digest, compression: Compression, level: int | None) -> Packed | None:
        """Return what a layer became; None where that is not known."""
        with self._lock:
            row = self._rows.get(_key(diff_id, compression, level))
        if row is None:
            return None
        try:
            media_type, digest, size, annotations = row
            return Packed(media_type, Digest.parse(digest), int(size), dict(annotations))
        except (ValueError, TypeError, BridgeError):
            return None

    def remember(
        self, diff_id: Digest, compression: Compression, level: int | None, blob: Packed
    ) -> None:
        """Take that the layer became `blob`."""
        row = [blob.media_type, blob.digest, blob.size, dict(blob.annotations)]
        with self._lock:
            self._rows[_key(diff_id, compression, level)] = row
            self._new = True

    def keep(self) -> None:
        """Write what is new, and forget layers that are no longer there. Where there is no room for
        it, or it would be too much, it is as it was: what is not known is packed again."""
        if self._new:
            rows = {key: row for key, row in self._rows.items() if self._is_here(key)}
            body = json.dumps(rows, separators=(",", ":")).encode()
            corner.write(self._repo, NAME, _MAGIC, PACKED_MAX, body)

    def _is_here(self, key: str) -> bool:
        try:
            os.lstat(skeleton.path_of(Digest.parse(key.partition(" ")[0])), dir_fd=self._repo.fd)
        except (OSError, BridgeError):
            return False
        return True


def _key(diff_id: Digest, compression: Compression, level: int | None) -> str:
    library = zlib.ZLIB_RUNTIME_VERSION
    if compression in (Compression.ZSTD, Compression.ZSTD_CHUNKED):
        import zstandard

        library = ".".join(map(str, zstandard.ZSTD_VERSION))
    return f"{diff_id} {compression.value} {level} {library} {_WRITER}"


def _read(repo: Repository) -> dict[str, Any]:
    try:
        found = json.loads(corner.read(repo, NAME, _MAGIC, PACKED_MAX) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
