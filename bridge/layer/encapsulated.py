"""The tar layers of an encapsulated OSTree commit: which of their entries are objects.

Format: ostree-ext, `tar/export.rs` and `tar/import.rs`; docs/encapsulated.md has a drawing. Below
`sysroot/ostree/repo/objects` lies each object under its checksum. A content object's xattrs come
in an entry of their own just before it, for no tar header could carry all of them: a
`.file-xattrs-link`, which holds them or is a hard link to a `.file-xattrs` that came before. (The
first version of the format had `.file.xattrs`, hard links to files in `xattrs/`.) Everything else
is the tree that container tools see, made of hard links to the objects, and is passed over.
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import NamedTuple

from bridge import limits
from bridge.errors import MalformedImage, VerificationFailed
from bridge.layer.tar import Entry, EntryType, TarReader

REPOSITORY = "sysroot/ostree/repo"
OBJECTS = f"{REPOSITORY}/objects"

_OBJECT = re.compile(r"([0-9a-f]{2})/([0-9a-f]{62})\.([a-z.-]+)")
_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_XATTRS, _LINK, _OLD_LINK = "file-xattrs", "file-xattrs-link", "file.xattrs"


class Kind(enum.Enum):
    """An object's kind, with the ending of its name."""

    COMMIT = "commit"
    COMMITMETA = "commitmeta"
    DIRTREE = "dirtree"
    DIRMETA = "dirmeta"
    FILE = "file"


_KINDS = {each.value: each for each in Kind}


class Found(NamedTuple):
    """An object of which the reader is at the payload."""

    kind: Kind
    checksum: str
    """By its name: what it holds is still to be hashed."""
    xattrs: bytes
    """Of a file: the serialised `a(ayay)`."""


def object_path(checksum: str, ending: str) -> str:
    """Return the path of an object in such a layer."""
    return f"{OBJECTS}/{checksum[:2]}/{checksum[2:]}.{ending}"


def parse_path(path: str) -> tuple[str, str] | None:
    """Return checksum and ending of what is at `path`; None for what is no object.

    `MalformedImage` for a path with `..`, and for one among the objects that is no object's. The
    ending of a file in the old `xattrs` directory is `file-xattrs`, too.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise MalformedImage(f"path {path!r:.300} has a '..'")
    if parts[:3] != ["sysroot", "ostree", "repo"] or len(parts) < 5:
        return None
    if parts[3] == "xattrs":
        if len(parts) == 5 and _CHECKSUM.fullmatch(parts[4]):
            return parts[4], _XATTRS
    elif parts[3] != "objects":
        return None
    elif match := _OBJECT.fullmatch("/".join(parts[4:])):
        return match[1] + match[2], match[3]
    raise MalformedImage(f"{path!r:.300} is not the name of an object")


class ObjectFinder:
    """Goes through the entries of one layer, which `reader` yields, for objects.

    Objects come once each, and each file right after its xattrs; else `MalformedImage`.
    """

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader
        self._xattrs: dict[str, bytes] = {}
        self._kept = 0
        self._next: tuple[str, bytes] | None = None
        self._seen: dict[Kind, set[str]] = {kind: set() for kind in Kind}

    def find(self, entry: Entry) -> Found | None:
        """Return the object that the current entry is, None if it is none.

        The payloads of xattrs are taken; those of objects are left to the caller. Raises
        `VerificationFailed` for xattrs that do not hash to their name.
        """
        if entry.type is EntryType.DIRECTORY:
            return None
        named = parse_path(entry.path)
        if named is None:
            return None
        checksum, ending = named
        if ending == _XATTRS:
            self._keep(entry, checksum)
        elif ending in (_LINK, _OLD_LINK):
            self._announce(entry, checksum, old=ending == _OLD_LINK)
        elif ending in _KINDS:
            return self._object(entry, _KINDS[ending], checksum)
        else:
            raise MalformedImage(f"{entry.path!r:.300} is an object of unknown kind")
        return None

    def finish(self) -> None:
        """Take that there are no more entries."""
        if self._next is not None:
            raise MalformedImage(f"xattrs of {self._next[0]}, which does not follow them")

    def _object(self, entry: Entry, kind: Kind, checksum: str) -> Found:
        is_file = kind is Kind.FILE
        if entry.type is not EntryType.FILE and not (is_file and entry.type is EntryType.SYMLINK):
            raise MalformedImage(f"object {checksum}.{kind.value} is a {entry.type.value}")
        if not is_file and entry.size > limits.ENCAPSULATED_METADATA_MAX:
            raise MalformedImage(
                f"{kind.value} {checksum} of {entry.size} bytes; the limit is"
                f" {limits.ENCAPSULATED_METADATA_MAX}"
            )
        if checksum in self._seen[kind]:
            raise MalformedImage(f"object {checksum}.{kind.value} is there twice")
        self._seen[kind].add(checksum)
        xattrs = b""
        if self._next is not None:
            owner, xattrs = self._next
            self._next = None
            if not is_file or owner != checksum:
                raise MalformedImage(f"xattrs of {owner} before {checksum}.{kind.value}")
        elif is_file:
            raise MalformedImage(f"file {checksum} has no xattrs before it")
        return Found(kind, checksum, xattrs)

    # -- xattrs ------------------------------------------------------------------------------

    def _keep(self, entry: Entry, checksum: str) -> None:
        """Take xattrs that hard links will name."""
        data = self._read(entry)
        if hashlib.sha256(data).hexdigest() != checksum:
            raise VerificationFailed(f"xattrs {checksum} do not hash to their name", checksum)
        if checksum not in self._xattrs:
            self._kept += len(data)
            if self._kept > limits.ENCAPSULATED_XATTRS_KEPT:
                raise MalformedImage(
                    f"xattrs of more than {limits.ENCAPSULATED_XATTRS_KEPT} bytes to be linked to"
                )
            self._xattrs[checksum] = data

    def _announce(self, entry: Entry, checksum: str, *, old: bool) -> None:
        """Take the xattrs of the file that comes next."""
        if self._next is not None:
            raise MalformedImage(f"xattrs of {self._next[0]}, which does not follow them")
        if entry.type is EntryType.FILE and not old:
            data = self._read(entry)
        elif entry.type is EntryType.HARDLINK:
            data = self._linked(entry)
        else:
            raise MalformedImage(f"xattrs of {checksum} are a {entry.type.value}")
        self._next = checksum, data

    def _linked(self, entry: Entry) -> bytes:
        # Its own directory is what a relative target starts from, but the name says it all.
        parts = entry.target.split("/")
        match = _OBJECT.fullmatch("/".join(parts[-2:]))
        name = match[1] + match[2] if match and match[3] == _XATTRS else parts[-1]
        if name not in self._xattrs:
            raise MalformedImage(
                f"{entry.path!r:.300} is a link to {entry.target!r:.300}: no xattrs that came"
                " before it"
            )
        return self._xattrs[name]

    def _read(self, entry: Entry) -> bytes:
        if entry.type is not EntryType.FILE:
            raise MalformedImage(f"xattrs {entry.path!r:.300} are a {entry.type.value}")
        if entry.size > limits.ENCAPSULATED_XATTRS_MAX:
            raise MalformedImage(
                f"xattrs {entry.path!r:.300} of {entry.size} bytes; the limit is"
                f" {limits.ENCAPSULATED_XATTRS_MAX}"
            )
        return self._reader.read_payload(stored=False)
