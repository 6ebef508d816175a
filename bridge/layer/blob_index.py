"""What a layer's blob says of its own inside: which bytes of it are which part of which file.

Two formats say it, in a table of contents at the blob's end: zstd:chunked, which has the tar
stream's other bytes beside it as a tar-split, and eStargz, from whose table they can be made
again. Either way the layer's tar stream is a *skeleton* (headers, padding, the archive's end) with
the files' content put in, and every piece of content can be unpacked by itself. All of it is a
hint: it saves bytes, and is believed only once the stream that was built hashes to the DiffID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    skeleton: Callable[[], Iterator[bytes | File]]
    """Returns the parts of the tar stream in order, anew at each call: bytes as they are, and each
    of `files` where its content belongs."""
    tar_size: int
    """Bytes of the tar stream."""
    end: int
    """Where in the blob the content ends and the table of contents begins."""
    held: int
    """Entries, pieces and xattrs that it holds in memory."""
    check: Callable[[], Callable[[Entry | None], None]]
    """Returns a function that takes the stream's entries one by one as a tar reader sees them, and
    None at the end, and raises `MalformedImage` where the table of contents says otherwise."""
    packed: Sequence[bytes] = ()
    """The skeleton's bytes without the files: a zstd frame, in pieces."""
