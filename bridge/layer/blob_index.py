"""What a layer's blob says of its own inside: which bytes of it are which part of which file.

Two formats say it, in a table of contents at the blob's end: zstd:chunked, which has the tar
stream's other bytes beside it as a tar-split, and eStargz, from whose table a tar-split can be
made. Either way the layer's tar stream is a *skeleton* (headers, padding, the archive's end) with
the files' content put in, and every piece of content can be unpacked by itself. All of it is a
hint: it saves bytes, and is believed only once the stream that was built hashes to the DiffID.

What to fetch is seen by the table of contents alone. The tar-split is packed until the stream is
made, for to read one takes as long as to read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bridge.errors import MalformedImage
from bridge.layer.compression import OUTPUT_CHUNK, document
from bridge.layer.facts import Facts, checker
from bridge.layer.header import BLOCK
from bridge.layer.tar import Entry
from bridge.layer.tar_split import read_tar_split


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
    """As it stands in the archive, unchecked. No other one has it."""
    size: int
    digest: bytes
    """The sha256 (32 bytes) claimed for all of it."""
    pieces: tuple[Piece, ...]
    """In order, without gaps: their sizes add up to `size`. One piece has the file's digest."""


Placed = dict[int, File]
"""Files by where in the tar stream their content begins, those that came so far."""


@dataclass(frozen=True, slots=True)
class BlobIndex:
    """The index of one layer's blob. Its table of contents is checked for sense: offsets within
    the blob and ascending, sizes bounded, names given once. Of its tar-split no more is known than
    that it is the one that the table means."""

    compression: Literal["zstd", "gzip"]
    """Of each piece."""
    files: tuple[File, ...]
    """In the order of the table of contents, which is the tar stream's with all known writers."""
    tar_split: Sequence[bytes]
    """The skeleton as a tar-split, compressed with zstd, in pieces."""
    tar_split_size: int
    """Bytes of it, unpacked."""
    end: int
    """Where in the blob the content ends and the table of contents begins."""
    held: int
    """Entries, pieces and xattrs that it holds in memory."""
    entries: Mapping[str, Facts]
    """What the table of contents says of each entry of the stream, by its name."""
    own: str = ""
    """The name of an entry that is the table itself, and so is not in it."""

    @property
    def least_size(self) -> int:
        """Bytes of the tar stream, but for what of its headers takes more than a block each."""
        return sum(BLOCK - facts[4] // -BLOCK * BLOCK for facts in self.entries.values())

    def skeleton(self, placed: Placed | None = None) -> Iterator[bytes | File]:
        """Yield the parts of the tar stream in order: bytes as they are, up to `OUTPUT_CHUNK` in a
        part, and each of `files` where its content belongs. `placed` gets each before the bytes
        that come before it: whoever reads its header may look for it.

        Raises `MalformedImage` where the tar-split is none, or has not these files.
        """
        left = {file.path: file for file in self.files}
        at = 0
        before = b""
        for part in read_tar_split(document(self.tar_split, self.tar_split_size)):
            if isinstance(part, bytes):
                yield from _chunks(before)
                before = part
                at += len(part)
                continue
            file = left.pop(part.name, None)
            if file is None or file.size != part.size:
                raise MalformedImage(
                    f"its tar-split and its table of contents disagree on {part.name!r:.300}"
                )
            if placed is not None:
                placed[at] = file
            at += file.size
            yield from _chunks(before)
            before = b""
            yield file
        yield from _chunks(before)
        for lacking in left:
            raise MalformedImage(f"its tar-split lacks {lacking!r:.300}")

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


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), OUTPUT_CHUNK):
        yield data[start : start + OUTPUT_CHUNK]
