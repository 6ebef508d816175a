"""The four kinds of object: their serialised forms and their checksums.

Formats: libostree `ostree-core.h`. A content object's checksum is the sha256 of a header
(size of the variant, padding, variant `(uuuusa(ayay))`) and of the payload; a metadata object's
is the sha256 of its bytes. Numbers inside are big-endian. Times are not stored.
"""

from __future__ import annotations

import enum
import hashlib
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bridge import limits
from bridge.errors import DamagedRepository, MalformedImage
from bridge.ostree import variant
from bridge.ostree.variant import Variant

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Extended attributes as (name, value), sorted by name, names without a NUL."""

_CHECKSUM = re.compile(r"[0-9a-f]{64}")


class ObjectType(enum.Enum):
    """An object's kind, with the ending of its file's name."""

    FILE = "file"
    DIRMETA = "dirmeta"
    DIRTREE = "dirtree"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class FileMeta:
    """A regular file or symbolic link without its payload. `mode` has the file type's bits."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs = ()
    target: str = ""
    """Where a symbolic link points; empty for a regular file."""

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True, slots=True)
class DirMeta:
    """Owner, mode (with the directory's type bits) and xattrs of a directory."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs = ()


@dataclass(frozen=True, slots=True)
class DirTree:
    """A directory's names: files to checksums, directories to (dirtree, dirmeta) checksums."""

    files: Mapping[str, str]
    dirs: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit. `timestamp` is in seconds since 1970; metadata values are plain Python values."""

    tree: str
    meta: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    subject: str = ""
    body: str = ""
    timestamp: int = 0

    @property
    def content_checksum(self) -> str:
        """libostree's content checksum: over the root's dirtree and dirmeta, nothing else."""
        return hashlib.sha256(bytes.fromhex(self.tree + self.meta)).hexdigest()


def is_checksum(text: str) -> bool:
    """Tell whether `text` is 64 lower-case hex digits."""
    return _CHECKSUM.fullmatch(text) is not None


def check_checksum(text: str) -> str:
    """Return `text` if it is 64 lower-case hex digits, else raise `DamagedRepository`."""
    if not is_checksum(text):
        raise DamagedRepository(f"{text[:80]!r} is not an object's checksum")
    return text


def check_name(name: str) -> str:
    """Return `name` if a directory may have an entry of that name, else raise `MalformedImage`.

    The one validator of names: every tree that is built or read passes its names through here.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise MalformedImage(f"{name!r:.100} cannot be a file's name")
    if len(name) > limits.COMPONENT_MAX // 4 and len(name.encode()) > limits.COMPONENT_MAX:
        raise MalformedImage(f"{name!r:.100} is longer than {limits.COMPONENT_MAX} bytes")
    return name


# -- content ---------------------------------------------------------------------------------


def content_header(meta: FileMeta) -> bytes:
    """Return what is hashed before a file's payload."""
    # Most files share a few headers. Xattrs may be large, so headers with some are not kept.
    return _content_header(meta) if meta.xattrs else _kept_header(meta)


def _content_header(meta: FileMeta) -> bytes:
    return _sized(variant.encode("(uuuusa(ayay))", (*_owner(meta), 0, meta.target, _xattrs(meta))))


_kept_header = lru_cache(maxsize=4096)(_content_header)


def archive_header(meta: FileMeta, size: int) -> bytes:
    """Return what stands before the deflated payload in an archive-mode `.filez`."""
    value = (_swap64(size), *_owner(meta), 0, meta.target, _xattrs(meta))
    return _sized(variant.encode("(tuuuusa(ayay))", value))


def parse_archive_header(data: bytes) -> tuple[FileMeta, int]:
    """Return metadata and payload size from a `.filez` header's variant."""
    size, uid, gid, mode, _rdev, target, xattrs = variant.decode("(tuuuusa(ayay))", data)
    meta = FileMeta(_swap32(uid), _swap32(gid), _swap32(mode), parse_xattrs(xattrs), target)
    return meta, _swap64(size)


def encode_filemeta(meta: FileMeta | DirMeta) -> bytes:
    """Return `(uuua(ayay))`: a dirmeta object, and bare-user's `user.ostreemeta`."""
    return variant.encode("(uuua(ayay))", (*_owner(meta), _xattrs(meta)))


def decode_filemeta(data: bytes) -> tuple[int, int, int, Xattrs]:
    """Return uid, gid, mode and xattrs from `(uuua(ayay))`."""
    uid, gid, mode, xattrs = variant.decode("(uuua(ayay))", data)
    return _swap32(uid), _swap32(gid), _swap32(mode), parse_xattrs(xattrs)


def file_checksum(meta: FileMeta, payload: bytes = b"") -> str:
    """Return the checksum of a content object whose payload is at hand."""
    digest = hashlib.sha256(content_header(meta))
    digest.update(payload)
    return digest.hexdigest()


# -- metadata --------------------------------------------------------------------------------


def encode_dirmeta(meta: DirMeta) -> bytes:
    """Return a dirmeta object's bytes."""
    if not stat.S_ISDIR(meta.mode):
        raise ValueError(f"mode {meta.mode:o} is not a directory's")
    return encode_filemeta(meta)


def decode_dirmeta(data: bytes) -> DirMeta:
    """Return the directory's metadata; `DamagedRepository` where `data` is no dirmeta."""
    meta = DirMeta(*decode_filemeta(data))
    if not stat.S_ISDIR(meta.mode):
        raise DamagedRepository(f"dirmeta with mode {meta.mode:o}")
    return meta


def encode_dirtree(tree: DirTree) -> bytes:
    """Return a dirtree object's bytes, names in the order of their bytes.

    Written out for `(a(say)a(sayay))` rather than through the codecs: an image has thousands.
    """
    files = _entries(tree.files)
    dirs = _entries(tree.dirs)
    return variant.frame(files + dirs, [len(files)])


def dirtree_checksum(tree: DirTree) -> str:
    """Return the checksum that a dirtree has once it is written."""
    return hashlib.sha256(encode_dirtree(tree)).hexdigest()


def _entries(named: Mapping[str, str] | Mapping[str, tuple[str, str]]) -> bytes:
    items = bytearray()
    ends = []
    for name in sorted(named):  # by code points, which sorts as their UTF-8 does
        raw, checksums = name.encode(), named[name]
        # (say) and (sayay): every member but the last gets a framing offset, last one first.
        first = len(raw) + 1
        offsets = [first] if isinstance(checksums, str) else [first + 32, first]
        checksum = checksums if isinstance(checksums, str) else "".join(checksums)
        items += variant.frame(raw + b"\0" + bytes.fromhex(checksum), offsets)
        ends.append(len(items))
    return variant.frame(bytes(items), ends)


def decode_dirtree(data: bytes) -> DirTree:
    """Return the names in a dirtree object; they are valid, sorted and unique, or it is damaged."""
    files, dirs = variant.decode("(a(say)a(sayay))", data)
    names = [entry[0] for entry in files] + [entry[0] for entry in dirs]
    if len(set(names)) != len(names):
        raise DamagedRepository("dirtree with a name twice")
    if any(each != sorted(each) for each in (names[: len(files)], names[len(files) :])):
        raise DamagedRepository("dirtree whose names are not sorted")
    try:
        for name in names:
            check_name(name)
    except MalformedImage as error:
        raise DamagedRepository(f"dirtree in which {error}") from None
    return DirTree(
        {name: check_checksum(checksum.hex()) for name, checksum in files},
        {name: (check_checksum(t.hex()), check_checksum(m.hex())) for name, t, m in dirs},
    )


_COMMIT = "(a{sv}aya(say)sstayay)"


def encode_commit(commit: Commit) -> bytes:
    """Return a commit object's bytes. Metadata values: `Variant`, or str for type `s`."""
    metadata = {
        key: value if isinstance(value, Variant) else Variant("s", value)
        for key, value in sorted(commit.metadata.items())
    }
    value: tuple[Any, ...] = (
        metadata,
        bytes.fromhex(commit.parent or ""),
        [],
        commit.subject,
        commit.body,
        _swap64(commit.timestamp),
        bytes.fromhex(commit.tree),
        bytes.fromhex(commit.meta),
    )
    return variant.encode(_COMMIT, value)


def commit_checksum(commit: Commit) -> str:
    """Return the checksum that the commit has once it is written."""
    return hashlib.sha256(encode_commit(commit)).hexdigest()


def decode_commit(data: bytes) -> Commit:
    """Return the commit; `DamagedRepository` where `data` is none. Metadata loses its types."""
    metadata, parent, _related, subject, body, timestamp, tree, meta = variant.decode(_COMMIT, data)
    try:
        values = {key: plain(value) for key, value in metadata.items()}
    except RecursionError:
        raise DamagedRepository("commit with metadata that is nested too deep") from None
    return Commit(
        tree=check_checksum(tree.hex()),
        meta=check_checksum(meta.hex()),
        metadata=values,
        parent=check_checksum(parent.hex()) if parent else None,
        subject=subject,
        body=body,
        timestamp=_swap64(timestamp),
    )


def plain(value: Any) -> Any:
    """Return a decoded value without its `Variant` wrappers."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def _owner(meta: FileMeta | DirMeta) -> tuple[int, int, int]:
    return _swap32(meta.uid), _swap32(meta.gid), _swap32(meta.mode)


def _xattrs(meta: FileMeta | DirMeta) -> list[tuple[bytes, bytes]]:
    return [(name + b"\0", value) for name, value in sorted(meta.xattrs)]


def parse_xattrs(pairs: list[tuple[bytes, bytes]]) -> Xattrs:
    """Return decoded `a(ayay)` pairs without the NUL that ends each name."""
    for name, _value in pairs:
        if name.find(b"\0") != len(name) - 1 or len(name) < 2:
            raise DamagedRepository(f"xattr name {name[:100]!r} does not end in its only NUL")
    return tuple((name[:-1], value) for name, value in pairs)


def encode_xattrs(meta: FileMeta) -> bytes:
    """Return a file's xattrs alone, as `a(ayay)`."""
    return variant.encode("a(ayay)", _xattrs(meta))


def decode_xattrs(data: bytes) -> Xattrs:
    """Return the attributes in an `a(ayay)`; `DamagedRepository` unless they are in the order of
    their names, each there once."""
    found = parse_xattrs(variant.decode("a(ayay)", data))
    names = [name for name, _value in found]
    if names != sorted(set(names)):
        raise DamagedRepository("xattrs that are not sorted, or there twice")
    return found


def _sized(data: bytes) -> bytes:
    return struct.pack(">I4x", len(data)) + data


def _swap32(number: int) -> int:
    return int.from_bytes(number.to_bytes(4, "little"), "big")


def _swap64(number: int) -> int:
    return int.from_bytes(number.to_bytes(8, "little"), "big")
