"""What one layer has: its entries, the digests of their content, and where in the blob they are.

Of a blob that has a table of contents that is read alone; of another all of it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.compare.encapsulated import Object, file_at, identity, link_target, stored_objects
from bridge.compare.spool import Spool
from bridge.errors import MalformedImage
from bridge.layer.allowance import LayerAllowance
from bridge.layer.blob_index import BlobIndex, File, Placed
from bridge.layer.tar import Entry, EntryType, TarReader
from bridge.limits import BLOB_BUFFER
from bridge.oci.digest import Digest
from bridge.pull.encapsulation import Role
from bridge.pull.xattrs import own

EMPTY = hashlib.sha256().digest()
_ZEROS = bytes(BLOB_BUFFER)

Wanted = Callable[[str], bool]
"""Tells of a path, as it stands in the archive, whether the file's content is needed."""


class Item(NamedTuple):
    """An entry of a layer."""

    entry: Entry
    """As it stands in the archive, unchecked; of its xattrs those that a file keeps."""
    digest: bytes
    """The sha256 of a file's content, else empty."""
    file: File | None
    """Where in the blob that content is, if the blob says so."""


@dataclass(slots=True)
class LayerFacts:
    """One layer's entries, in their order, and the digests of all content in it."""

    items: list[Item] = field(default_factory=list)
    held: set[bytes] = field(default_factory=set)
    """Of files and of their pieces, as the index of a store that has the layer has them..."""
    objects: set[bytes] = field(default_factory=set)
    """...and where that took it for a layer of an encapsulated commit: of its content objects."""
    names: dict[str, str] = field(default_factory=dict)
    """The first name of each content object, by its path."""
    index: BlobIndex | None = None
    """What the blob says of itself..."""
    blob: Digest | None = None
    """...and which blob that is."""

    def held_as(self, role: Role) -> set[bytes]:
        """Return what the index of a store has of the layer, where it is that to its image."""
        return self.held if role is Role.FILES else self.objects

    def stored_as(self, role: Role) -> Iterator[tuple[Object, int]]:
        """Yield the files that a store has of the layer, and how large each is."""
        if role is not Role.FILES:
            yield from stored_objects(self.items)
            return
        for item in self.items:
            if item.entry.type is EntryType.FILE:
                yield identity(item), item.entry.size

    def add(self, entry: Entry, digest: bytes, file: File | None) -> None:
        """Take the next entry."""
        if entry.xattrs:
            with suppress(MalformedImage):  # for the tree to refuse, unless it leaves that out
                entry = entry._replace(xattrs=own(entry)[0])
        self.items.append(Item(entry, digest, file))
        if (named := link_target(entry)) is not None:
            self.names.setdefault(named, entry.path)


def of_index(index: BlobIndex, blob: Digest, allowance: LayerAllowance) -> LayerFacts:
    """Return what a blob says of itself; `MalformedImage` where that is no archive."""
    facts = LayerFacts(index=index, blob=blob)
    files: Placed = {}
    reader = TarReader(_stood_in(index, files), on_hole=allowance.hole)
    for entry in reader:
        allowance.name(entry.path)
        digest, file = b"", None
        if entry.type is EntryType.FILE:
            offset = reader.payload_offset
            file = files.get(offset) if offset is not None and entry.size else None
            # Sparse files stand in the skeleton, as what is stored of them.
            digest = file.digest if file is not None else _hashed(reader.payload())
        facts.add(entry, digest, file)
    for file in index.files:
        digests = {file.digest}
        if len(file.pieces) > 1:
            digests.update(piece.digest for piece in file.pieces if not piece.zeros)
        facts.held |= digests
        if file_at(file.path) is not None:
            facts.objects |= digests
    return facts


def of_stream(
    chunks: Iterable[bytes],
    allowance: LayerAllowance,
    spool: Spool,
    wanted: Wanted,
    *,
    pieces: bool,
) -> LayerFacts:
    """Return what a tar stream has, to its end: whoever verifies it raises there.

    What is `wanted` of it goes to the `spool`. With `pieces` files are cut as zstd:chunked cuts
    them, and the digests of these pieces are held too.
    """
    facts = LayerFacts()
    reader = TarReader(chunks, on_hole=allowance.hole)
    # A content object comes before its names.
    last: tuple[str, bytes, int] | None = None
    for entry in reader:
        allowance.name(entry.path)
        digest = b""
        if entry.type is EntryType.FILE:
            last = None
            held: set[bytes] = set()
            hasher = _Hasher(held if pieces and entry.size else None)
            content = hasher.through(reader.payload())
            named = file_at(entry.path)
            if wanted(entry.path):
                size = spool.write(content)
                spool.keep(hasher.digest, size)
            elif named is not None and spool.takes(entry.size):
                size = spool.write(content)
                last = named, hasher.digest, size
            else:
                for _ in content:
                    pass
            digest = hasher.digest
            held.add(digest)
            facts.held |= held
            if named is not None:
                facts.objects |= held
        elif last is not None and link_target(entry) == last[0] and wanted(entry.path):
            spool.keep(*last[1:])
            last = None
        facts.add(entry, digest, None)
    reader.drain()
    return facts


def _stood_in(index: BlobIndex, placed: Placed) -> Iterator[bytes]:
    """Yield the tar stream with zeros for the content of its files; `placed` gets them before."""
    for part in index.skeleton(placed):
        if isinstance(part, bytes):
            yield part
            continue
        for _ in range(part.size // BLOB_BUFFER):
            yield _ZEROS
        yield _ZEROS[: part.size % BLOB_BUFFER]


def _hashed(chunks: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


class _Hasher:
    """Hashes a file's content, and the pieces of it, which go to `held`."""

    def __init__(self, held: set[bytes] | None) -> None:
        self._whole = hashlib.sha256()
        self._cutter = None
        if held is not None:
            from bridge.layer.rollsum import Cutter  # which needs numpy

            self._cutter = Cutter()
            self._held = held
            self._pieces = 0
            self._piece = hashlib.sha256()
            self._open = 0  # bytes of the piece that are hashed
            self._waiting = b""  # zeros that may belong to it, or be a piece of their own

    @property
    def digest(self) -> bytes:
        return self._whole.digest()

    def through(self, chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            self._whole.update(chunk)
            if self._cutter is not None:
                data = bytes(chunk)
                self._cut(self._waiting + data, self._cutter.feed(data), self._cutter.open)
            yield chunk
        if self._cutter is not None:
            self._cut(self._waiting, self._cutter.finish(), 0)

    def _cut(self, data: bytes, ended: Iterable[tuple[int, bool]], open_now: int) -> None:
        """Take bytes that were not hashed yet, the pieces that end in them, and how many bytes are
        known to belong to the one after these."""
        at = 0
        for size, zeros in ended:
            rest = size - self._open
            self._piece.update(data[at : at + rest])
            at += rest
            if not zeros:
                self._held.add(self._piece.digest())
            self._piece = hashlib.sha256()
            self._open = 0
        rest = open_now - self._open
        self._piece.update(data[at : at + rest])
        self._open += rest
        self._waiting = data[at + rest :]
