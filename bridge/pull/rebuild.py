"""Rebuilding: a layer's tar stream out of what is here and what was fetched of its blob.

Every piece of content is held to its digest before it goes into the stream, wherever it is from:
one of the store's that is wrong is fetched, one that was fetched and is wrong is fetched once
more. Whether the pieces are the right ones, the DiffID tells, as for any stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from bridge.errors import MalformedImage, VerificationFailed
from bridge.layer.blob_index import File, Piece
from bridge.layer.pieces import unpack, unpacked
from bridge.limits import BLOB_BUFFER, SMALL_FILE
from bridge.oci.model import Descriptor
from bridge.ostree.repository import Repository
from bridge.pull.content_index import Place, read_place, stream_place
from bridge.pull.plan import Inside
from bridge.pull.partial_plan import PartialPlan
from bridge.pull.source import Parts

_ZEROS = bytes(BLOB_BUFFER)


class Rebuild:
    """One layer's tar stream, as an iterable of chunks.

    `fetched` takes the blob bytes of each piece that was used up, `wrong` the digest of what the
    store does not have after all. Iterating raises `VerificationFailed` and `MalformedImage` where
    the blob is not what it says it is, and what `Parts` raises.
    """

    def __init__(
        self,
        repo: Repository,
        layer: Descriptor,
        inside: Inside,
        plan: PartialPlan,
        parts: Parts,
        *,
        fetched: Callable[[int], None],
        wrong: Callable[[bytes], None],
    ) -> None:
        self._repo = repo
        self._layer = layer
        self._inside = inside
        self._plan = plan
        self._parts = parts
        self._fetched = fetched
        self._wrong = wrong
        self._compression = inside.index.compression

    def __iter__(self) -> Iterator[bytes]:
        batch: list[bytes] = []
        size = 0
        for part in self._skeleton():
            batch.append(part)
            size += len(part)
            if size >= BLOB_BUFFER:
                # A large one stays as it is: fewer copies, and zeros are seen to be such.
                if len(batch) > 1 and len(part) >= BLOB_BUFFER:
                    yield b"".join(batch[:-1])
                    yield part
                else:
                    yield b"".join(batch)
                batch.clear()
                size = 0
        if batch:
            yield b"".join(batch)

    def _skeleton(self) -> Iterator[bytes]:
        places = self._plan.places
        for part in self._inside.index.skeleton():
            if isinstance(part, bytes):
                yield part
            elif (place := places.get(part.digest)) is not None:
                yield from self._here(part, place)
            else:
                yield from self._new(part)

    # -- files -----------------------------------------------------------------------------

    def _here(self, file: File, place: Place) -> Iterator[bytes]:
        """Yield a file that the store has."""
        if file.size <= SMALL_FILE:
            data = read_place(self._repo, place, file.digest)
            if data is not None and len(data) == file.size:
                yield data
                return
            self._wrong(file.digest)
            yield from self._new(file)
            return
        # Piece by piece, so that no more than one has to be held, or fetched if it is damaged.
        offset = place.offset
        for piece in file.pieces:
            yield from self._piece(piece, Place(place.checksum, offset, piece.size))
            offset += piece.size

    def _new(self, file: File) -> Iterator[bytes]:
        """Yield a file in pieces; hold it to its own digest, which is going to be relied on."""
        places = self._plan.places
        if len(file.pieces) == 1:
            yield from self._piece(file.pieces[0], None)
            return
        digest = hashlib.sha256()
        for piece in file.pieces:
            for chunk in self._piece(piece, places.get(piece.digest)):
                digest.update(chunk)
                yield chunk
        if digest.digest() != file.digest:
            raise VerificationFailed(
                f"layer {self._layer.digest}: the pieces of {file.path!r:.300} do not make it"
            )

    # -- pieces ----------------------------------------------------------------------------

    def _piece(self, piece: Piece, place: Place | None) -> Iterator[bytes]:
        if piece.zeros:
            yield from _zeros(piece.size)
        elif piece.size > PIECE_HELD_MAX:
            yield from self._large(piece, place)
        else:
            yield self._small(piece, place)

    def _small(self, piece: Piece, place: Place | None) -> bytes:
        if place is not None:
            data = read_place(self._repo, place, piece.digest)
            if data is not None and len(data) == piece.size:
                return data
            self._wrong(piece.digest)
        where = self._plan.missing.pieces.get(piece.digest)
        if where is not None:
            packed = self._parts.read(*where)
            self._fetched(len(packed))
            data = self._unpack(packed, piece)
            if data is not None:
                return data
        # What was kept may have been cut off by a crash, the store's may be damaged: once more.
        packed = self._parts.again(piece.start, piece.end)
        data = self._unpack(packed, piece)
        if data is None:
            raise self._bad(piece)
        return data

    def _unpack(self, packed: bytes, piece: Piece) -> bytes | None:
        """Return what a piece unpacks to; None if that is not what it should be."""
        try:
            data = unpack(packed, piece.size, self._compression)
        except MalformedImage:
            return None
        return data if hashlib.sha256(data).digest() == piece.digest else None

    def _large(self, piece: Piece, place: Place | None) -> Iterator[bytes]:
        """Yield a piece that is not held in memory: it is known only at its end to be right."""
        digest = hashlib.sha256()
        if place is not None:
            chunks = self._repo_chunks(place)
        else:
            start, end = self._plan.missing.pieces.get(piece.digest, (piece.start, piece.end))
            chunks = unpacked(self._slices(start, end), piece.size, self._compression)
        for chunk in chunks:
            digest.update(chunk)
            yield chunk
        if digest.digest() != piece.digest:
            if place is not None:
                self._wrong(piece.digest)
            raise self._bad(piece)

    def _slices(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, BLOB_BUFFER):
            packed = self._parts.read(at, min(at + BLOB_BUFFER, end))
            self._fetched(len(packed))
            yield packed

    def _bad(self, piece: Piece) -> VerificationFailed:
        return VerificationFailed(
            f"layer {self._layer.digest}: wrong content in bytes {piece.start} to {piece.end} of it"
        )


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _ZEROS[:size]
        size -= len(_ZEROS)
