"""The layers of a stored image, entry by entry, as their tar archives have them.

A commit has no times, no devices, nothing below `/run` and `/tmp`, and nothing that a later layer
hides. A layer's skeleton (docs/store.md) has all of that; a file's content is read only when it is
asked for. What a skeleton says is not held to the DiffID here: whoever could change it could
change the image too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.tar import Entry, EntryType, TarReader
from bridge.oci.digest import Digest
from bridge.ostree.repository import Repository
from bridge.pull import skeleton
from bridge.pull.paths import OPAQUE, WHITEOUT, components

_ZEROS = bytes(limits.BLOB_BUFFER)


class LayerEntry(NamedTuple):
    """One entry of a layer."""

    layer: int
    """Which layer, from 0."""
    path: str
    """`usr/bin/ls`: no slash at either end; the root's is empty."""
    entry: Entry
    head: Callable[[int], bytes]
    """Returns a file's first bytes, at most as many as it is given and at most
    `limits.BLOB_BUFFER`; good until the next entry is taken."""


@dataclass(frozen=True, slots=True)
class Layers:
    """An image's layers, from the lowest up; iterating reads all of them."""

    repo: Repository
    diff_ids: tuple[Digest, ...]

    @classmethod
    def of(cls, repo: Repository, diff_ids: tuple[Digest, ...]) -> Layers:
        """Return those layers; `NotFound` where the repository has not all skeletons."""
        for diff_id in diff_ids:
            skeleton.read(repo, diff_id)
        return cls(repo, diff_ids)

    def __iter__(self) -> Iterator[LayerEntry]:
        """Yield all entries; `DamagedRepository` and `MalformedImage` where that is not to be
        done."""
        for number, diff_id in enumerate(self.diff_ids):
            yield from self._layer(number, diff_id)

    def _layer(self, number: int, diff_id: Digest) -> Iterator[LayerEntry]:
        source = _Source(self.repo, diff_id)
        reader = TarReader(source.chunks())
        for entry in reader:
            path = "/".join(components(entry.path))
            yield LayerEntry(number, path, entry, _head(reader, source, entry))


def _head(reader: TarReader, source: _Source, entry: Entry) -> Callable[[int], bytes]:
    def head(size: int) -> bytes:
        if entry.type is not EntryType.FILE or not entry.size:
            return b""
        first = bytes(next(reader.payload())[: min(size, limits.BLOB_BUFFER)])
        if source.payload is None:
            return first  # a sparse file, or one that the layer itself replaced
        wanted = min(size, limits.BLOB_BUFFER, source.payload.size)
        return source.repo.read_payload(source.payload.checksum, 0, wanted)

    return head


class _Source:
    """A layer's tar stream with zeros for the content of files."""

    def __init__(self, repo: Repository, diff_id: Digest) -> None:
        self.repo = repo
        self.payload: skeleton.Payload | None = None
        """What the chunk that was taken last stands for; None where it is what it is."""
        self._diff_id = diff_id

    def chunks(self) -> Iterator[bytes]:
        for part in skeleton.read(self.repo, self._diff_id):
            if isinstance(part, bytes):
                self.payload = None
                yield part
                continue
            self.payload = part
            left = part.size
            while left > 0:
                yield _ZEROS[:left]
                left -= len(_ZEROS)


class Merged:
    """What is left of certain paths once all layers are on top of one another.

    Links are not followed: a layer that reaches a directory through a link is rare, and nothing
    that is asked for here is behind one.
    """

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._below: dict[str, Entry] = {}
        self._inside: dict[str, set[str]] = {}
        """Paths of those by the directory that they are in, up to the root."""
        self._layer = -1
        self._own: dict[str, Entry] = {}
        self._hidden: set[str] = set()
        self._opaque: set[str] = set()

    def add(self, each: LayerEntry) -> None:
        """Take the next entry."""
        if each.layer != self._layer:
            self._settle()
            self._layer = each.layer
        parent, _, name = each.path.rpartition("/")
        if name == OPAQUE:
            self._opaque.add(parent)
        elif name.startswith(WHITEOUT):
            self._hidden.add(_join(parent, name.removeprefix(WHITEOUT)))
        elif self._wanted(each.path):
            if len(self._own) + len(self._below) >= limits.ENTRIES_MAX:
                raise MalformedImage(f"an image with more than {limits.ENTRIES_MAX} files")
            self._own[each.path] = each.entry

    def finish(self) -> dict[str, Entry]:
        """Return the entries that are left, by path."""
        self._settle()
        return self._below

    def _settle(self) -> None:
        """Put the layer that has ended on those below it."""
        for path in self._hidden:
            self._remove(path)
        for path in self._opaque:
            self._empty(path)
        for path, entry in self._own.items():
            if entry.type is not EntryType.DIRECTORY:
                self._remove(path)
        for path, entry in self._own.items():
            self._below[path] = entry
            while path and path not in self._inside.setdefault(parent := _parent(path), set()):
                self._inside[parent].add(path)
                path = parent
        self._own = {}
        self._hidden.clear()
        self._opaque.clear()

    def _remove(self, path: str) -> None:
        self._empty(path)
        self._below.pop(path, None)
        self._inside.get(_parent(path), set()).discard(path)

    def _empty(self, path: str) -> None:
        waiting = list(self._inside.pop(path, ()))
        while waiting:
            gone = waiting.pop()
            self._below.pop(gone, None)
            waiting += self._inside.pop(gone, ())


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
