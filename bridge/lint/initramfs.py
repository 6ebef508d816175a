"""The initramfs: made again bit by bit by the same sources, and of what the image has in `/usr`.

It is a large part of an update's bytes, because all of it is packed into one file: whatever in it
is of the build rather than of its sources moves all of it to each machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryFile

from bridge import limits
from bridge.contents.contents import Node
from bridge.errors import MalformedImage
from bridge.initramfs.cpio import CpioEntry, InitramfsReader, Segment
from bridge.initramfs.pack import is_packed_so, same_bytes
from bridge.layer.tar import EntryType
from bridge.lint.boot import kernel_directories
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Kind, Subject
from bridge.lint.times import text

_OF_DEPMOD = re.compile(r"usr/lib/modules/[^/]+/modules\.[a-z.]+")
"""Made anew for the modules that are packed, and no others."""
_OTHERS_PERCENT = 20
"""What of an initramfs may be in no file of `/usr`: configuration, above all."""
_REPRODUCIBLE = "make it with: dracut --reproducible (and SOURCE_DATE_EPOCH set)"
_AGAIN = (
    "make it anew after the last step that installs or removes something, by: dracut "
    "--reproducible --nostrip"
)
_BUILD = "let `bootc-py build` make the image: then an update of it need not move all of it"
_PACKED = "pack it with a tool that writes none: dracut --compress zstd, or gzip -n"


@dataclass(slots=True)
class _Seen:
    """What was seen of an initramfs so far."""

    late: list[CpioEntry] = field(default_factory=list)
    unordered: str = ""
    on_device: str = ""
    numbers: str = ""
    notes: set[str] = field(default_factory=set)
    changed: list[str] = field(default_factory=list)
    entries: int = 0
    bytes: int = 0
    bytes_of_usr: int = 0


def _initramfs(subject: Subject) -> Iterator[Finding]:
    for directory in kernel_directories(subject):
        path = f"{directory}/initramfs.img"
        node = subject.contents.resolve(path)
        if node is None or node.type is not EntryType.FILE:
            continue
        seen = _Seen()
        try:
            _look(subject, node, seen)
        except MalformedImage as error:
            yield Finding(f"/{path}", "is no initramfs that Linux unpacks", _AGAIN, str(error))
            continue
        yield from _findings(subject, f"/{path}", seen)
        if subject.kind is Kind.IMAGE and not _is_packed_so(subject, node):
            yield Finding(f"/{path}", "cannot be packed again bit by bit", _BUILD)


def _is_packed_so(subject: Subject, node: Node) -> bool:
    if subject.packed:
        digest = hashlib.sha256()
        for chunk in subject.contents.chunks(node):
            digest.update(chunk)
        if digest.hexdigest() in subject.packed:
            return True
    with TemporaryFile() as spool:
        return is_packed_so(partial(subject.contents.chunks, node), spool)


def _findings(subject: Subject, path: str, seen: _Seen) -> Iterator[Finding]:
    if seen.late and subject.epoch is not None:
        first = seen.late[0]
        yield Finding(
            path,
            f"has files with times after {text(subject.epoch)}",
            _REPRODUCIBLE,
            f"{len(seen.late):,} of {seen.entries:,}, {first.name!r} first: {text(first.mtime)}",
        )
    if seen.unordered:
        yield Finding(
            path, "has files in an order that is not that of their names", _REPRODUCIBLE,
            seen.unordered,
        )  # fmt: skip
    if seen.on_device:
        yield Finding(
            path, "has the number of the device that it was built on", _REPRODUCIBLE,
            seen.on_device,
        )  # fmt: skip
    if seen.numbers:
        yield Finding(
            path, "has the inode numbers of the build", _REPRODUCIBLE, seen.numbers
        )  # fmt: skip
    for note in sorted(seen.notes):
        yield Finding(path, "is not packed alike each time", _PACKED, note)
    for name in seen.changed:
        yield Finding(path, "has files that differ from those of the image", _AGAIN, f"/{name}")
    others = seen.bytes - seen.bytes_of_usr
    if others * 100 > seen.bytes * _OTHERS_PERCENT:
        yield Finding(
            path,
            f"is not made of the image's files: over {_OTHERS_PERCENT} % of it is nowhere else",
            _AGAIN,
            f"{others:,} of {seen.bytes:,} bytes",
        )


def _look(subject: Subject, node: Node, seen: _Seen) -> None:
    reader = InitramfsReader(subject.contents.chunks(node))
    archive: Segment | None = None
    order = _Order()
    numbers = _Numbers()
    for segment, entry in reader:
        if segment is not archive:
            seen.notes.update(segment.notes)
            archive, order, numbers = segment, _Order(), _Numbers()
        seen.entries += 1
        if subject.epoch is not None and entry.mtime > subject.epoch:
            seen.late.append(entry)
        if any(entry.device) and not seen.on_device:
            seen.on_device = f"{entry.device[0]}:{entry.device[1]}, of {entry.name!r}"
        is_link = entry.links > 1 and not entry.is_directory
        if not is_link:  # hard links may be put off until the last of them
            seen.unordered = seen.unordered or order.wrong(entry.name)
            seen.numbers = seen.numbers or numbers.wrong(entry)
        if entry.is_file and entry.size:
            _compare(subject, reader, entry, seen)


def _compare(subject: Subject, reader: InitramfsReader, entry: CpioEntry, seen: _Seen) -> None:
    """Tell whether a file is the one that the image has at the same path."""
    seen.bytes += entry.size
    name = entry.name.removeprefix("./").lstrip("/")
    known = subject.contents.resolve(name)
    if known is None or known.type is not EntryType.FILE:
        return
    if known.size == entry.size and same_bytes(subject.contents.chunks(known), reader.payload()):
        seen.bytes_of_usr += entry.size
    elif (
        known.path.startswith("usr/")
        and not _OF_DEPMOD.fullmatch(known.path)
        and len(seen.changed) < limits.INITRAMFS_ENTRIES_MAX
    ):
        seen.changed.append(known.path)


class _Order:
    """Names in order: of their bytes, or of their parts, a directory's before the next one."""

    def __init__(self) -> None:
        self._last: bytes | None = None
        self._kinds = {"bytes", "parts"}

    def wrong(self, name: str) -> str:
        """Take the next name; return what is wrong with it, if there is."""
        raw = name.encode(errors="surrogateescape")
        last, self._last = self._last, raw
        if last is None or last in (b".", b"/") or not self._kinds:
            return ""
        if not last < raw:
            self._kinds.discard("bytes")
        if not last.split(b"/") < raw.split(b"/"):
            self._kinds.discard("parts")
        if self._kinds:
            return ""
        return f"{name!r} after {last.decode(errors='surrogateescape')!r}"


class _Numbers:
    """Inode numbers as a tool gives them that counts: each at least as large as the one before."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0

    def wrong(self, entry: CpioEntry) -> str:
        """Take the next entry; return what is wrong with its number, if there is."""
        number = entry.inode
        if self._first is None:
            self._first = self._last = number
            return ""
        last, self._last = self._last, number
        if number < last or number - self._first > limits.INITRAMFS_ENTRIES_MAX:
            return f"{number} of {entry.name!r} after {last}"
        return ""


LINTS = (
    Lint(
        "initramfs",
        Level.WARNING,
        "Check that the initramfs comes out alike each time (times, order, inode and device "
        "numbers, compression), and has the files of the image: else each update moves all of it.",
        _initramfs,
    ),
)
