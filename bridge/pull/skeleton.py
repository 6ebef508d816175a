"""A layer's skeleton: what its tar stream has beside the files that are objects in the store.

Trees and objects lose how a header was written, times, padding, what was left out. So that the
very same stream can be made again, all of its bytes that are not a stored file's content are kept
when the layer is imported, and for the content the checksum of the object that has it. The form
stands in docs/store.md. A skeleton is found by the layer's DiffID; it is believed only once the
stream that was made with it hashes to that.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, NamedTuple

from bridge import limits
from bridge.errors import DamagedRepository, NotFound
from bridge.oci.digest import Digest
from bridge.ostree import durable
from bridge.ostree.content import READ_FLAGS
from bridge.ostree.repository import EXTENSION, Repository
from bridge.ostree.staging import Beside
from bridge.ostree.transaction import Transaction
from bridge.pull.layer import Layer

DIRECTORY = f"{EXTENSION}/skeletons"

_MAGIC = b"bootc-py skeleton 1\n"
_HEAD = struct.Struct("<IQ")
"""Of a record: bytes of the stream that stand here, and bytes of the object that follows them."""
_TOTAL = struct.Struct("<Q")
_CHECKSUM = 32
_LEVEL = 1
"""Of zstd. Higher ones take no less room: most is checksums."""
_BUFFER = 256 * limits.KIB
"""Bytes that are compressed at once."""


class Payload(NamedTuple):
    """A file's whole content, where it belongs in the stream."""

    checksum: str
    """Of the content object that has it."""
    size: int


def path_of(diff_id: Digest) -> str:
    """Return where the skeleton of a layer lies, relative to the repository."""
    return f"{DIRECTORY}/{diff_id.algorithm}-{diff_id.hex}"


class Recorder:
    """Takes a layer apart while it is imported: `rest` and `file` are hooks of `ingest`.

    The same stream makes the same bytes, however it was cut into chunks.
    """

    def __init__(self, transaction: Transaction, diff_id: Digest) -> None:
        self._transaction = transaction
        self._path = path_of(diff_id)
        self._writer = _Writer(transaction.write_beside(self._path))
        self.rest = self._writer.rest
        self.file = self._writer.file

    def finish(self, layer: Layer | None) -> None:
        """Take that the stream has ended, and is what it should be; `layer` was made of it, or
        objects alone, all of which stay.

        A file that something else in the same layer took the place of is in no tree. Its object
        is not going to stay, so what it held is written into the skeleton itself.
        """
        first = self._writer
        first.end()
        if layer is None or not layer.replaced:
            return
        kept = {checksum for _, at in layer.tree.walk("") for checksum in at.files.values()}
        again = _Writer(self._transaction.write_beside(self._path))
        with first.target.reader() as written:
            for part in parts(written):
                if isinstance(part, bytes):
                    again.rest(part, 0)
                elif part.checksum in kept:
                    again.rest(b"", part.size)
                    again.file(0, part.checksum)
                else:
                    for chunk in self._transaction.read_payload(part.checksum):
                        again.rest(chunk, 0)
        again.end()


class _Writer:
    def __init__(self, target: Beside) -> None:
        import zstandard

        self.target = target
        self._zstd: Any = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compressobj()
        self._literal = bytearray()
        self._out = bytearray(_MAGIC)
        self._size = 0
        self._total = 0

    def rest(self, data: bytes, payload: int) -> None:
        """Take bytes that are no file's content, and how many of that follow."""
        literal = self._literal
        literal += data
        self._size = payload
        while len(literal) >= limits.SKELETON_LITERAL:
            self._record(literal[: limits.SKELETON_LITERAL], 0, b"")
            del literal[: limits.SKELETON_LITERAL]

    def file(self, _offset: int, checksum: str) -> None:
        """Take that the content that was announced is that of the object `checksum`."""
        self._record(self._literal, self._size, bytes.fromhex(checksum))
        self._literal.clear()

    def end(self) -> None:
        """Take that there is no more."""
        if self._literal:
            self._record(self._literal, 0, b"")
        self._out += _HEAD.pack(0, 0) + _TOTAL.pack(self._total)
        self._flush()
        self.target.write(self._zstd.flush())

    def _record(self, literal: bytearray, size: int, checksum: bytes) -> None:
        out = self._out
        out += _HEAD.pack(len(literal), size)
        out += literal
        out += checksum
        self._total += len(literal) + size
        if len(out) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        if packed := self._zstd.compress(self._out):
            self.target.write(packed)
        self._out.clear()


def read(repo: Repository, diff_id: Digest) -> Iterator[bytes | Payload]:
    """Return the parts of a layer's tar stream in order; content is named, not read.

    Raises `NotFound` at once where the layer was imported without a skeleton, and
    `DamagedRepository`, at the latest at the end, for one that is not what was written.
    """
    try:
        os.stat(path_of(diff_id), dir_fd=repo.fd, follow_symlinks=False)
    except FileNotFoundError:
        raise NotFound(
            f"layer {diff_id}: {repo.path} has its files, but not how its tar stream was written; "
            "pull the image again, into a new repository or after `image remove` and `image prune`"
        ) from None
    return _read(repo, diff_id)


def _read(repo: Repository, diff_id: Digest) -> Iterator[bytes | Payload]:
    try:
        fd = os.open(path_of(diff_id), READ_FLAGS, dir_fd=repo.fd)
        with open(fd, "rb", buffering=0) as file:
            yield from parts(file)
    except (DamagedRepository, OSError) as error:
        raise DamagedRepository(
            f"layer {diff_id}: its skeleton is damaged ({error}); `fsck --repair` does not heal "
            "it, but a pull into a new repository makes another"
        ) from None


def parts(file: BinaryIO) -> Iterator[bytes | Payload]:
    """Read a skeleton: yield bytes of the stream as they are, and what stands for content.

    No piece of bytes has more than `limits.SKELETON_LITERAL`. `DamagedRepository` for anything
    that `Recorder` does not write.
    """
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=limits.SKELETON_WINDOW_MAX)
    source: Any = decoder.stream_reader(file)
    reader = io.BufferedReader(source, _BUFFER)
    try:
        yield from _records(reader)
    except zstandard.ZstdError as error:
        raise DamagedRepository(f"no zstd: {error}") from None


def _records(reader: io.BufferedReader) -> Iterator[bytes | Payload]:
    if _take(reader, len(_MAGIC)) != _MAGIC:
        raise DamagedRepository("it does not begin as one of ours does")
    total = 0
    while True:
        literal, size = _HEAD.unpack(_take(reader, _HEAD.size))
        if literal > limits.SKELETON_LITERAL:
            raise DamagedRepository(f"a piece of {literal} bytes")
        if literal:
            yield _take(reader, literal)
        if size:
            yield Payload(_take(reader, _CHECKSUM).hex(), size)
        total += literal + size
        if not literal and not size:
            break
    if _TOTAL.unpack(_take(reader, _TOTAL.size)) != (total,) or reader.read(1):
        raise DamagedRepository("its parts do not add up")


def _take(reader: io.BufferedReader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) != size:
        raise DamagedRepository("it is cut off")
    return data


def remove_others(repo: Repository, wanted: Collection[Digest]) -> None:
    """Remove the skeletons of all layers but the wanted ones."""
    spared = {path_of(diff_id).rpartition("/")[2] for diff_id in wanted}
    durable.remove_others(DIRECTORY, spared, repo.fd)
