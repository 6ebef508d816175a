"""What a layer's blob says of its own inside: which bytes of it are which part of which file.

Two formats say it, in a table of contents at the blob's end: zstd:chunked, which has the tar
stream's other bytes beside it as a tar-split, and eStargz, from whose table they can be made
again. Either way the layer's tar stream is a *skeleton* (headers, padding, the archive's end) with
the files' content put in, and every piece of content can be unpacked by itself. All of it is a
hint: it saves bytes, and is believed only once the stream that was built hashes to the DiffID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bridge.layer.compression import decompress
from bridge.layer.facts import Facts, checker
from bridge.layer.tar import Entry


class Piece(NamedTuple):
    """A run of a file's content, and where in the blob it is, compressed by itself."""

    digest: bytes
    """The sha256 (32 bytes) that the table of contents gives for it: a claim."""
    size: int
    """Bytes of it, unpacked."""
    start: int
    """Where in the blob what it is compressed to begins..."""
    end: int
    """...and ends; what unpacks beyond `size` bytes belongs to the skeleton."""
    zeros: bool
    """All of it is zeros, so that there is no need to fetch it."""


class File(NamedTuple):
    """A regular file with content."""

    path: str
    """As it stands in the archive, unchecked."""
    size: int
    digest: bytes
    """The sha256 (32 bytes) claimed for all of it."""
    pieces: tuple[Piece, ...]
    """In order, without gaps: their sizes add up to `size`. One piece has the file's digest."""
    offset: int
    """Where in the tar stream its content begins."""


@dataclass(frozen=True, slots=True)
class BlobIndex:
    """The index of one layer's blob, checked for sense: offsets within the blob and ascending,
    sizes bounded, names given once, table of contents and skeleton naming the same files."""

    compression: Literal["zstd", "gzip"]
    """Of each piece."""
    files: tuple[File, ...]
    """In the order of the tar stream."""
    before: Sequence[int]
    """Bytes of the skeleton before each of them; what is left of it comes after the last."""
    packed: Sequence[bytes]
    """The skeleton, without the files: a zstd frame, in pieces."""
    tar_size: int
    """Bytes of the tar stream."""
    end: int
    """Where in the blob the content ends and the table of contents begins."""
    held: int
    """Entries, pieces and xattrs that it holds in memory."""
    entries: Mapping[str, Facts]
    """What the table of contents says of each entry of the stream, by its name."""
    own: str = ""
    """The name of an entry that is the table itself, and so is not in it."""

    def skeleton(self) -> Iterator[bytes | File]:
        """Yield the parts of the tar stream in order: bytes as they are, and each of `files` where
        its content belongs."""
        chunks = decompress(self.packed, "zstd")
        data, at = b"", 0
        for file, size in zip(self.files, self.before, strict=True):
            while size > len(data) - at:
                if at < len(data):
                    yield data[at:]
                    size -= len(data) - at
                data, at = next(chunks), 0
            if size:
                yield data[at : at + size]
                at += size
            yield file
        yield data[at:]
        yield from chunks

    def check(self) -> Callable[[Entry | None], None]:
        """Return a function that takes the stream's entries one by one as a tar reader sees them,
        and None at the end, and raises `MalformedImage` where the table of contents says otherwise.
        """
        held = checker(self.entries)
        if not self.own:
            return held
        seen = False

        def check(entry: Entry | None) -> None:
            nonlocal seen
            if entry is not None and entry.path == self.own and not seen:
                seen = True
            else:
                held(entry)

        return check
