"""eStargz: a gzip layer whose end says what is inside it.

A blob is gzip members that are the tar stream together: one begins at the content of each file
(or piece of one), and has the headers that follow it as well. The last but one is the table of
contents, a tar entry `stargz.index.json`; the last is an empty one that says where that begins.
The annotation of the layer has the table's digest. Source: containerd/stargz-snapshotter,
docs/estargz.md.

The table says what the headers said, not how they were written. They are made again as the
writers make them, which are all of one library; the blob's beginning tells whether that holds.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.layer import go_header
from bridge.layer.blob_index import File
from bridge.layer.compression import decompress
from bridge.layer.go_header import GoHeader
from bridge.layer.header import BLOCK, parse_header
from bridge.layer.json_stream import Scanner
from bridge.layer.tar_split import PackedTarSplit
from bridge.layer.toc import Toc, TocBuilder

ANNOTATION = "containerd.io/snapshot/stargz/toc.digest"
TOC_NAME = "stargz.index.json"

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_FOOTER = re.compile(
    rb"\x1f\x8b\x08\x04.{6}(?:\x1a\0SG\x16\0|\x16\0)([0-9a-f]{16})STARGZ"
    rb"\x01\0\0\xff\xff\0{8}\Z",
    re.DOTALL,
)
_FOOTER_MAX = 51
_TYPE_FLAGS = {
    "reg": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "dir": b"5",
    "fifo": b"6",
}


@dataclass(frozen=True, slots=True)
class EstargzLocation:
    """Which table of contents the manifest says that a blob of `blob_size` bytes has."""

    blob_size: int
    toc_digest: bytes

    @property
    def start(self) -> int:
        """From where on the blob's end is likely to have all of the table: only the footer says
        where it begins."""
        likely = max(limits.ESTARGZ_TAIL, self.blob_size // limits.ESTARGZ_TAIL_PART)
        return max(0, self.blob_size - likely)


def locate(annotations: Mapping[str, str], blob_size: int) -> EstargzLocation | None:
    """Return what a layer's annotations say of its index; None where they say nothing.

    Raises `MalformedImage` where what they say cannot be.
    """
    if ANNOTATION not in annotations:
        return None
    digest = _DIGEST.fullmatch(annotations[ANNOTATION])
    if digest is None:
        raise MalformedImage("the annotation with the digest of its table of contents has none")
    return EstargzLocation(blob_size, bytes.fromhex(digest[1]))


def parse_footer(tail: bytes) -> tuple[int, int]:
    """Return where in the blob the table of contents begins, and the footer's own size, given the
    blob's last bytes; `MalformedImage` if there is none."""
    found = _FOOTER.search(tail[-_FOOTER_MAX:])
    if found is None:
        raise MalformedImage("it has no eStargz footer")
    return int(found[1], 16), len(found[0])


class Table:
    """A table of contents that has the digest that the manifest gives, still packed."""

    def __init__(self, packed: bytes, digest: bytes) -> None:
        """Raises `MalformedImage` if it is another, or none."""
        self._packed = packed
        found = hashlib.sha256()
        for chunk in self.json():
            found.update(chunk)
        if found.digest() != digest:
            raise MalformedImage("its table of contents has not the digest that the manifest gives")

    def stream(self) -> Iterator[bytes]:
        """Yield the bytes of the tar stream that the table is: the last ones of the layer's."""
        size = held = 0
        ready: list[bytes] = []
        for chunk in decompress((self._packed,), "gzip"):
            size += len(chunk)
            if size > limits.TOC_MAX:
                raise MalformedImage(f"its table of contents is larger than {limits.TOC_MAX} bytes")
            # In a member for each byte, who looks for the end of a value would look as often.
            ready.append(chunk)
            held += len(chunk)
            if held >= limits.BLOB_BUFFER:
                yield b"".join(ready)
                ready.clear()
                held = 0
        if ready:
            yield b"".join(ready)

    def json(self) -> Iterator[bytes]:
        """Yield the document itself."""
        chunks = self.stream()
        data = b""
        while len(data) < BLOCK:
            more = next(chunks, None)
            if more is None:
                raise MalformedImage("its table of contents is cut off")
            data += more
        header = parse_header(data[:BLOCK])
        if header.name != TOC_NAME.encode() or header.kind not in b"0\0":
            raise MalformedImage(f"its table of contents is not in a file {TOC_NAME}")
        left = header.size
        data = data[BLOCK:]
        while left:
            yield data[:left]
            left -= min(left, len(data))
            if left:
                more = next(chunks, None)
                if more is None:
                    raise MalformedImage("its table of contents is cut off")
                data = more


def contents(table: Table, end: int, most: int, split: PackedTarSplit) -> Toc:
    """Return what the table says of a blob whose content ends at `end`, which may hold `most`;
    `split` is told what the tar stream has been.

    Raises `MalformedImage` if it is wrong.
    """
    builder = TocBuilder(end, most)
    names = _Owners()
    for entry in _with_ends(_entries(table.json()), end):
        builder.add(entry)
        if entry["type"] == "chunk":
            continue
        seconds, *_, xattrs = builder.entries[entry["name"]][5:]
        header = _header(entry, seconds, xattrs, names)
        split.add(go_header.render(header))
        if header.size:
            split.content(header.name, header.size)
            split.add(bytes(-header.size % BLOCK))
    found = builder.toc(None)
    if TOC_NAME in found.entries:
        raise MalformedImage(f"its table of contents has {TOC_NAME}, which is itself")
    for chunk in table.stream():
        split.add(chunk)
    return found


def compare(parts: Iterable[bytes | File], head: bytes) -> None:
    """Hold the skeleton of a blob's tar stream to the blob's beginning, `head`.

    Raises `MalformedImage` where it has other bytes between the files than the skeleton.
    """
    stream = _unpacked(head)
    at = 0
    for part in parts:
        if isinstance(part, File):
            at += part.size
        elif stream[at : at + len(part)] == part[: max(0, len(stream) - at)]:
            at += len(part)
        else:
            raise MalformedImage(
                "its headers are not as eStargz writers make them from its table of contents"
            )
        if at >= len(stream):
            return


def _unpacked(head: bytes) -> bytes:
    """Return what the beginning of a blob unpacks to, as far as that is whole and not too much."""
    found = bytearray()
    while head and len(found) < limits.ESTARGZ_HEAD_UNPACKED:
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            found += decoder.decompress(head, limits.ESTARGZ_HEAD_UNPACKED - len(found))
        except zlib.error as error:
            raise MalformedImage(f"its beginning cannot be unpacked: {error}") from None
        head = decoder.unused_data
    return bytes(found)


def _entries(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    scanner = Scanner(chunks)
    version: object = None
    for key in scanner.members():
        if key == "entries":
            for entry in scanner.elements():
                if not isinstance(entry, dict):
                    raise MalformedImage("its table of contents has an entry that is no object")
                yield entry
        elif key == "version":
            version = scanner.value()
        else:
            scanner.value()
    scanner.finish()
    if version != 1 or isinstance(version, bool):
        raise MalformedImage(f"its table of contents is of version {version!r:.50}")


def _with_ends(entries: Iterable[dict[str, Any]], end: int) -> Iterator[dict[str, Any]]:
    """Yield the entries, with each file's `endOffset`: where the content of the next one begins."""
    waiting: list[dict[str, Any]] = []  # from the last file that has content on
    for entry in entries:
        if entry.get("innerOffset"):
            raise MalformedImage("it has several files in one gzip member")
        if entry.get("type") == "reg" and entry.get("size"):
            if waiting:
                waiting[0]["endOffset"] = entry.get("offset")
                yield from waiting
            waiting = [entry]
        elif waiting:
            waiting.append(entry)
            if len(waiting) > limits.TOC_ENTRIES_MAX:
                raise MalformedImage(
                    f"its table of contents has more than {limits.TOC_ENTRIES_MAX} entries"
                )
        else:
            yield entry
    if waiting:
        waiting[0]["endOffset"] = end
        yield from waiting


class _Owners:
    """Names of users and groups, which stand only where an id first has them."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], str] = {}

    def name(self, field: str, number: int, entry: dict[str, Any]) -> str:
        name = entry.get(field)
        if name is not None and not isinstance(name, str):
            raise MalformedImage(f"its table of contents has a {field} that is no text")
        if name:
            self._names[field, number] = name
            return name
        return self._names.get((field, number), "")


def _header(
    entry: dict[str, Any], mtime: int, xattrs: tuple[tuple[bytes, bytes], ...], owners: _Owners
) -> GoHeader:
    """Return the header that an entry was made of, which `TocBuilder` found to be one."""
    name, kind, target = entry["name"], entry["type"], entry.get("linkName", "")
    if not isinstance(target, str):
        raise MalformedImage(f"its table of contents has a link {name!r:.300} to no text")
    uid, gid = entry.get("uid", 0), entry.get("gid", 0)
    return GoHeader(
        name,
        _TYPE_FLAGS[kind],
        entry.get("mode", 0),
        uid,
        gid,
        entry.get("size", 0) if kind == "reg" else 0,
        mtime,
        target if kind in ("hardlink", "symlink") else "",
        owners.name("userName", uid, entry),
        owners.name("groupName", gid, entry),
        (entry.get("devMajor", 0), entry.get("devMinor", 0))
        if kind in ("char", "block")
        else (0, 0),
        xattrs,
    )
