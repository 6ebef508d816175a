"""Rebuilding: a layer's tar stream out of what is here and what was fetched of its blob.

Whether the pieces are the right ones, the DiffID tells, as for any stream. What was fetched is held
to its own digest first, and fetched once more where it is wrong. What the store has is not: nearly
always it is right, and there is a lot of it. If the DiffID says that something is wrong, the caller
has the stream made once more, with the store's pieces held to their digests as well: then one that
is wrong is fetched instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from bridge.errors import MalformedImage, VerificationFailed
from bridge.layer.blob_index import File, Piece, Placed
from bridge.layer.pieces import unpack, unpacked
from bridge.limits import BLOB_BUFFER, PIECE_HELD_MAX, SMALL_FILE
from bridge.oci.model import Descriptor
from bridge.ostree.repository import Repository
from bridge.pull import assembly
from bridge.pull.assembly import Assembly
from bridge.pull.content_index import Place
from bridge.pull.partial_plan import PartialPlan
from bridge.pull.places import read_place, stream_place
from bridge.pull.plan import Inside
from bridge.pull.source import Parts

_ZEROS = bytes(BLOB_BUFFER)


class Rebuild:
    """One layer's tar stream, as an iterable of chunks.

    `placed` gets each file before its header comes. With `careful` what the store has is hashed
    before it is used. `fetched` takes the blob bytes of what was used up, `wrong` a place where the
    store does not have what it should. Iterating raises `VerificationFailed` and `MalformedImage`
    where the blob is not what it says it is, what `Parts` raises, and, if it is not careful,
    `DamagedRepository`.
    """

    def __init__(
        self,
        repo: Repository,
        layer: Descriptor,
        inside: Inside,
        plan: PartialPlan,
        parts: Parts,
        placed: Placed,
        *,
        careful: bool,
        fetched: Callable[[int], None],
        wrong: Callable[[Place], None],
    ) -> None:
        self._repo = repo
        self._layer = layer
        self._inside = inside
        self._plan = plan
        self._parts = parts
        self._placed = placed
        self._careful = careful
        self._fetched = fetched
        self._wrong = wrong
        self._used = 0
        """Bytes of the blob since they were told last."""
        self._told: set[str] = set()
        self._compression = inside.index.compression

    def __iter__(self) -> Iterator[bytes]:
        batch: list[bytes] = []
        size = 0
        for part in self._parts_of_it():
            batch.append(part)
            size += len(part)
            if size >= BLOB_BUFFER:
                self._tell()
                # A large one stays as it is: fewer copies, and zeros are seen to be such.
                if len(batch) > 1 and len(part) >= BLOB_BUFFER:
                    yield b"".join(batch[:-1])
                    yield part
                else:
                    yield b"".join(batch)
                batch.clear()
                size = 0
        self._tell()
        if batch:
            yield b"".join(batch)

    def _tell(self) -> None:
        """Tell how much was used up, be it nothing: who counts may have reasons to end this."""
        used, self._used = self._used, 0
        self._fetched(used)

    def _parts_of_it(self) -> Iterator[bytes]:
        for part in self._skeleton():
            if isinstance(part, bytes):
                yield part
                continue
            place = self._place(part)
            yield from self._new(part) if place is None else self._here(part, place)

    def _skeleton(self) -> Iterator[bytes | File]:
        """Yield the skeleton; where that is quicker with all files in it that the store has."""
        index = self._inside.index
        # With care each is read by itself, and hashed. So are few of them.
        if not self._careful and self._repo.mode != "archive":
            places = [self._place(file) for file in index.files]
            if len(places) - places.count(None) >= assembly.LEAST:
                with suppress(OSError):
                    return self._assembled(Assembly(self._repo, index, places, self._placed))
        return index.skeleton(self._placed)

    def _assembled(self, made: Assembly) -> Iterator[bytes | File]:
        with made:
            yield from made.parts()

    def _place(self, file: File) -> Place | None:
        """Return where the store has a file."""
        place = self._plan.places.get(file.digest)
        # Of another size it is not what has that digest.
        return place if place is not None and place.size == file.size else None

    # -- files -----------------------------------------------------------------------------

    def _here(self, file: File, place: Place) -> Iterator[bytes]:
        """Yield a file that the store has."""
        whole = Piece(file.digest, file.size, 0, 0, zeros=False)
        chunks = self._stored(whole, place)
        if chunks is not None:
            yield from chunks
            return
        self._damaged(place)
        if file.size <= SMALL_FILE:
            yield from self._new(file)
            return
        # What of it is right is used, so that no more of a large one is fetched than has to be.
        places = []
        offset = place.offset
        for piece in file.pieces:
            places.append(Place(place.checksum, offset, piece.size))
            offset += piece.size
        yield from self._held(file, places)

    def _new(self, file: File) -> Iterator[bytes]:
        """Yield a file that the store has pieces of, or nothing."""
        places = self._plan.places
        here = [None if piece.digest == file.digest else places.get(piece.digest)
                for piece in file.pieces]  # fmt: skip
        yield from self._held(file, here)

    def _held(self, file: File, places: Sequence[Place | None]) -> Iterator[bytes]:
        """Yield a file in pieces; hold it to its own digest, which is going to be relied on."""
        if len(file.pieces) == 1 and not file.pieces[0].zeros:
            yield from self._piece(file.pieces[0], places[0])
            return
        digest = hashlib.sha256()
        for piece, place in zip(file.pieces, places, strict=True):
            for chunk in self._piece(piece, place):
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
            return
        if place is not None:
            chunks = self._stored(piece, place)
            if chunks is not None:
                yield from chunks
                return
            self._damaged(place)
        if piece.size > PIECE_HELD_MAX:
            yield from self._large(piece)
        else:
            yield self._fetch(piece)

    def _stored(self, piece: Piece, place: Place) -> Iterable[bytes] | None:
        """Return a piece that the store has, if it has it."""
        if place.size != piece.size:
            return None
        digest = piece.digest if self._careful else None
        if piece.size > SMALL_FILE:
            return stream_place(self._repo, place, digest)
        data = read_place(self._repo, place, digest)
        return None if data is None else (data,)

    def _damaged(self, place: Place) -> None:
        """Tell once of each object that it has not what it should."""
        if place.checksum not in self._told:
            self._told.add(place.checksum)
            self._wrong(place)

    def _fetch(self, piece: Piece) -> bytes:
        where = self._plan.missing.pieces.get(piece.digest)
        if where is not None:
            packed = self._parts.read(*where)
            self._used += len(packed)
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

    def _large(self, piece: Piece) -> Iterator[bytes]:
        """Yield a piece that is not held in memory: only at its end it is known to be right."""
        where = self._plan.missing.pieces.get(piece.digest)
        if where is None:
            raise self._bad(piece)  # it was to be had from the store
        digest = hashlib.sha256()
        for chunk in unpacked(self._slices(*where), piece.size, self._compression):
            digest.update(chunk)
            yield chunk
        if digest.digest() != piece.digest:
            raise self._bad(piece)

    def _slices(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, BLOB_BUFFER):
            packed = self._parts.read(at, min(at + BLOB_BUFFER, end))
            self._used += len(packed)
            yield packed

    def _bad(self, piece: Piece) -> VerificationFailed:
        return VerificationFailed(
            f"layer {self._layer.digest}: wrong content in bytes {piece.start} to {piece.end} of it"
        )


def _zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _ZEROS[:size]
        size -= len(_ZEROS)
