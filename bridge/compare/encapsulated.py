"""Layers of an encapsulated commit, as `image diff` looks at them: the objects among their entries,
and the names under which container tools see them.

What is seen is what is compared: that is the commit's tree, or who made the image made it wrongly.
What a pull stores and has to move are the objects.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bridge.errors import MalformedImage
from bridge.layer.encapsulated import REPOSITORY, Kind, object_path, parse_path
from bridge.layer.tar import Entry, EntryType
from bridge.ostree import objects
from bridge.ostree.objects import FileMeta, Xattrs

if TYPE_CHECKING:
    from bridge.compare.layer import Item

Object = tuple[bytes, int, int, int, bytes]
"""What makes an object of a file: the digest of its content, mode, owner, group, and the digest of
its xattrs."""
_XATTRS = ("file-xattrs", "file-xattrs-link", "file.xattrs")


def is_in_repository(path: str) -> bool:
    """Tell whether a path of an archive is in the repository of an encapsulated commit."""
    return REPOSITORY in path and path.lstrip("./").startswith(f"{REPOSITORY}/")


def object_at(path: str) -> tuple[str, str] | None:
    """Return checksum and ending of the object at a path of an archive; None for anything else."""
    if not is_in_repository(path):
        return None
    try:
        return parse_path(path)
    except MalformedImage:
        return None


def file_at(path: str) -> str | None:
    """Return the one path of the content object at a path of an archive; None for anything else."""
    found = object_at(path)
    if found is None or found[1] != Kind.FILE.value:
        return None
    return object_path(found[0], found[1])


def stored_objects(items: list[Item]) -> Iterator[tuple[Object, int]]:
    """Yield the content objects among a layer's entries, and how large each is."""
    attributes = b""
    for item in items:
        entry = item.entry
        found = object_at(entry.path)
        if found is None:
            continue
        if found[1] in _XATTRS:
            attributes = _said(item)
        elif found[1] == Kind.FILE.value and entry.type is EntryType.FILE:
            yield (item.digest, entry.mode, entry.uid, entry.gid, attributes), entry.size


def identity(item: Item) -> Object:
    """Return what makes an object of a file that is no object yet."""
    entry = item.entry
    return item.digest, entry.mode, entry.uid, entry.gid, xattrs_digest(entry.xattrs)


@functools.lru_cache(maxsize=1000)
def xattrs_digest(xattrs: Xattrs) -> bytes:
    """Return the digest of the form that an encapsulated commit has xattrs in."""
    return hashlib.sha256(objects.encode_xattrs(FileMeta(0, 0, 0, xattrs))).digest()


def _said(item: Item) -> bytes:
    """Return the digest of the xattrs that an entry has, or is a link to."""
    if item.entry.type is EntryType.FILE:
        return item.digest
    name = item.entry.target.rpartition("objects/")[2].removesuffix(".file-xattrs")
    try:
        return bytes.fromhex(name.replace("/", ""))
    except ValueError:
        return item.entry.target.encode("utf-8", "surrogateescape")


def link_target(entry: Entry) -> str | None:
    """Return the path of the content object that a hard link names; None for other entries."""
    return file_at(entry.target) if entry.type is EntryType.HARDLINK else None
