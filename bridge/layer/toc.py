"""The table of contents of a zstd:chunked layer, which eStargz has in nearly the same form.

A JSON document: `{"version": 1, "entries": [...], "tarSplitDigest": "sha256:..."}`, an entry for
each of the archive's, in any order, with further ones of type `chunk` behind a file that is in
several pieces. It may have a hundred megabytes, so it is read entry by entry. Source:
containers/storage, pkg/chunked/internal/minimal/compression.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from sys import getsizeof
from typing import Any, NamedTuple, NoReturn

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer.blob_index import File, Piece
from bridge.layer.facts import MODES, Facts
from bridge.layer.json_stream import Scanner
from bridge.layer.tar import EntryType

_TYPES = {
    "reg": EntryType.FILE,
    "hardlink": EntryType.HARDLINK,
    "symlink": EntryType.SYMLINK,
    "dir": EntryType.DIRECTORY,
    "char": EntryType.CHAR,
    "block": EntryType.BLOCK,
    "fifo": EntryType.FIFO,
}
_FILE = EntryType.FILE
_LINKS = frozenset({EntryType.HARDLINK, EntryType.SYMLINK})
_DEVICES = frozenset({EntryType.CHAR, EntryType.BLOCK})
_DIGEST = "sha256:"
_MOST = 1 << 62
_EMPTY = getsizeof("")
_TEXT = 256
"""Bytes of an entry's names and xattrs in memory that count as one more."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Toc(NamedTuple):
    """What a table of contents says."""

    entries: dict[str, Facts]
    """By their names, as they stand in the archive."""
    files: list[File]
    """Those entries that are regular files with content, in the order of the table."""
    tar_split_digest: bytes | None
    held: int
    """Entries, pieces, xattrs, and every 256 bytes of an entry's names and xattrs, which take as
    much memory each or less."""


def parse_toc(chunks: Iterable[bytes], end: int, most: int = limits.TOC_ENTRIES_MAX) -> Toc:
    """Return the table of contents in `chunks` of a blob whose content ends at offset `end`.

    Raises `MalformedImage` for what is no such document, names an entry twice, or gives pieces
    that do not make their file, or that lie outside of the blob or over one another; or that
    holds more than `most`.
    """
    scanner = Scanner(chunks)
    builder = TocBuilder(end, most)
    version: object = None
    digest: object = None
    for key in scanner.members():
        if key == "entries":
            for entry in scanner.elements():
                builder.add(entry)
        elif key == "version":
            version = scanner.value()
        elif key == "tarSplitDigest":
            digest = scanner.value()
        else:
            scanner.value()
    scanner.finish()
    if version != 1 or isinstance(version, bool):
        raise MalformedImage(f"its table of contents is of version {version!r:.50}")
    return builder.toc(None if digest in (None, "") else _digest(digest))


class TocBuilder:
    """Takes the entries of a table of contents one by one, of a blob whose content ends at `end`.

    Raises what `parse_toc` does.
    """

    def __init__(self, end: int, most: int) -> None:
        self._end = end
        self._most = most
        self.entries: dict[str, Facts] = {}
        """By their names, so far."""
        self._files: list[File] = []
        self._times: dict[str, int] = {}
        self._file: dict[str, Any] | None = None  # the last entry, if its pieces may follow
        self._pieces: list[Piece] = []  # of it
        self._position = 0  # where in it the next one begins
        self._open: tuple[object, int, int, bool] | None = None  # a piece whose end is not known
        self._held = 0

    def add(self, entry: object) -> None:
        """Take the next entry."""
        self._hold(1)
        if not isinstance(entry, dict):
            raise MalformedImage("its table of contents has an entry that is no object")
        kind = entry.get("type")
        if kind == "chunk":
            if self._file is None or entry.get("name") != self._file["name"]:
                raise MalformedImage("its table of contents has a chunk that belongs to no file")
            if self._open is None:
                self._chunk(self._file)  # which is the first of several, then
            self._chunk(entry)
            return
        self._end_file()
        name, facts = self._facts(entry)
        if name in self.entries:
            raise MalformedImage(f"its table of contents has {name!r:.300} twice")
        self.entries[name] = facts
        if facts[0] is _FILE and facts[4]:
            self._file = entry

    def toc(self, tar_split_digest: bytes | None) -> Toc:
        """Take that there are no more, and return them all."""
        self._end_file()
        self._refuse_overlaps()
        return Toc(self.entries, self._files, tar_split_digest, self._held)

    def _facts(self, entry: dict[str, Any]) -> tuple[str, Facts]:
        name, of_kind = entry.get("name"), entry.get("type")
        kind = _TYPES.get(of_kind) if isinstance(of_kind, str) else None
        if not isinstance(name, str) or not name or kind is None:
            raise MalformedImage("its table of contents has an entry without name or type")
        get = entry.get
        target, device, size = "", (0, 0), 0
        if kind is _FILE:
            size = _number(get("size", 0))
        elif kind in _LINKS:
            target = get("linkName", "")
            if not isinstance(target, str):
                raise MalformedImage(
                    f"its table of contents has no text for the target of {name!r:.300}"
                )
        elif kind in _DEVICES:
            device = _number(get("devMajor", 0)), _number(get("devMinor", 0))
        mode, uid, gid = get("mode", 0), get("uid", 0), get("gid", 0)
        if not (type(mode) is type(uid) is type(gid) is int):
            raise MalformedImage(
                f"its table of contents has no numbers for mode or owner of {name!r:.300}"
            )
        time, xattrs = get("modtime"), get("xattrs")
        seconds = self._times.get(time) if isinstance(time, str) else None
        if seconds is None:
            seconds = self._time(time)
        pairs = _xattrs(xattrs) if xattrs else ()
        text = getsizeof(name) + getsizeof(target) - 2 * _EMPTY
        if pairs:
            text += sum(len(key) + len(value) for key, value in pairs)
        if pairs or text >= _TEXT:
            self._hold(len(pairs) + text // _TEXT)
        mode = MODES[mode & 0o7777]
        return name, (kind, mode, uid, gid, size, seconds, target, device, pairs)

    def _hold(self, count: int) -> None:
        self._held += count
        if self._held > self._most:
            raise MalformedImage(
                f"its table of contents has more entries than the {self._most} that can be held"
            )

    def _time(self, text: object) -> int:
        """Return seconds since 1970; no time and Go's zero time are 0, as containers has it."""
        if text is None:
            return 0
        if not isinstance(text, str):
            raise MalformedImage("its table of contents has a time that is no text")
        seconds: int | None = None
        if text.startswith("0001-01-01T00:00:00"):
            seconds = 0
        else:
            with suppress(ValueError, OverflowError):
                moment = datetime.fromisoformat(text)
                seconds = (moment - _EPOCH) // _SECOND if moment.tzinfo else None
        if seconds is None:
            raise MalformedImage(f"its table of contents has the time {text!r:.50}")
        if len(self._times) < limits.TOC_TIMES_KEPT:
            self._times[text] = seconds
        return seconds

    def _chunk(self, entry: dict[str, Any]) -> None:
        """Take the next piece of the file at hand, where the one before ends."""
        get = entry.get
        start: Any = get("offset")
        length: Any = get("chunkSize", 0)
        position: Any = get("chunkOffset", 0)
        # Looked at here, for there are as many as entries; `_number` says what is wrong.
        if type(start) is not int or not 0 <= start <= _MOST:
            _number(start)
        if self._open is not None:
            self._end_chunk(start)
        if type(length) is not int or not 0 <= length <= _MOST:
            _number(length)
        if type(position) is not int or position != self._position:
            _number(position)
            self._refuse_chunks()
        self._open = get("chunkDigest"), length, start, "chunkType" in entry and _is_zeros(entry)

    def _end_chunk(self, end: int, *, last: bool = False) -> None:
        assert self._file is not None and self._open is not None
        digest, length, start, zeros = self._open
        if last and not length:
            length = self._file["size"] - self._position  # eStargz leaves out the last one's
        if length <= 0:
            self._refuse_chunks()
        if not 0 <= start < end <= self._end:
            raise MalformedImage(
                f"the content of {self._file['name']!r:.300} is outside of the blob"
            )
        if last and not self._pieces:
            digest = self._file.get("digest")
        self._pieces.append(Piece(_digest(digest), length, start, end, zeros))
        self._position += length

    def _refuse_chunks(self) -> NoReturn:
        assert self._file is not None
        raise MalformedImage(f"the chunks of {self._file['name']!r:.300} do not follow one another")

    def _end_file(self) -> None:
        """Make a file of the entry that had one, and of the chunks that followed."""
        if self._file is None:
            return
        name, size = self._file["name"], self._file["size"]
        if self._open is None:
            piece = _plain_piece(self._file, self._end)
            if piece is not None:
                self._files.append(File(name, size, piece.digest, (piece,)))
                self._file = None
                return
            self._chunk(self._file)
        self._end_chunk(_number(self._file.get("endOffset")), last=True)
        if self._position != size:
            raise MalformedImage(f"the chunks of {name!r:.300} are not all of it")
        pieces = tuple(self._pieces)
        digest = pieces[0].digest if len(pieces) == 1 else _digest(self._file.get("digest"))
        self._files.append(File(name, size, digest, pieces))
        self._file = self._open = None
        self._pieces.clear()
        self._position = 0

    def _refuse_overlaps(self) -> None:
        pieces = [piece for file in self._files for piece in file.pieces]
        pieces.sort(key=attrgetter("start"))
        for before, each in pairwise(pieces):
            # Files with the same content may have it in the same place.
            if each.start < before.end and (
                (each.start, each.end, each.digest) != (before.start, before.end, before.digest)
            ):
                raise MalformedImage("its table of contents has two contents in one place")


def _plain_piece(entry: dict[str, Any], end: int) -> Piece | None:
    """Return the one piece of a file in the form that nearly all files have; None where it is
    another, or wrong: what then, is seen step by step."""
    start, stop, length = entry.get("offset"), entry.get("endOffset"), entry.get("chunkSize", 0)
    if (
        type(start) is type(stop) is type(length) is int
        and 0 <= start < stop <= end
        and length in (0, entry["size"])
        and "chunkOffset" not in entry
        and "chunkType" not in entry
    ):
        return Piece(_digest(entry.get("digest")), entry["size"], start, stop, False)
    return None


def _number(value: object) -> int:
    if type(value) is int and 0 <= value <= _MOST:
        return value
    raise MalformedImage(f"its table of contents has {value!r:.50} where a number should be")


def _digest(value: object) -> bytes:
    if isinstance(value, str) and value.startswith(_DIGEST):
        text = value[len(_DIGEST) :]
        try:
            digest = bytes.fromhex(text)
        except ValueError:
            digest = b""
        if len(digest) == 32 and digest.hex() == text:  # no spaces, no capitals
            return digest
    raise MalformedImage(f"its table of contents has {value!r:.100} where a digest should be")


def _is_zeros(entry: dict[str, Any]) -> bool:
    kind = entry.get("chunkType", "")
    if kind not in ("", "zeros"):
        raise MalformedImage(f"its table of contents has a chunk of the unknown kind {kind!r:.50}")
    return bool(kind)


def _xattrs(value: object) -> tuple[tuple[bytes, bytes], ...]:
    if not value:
        return ()
    if not isinstance(value, dict):
        raise MalformedImage("its table of contents has xattrs that are no object")
    try:
        return tuple(
            sorted(
                (key.encode("utf-8", "surrogateescape"), base64.b64decode(text, validate=True))
                for key, text in value.items()
            )
        )
    except (TypeError, ValueError, binascii.Error):
        raise MalformedImage("its table of contents has an xattr that is no base64") from None
