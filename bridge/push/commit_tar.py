"""The tar layers that a commit is written as: its objects, and the tree that container tools see.

Format: ostree-ext, `tar/export.rs`, version 1; docs/encapsulated.md has a drawing. The same commit
and the same choice of objects make the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from bridge import limits
from bridge.errors import DamagedRepository, UsageError
from bridge.layer.encapsulated import OBJECTS, REPOSITORY, object_path
from bridge.layer.go_header import GoHeader, render
from bridge.layer.header import BLOCK
from bridge.ostree import objects
from bridge.ostree.content import READ_FLAGS, payload_size
from bridge.ostree.objects import DirMeta, FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.selinux import as_stored, without_label
from bridge.pull.encapsulated import detached_path

_CONFIG = b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n"
_SUBDIRECTORIES = (
    *("extensions", "refs", "refs/heads", "refs/mirrors", "refs/remotes"),
    *("state", "tmp", "tmp/cache"),
)
_FILE, _HARDLINK, _SYMLINK, _DIRECTORY = b"0", b"1", b"2", b"5"
_ROOT = DirMeta(0, 0, stat.S_IFDIR | 0o755)


@dataclass(frozen=True, slots=True)
class Content:
    """A content object of a commit: bytes of its payload, and where it is in the tree."""

    size: int
    paths: tuple[str, ...]


def contents(repo: Repository, commit: str) -> dict[str, Content]:
    """Return the content objects of a commit, in the order of their checksums.

    `DamagedRepository` where one is missing, `UsageError` for a tree that is too deep to be read
    back.
    """
    found: dict[str, list[str]] = {}
    for path, checksum in _files(repo, repo.read_commit(commit).tree, "", 0):
        found.setdefault(checksum, []).append(path)
    return {each: Content(_size(repo, each), tuple(found[each])) for each in sorted(found)}


def _files(repo: Repository, tree: str, at: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > limits.DEPTH_MAX:
        raise UsageError(f"{at!r:.300} is deeper than {limits.DEPTH_MAX} levels")
    read = repo.read_dirtree(tree)
    for name, checksum in read.files.items():
        yield at + name, checksum
    for name, (below, _meta) in read.dirs.items():
        yield from _files(repo, below, f"{at}{name}/", depth + 1)


def _size(repo: Repository, checksum: str) -> int:
    _meta, payload = repo.open_file(checksum)
    if payload is None:
        return 0
    with payload:
        return payload_size(payload)


def commit_layer(
    repo: Repository, commit: str, content: Iterable[tuple[str, Content]]
) -> Iterator[bytes]:
    """Yield the stream of the layer with the commit, its trees, and some of its content.

    Raises `DamagedRepository`, at the latest at the end, where an object is not what it should be.
    """
    read = repo.read_commit(commit)
    meta = repo.read_dirmeta(read.meta)
    yield _directory("./", meta)
    yield from _structure()
    yield _object(commit, "commit", repo.read_metadata(commit, ObjectType.COMMIT))
    if (detached := read_detached(repo, commit)) is not None:
        yield _object(commit, "commitmeta", detached)
    walk = _Walk(repo)
    yield from walk.dirmeta(read.meta)
    yield from walk.dirtree(read.tree, "", visible=True)
    if not walk.has_var_tmp:
        # A container has nothing that would make it.
        yield _directory("var/tmp/", DirMeta(0, 0, 0o1777))
    yield from _content(repo, content)
    yield bytes(2 * BLOCK)


def content_layer(repo: Repository, content: Iterable[tuple[str, Content]]) -> Iterator[bytes]:
    """Yield the stream of a layer with content alone; raises as `commit_layer`."""
    yield from _structure()
    yield from _content(repo, content)
    yield bytes(2 * BLOCK)


def read_detached(repo: Repository, commit: str) -> bytes | None:
    """Return a commit's detached metadata, serialised; None where it has none."""
    try:
        fd = os.open(detached_path(commit), READ_FLAGS, dir_fd=repo.fd)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        data = file.read(limits.ENCAPSULATED_METADATA_MAX + 1)
    if len(data) > limits.ENCAPSULATED_METADATA_MAX:
        raise UsageError(
            f"commit {commit} has more than {limits.ENCAPSULATED_METADATA_MAX} bytes of detached"
            " metadata, which nobody would read back"
        )
    return data


class _Walk:
    """Metadata objects, once each, and the directories that they describe."""

    def __init__(self, repo: Repository) -> None:
        self.has_var_tmp = False
        self._repo = repo
        self._metas: set[str] = set()
        self._trees: set[str] = set()

    def dirmeta(self, checksum: str) -> Iterator[bytes]:
        if checksum not in self._metas:
            self._metas.add(checksum)
            yield _object(
                checksum, "dirmeta", self._repo.read_metadata(checksum, ObjectType.DIRMETA)
            )

    def dirtree(self, checksum: str, at: str, *, visible: bool) -> Iterator[bytes]:
        data = self._repo.read_metadata(checksum, ObjectType.DIRTREE)
        is_new = checksum not in self._trees
        if is_new:
            self._trees.add(checksum)
            yield _object(checksum, "dirtree", data)
        elif not visible:
            return
        self.has_var_tmp = self.has_var_tmp or at == "var/tmp/"
        for name, (below, meta) in objects.decode_dirtree(data).dirs.items():
            yield from self.dirmeta(meta)
            path = f"{at}{name}/"
            # The repository is there, and no path may be twice.
            shown = visible and path != "sysroot/"
            if shown:
                yield _directory(_in_container(path), self._repo.read_dirmeta(meta))
            yield from self.dirtree(below, path, visible=shown)


# -- content -----------------------------------------------------------------------------------


def _content(repo: Repository, content: Iterable[tuple[str, Content]]) -> Iterator[bytes]:
    for checksum, each in content:
        meta, payload = repo.open_file(checksum)
        try:
            meta = _own(repo, checksum, meta, payload)
            yield from _content_object(checksum, meta, payload, each.size)
        finally:
            if payload is not None:
                payload.close()
        yield from _links(checksum, meta, each)


def _own(repo: Repository, checksum: str, meta: FileMeta, payload: BinaryIO | None) -> FileMeta:
    """Return the metadata that is in the object, where a host with SELinux has added a label."""
    choices = as_stored(meta) if repo.mode == "bare" else (meta,)
    if len(choices) == 1:
        return meta
    digests = [hashlib.sha256(objects.content_header(each)) for each in choices]
    if payload is not None:
        while chunk := payload.read(limits.BLOB_BUFFER):
            for digest in digests:
                digest.update(chunk)
        payload.seek(0)
    found = [digest.hexdigest() for digest in digests]
    return choices[found.index(checksum)] if checksum in found else meta


def _content_object(
    checksum: str, meta: FileMeta, payload: BinaryIO | None, size: int
) -> Iterator[bytes]:
    """Yield a content object, its xattrs before it, and see to it that it is what it should be."""
    yield _object(checksum, "file-xattrs-link", objects.encode_xattrs(meta))
    path = object_path(checksum, "file")
    digest = hashlib.sha256(objects.content_header(meta))
    if payload is None:
        yield _header(path, _SYMLINK, meta, target=meta.target)
    else:
        yield _header(path, _FILE, meta, size)
        left = size
        while chunk := payload.read(limits.BLOB_BUFFER):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            yield chunk
        if left:
            raise DamagedRepository(f"file {checksum} has changed while it was read")
        yield bytes(-size % BLOCK)
    if digest.hexdigest() != checksum:
        raise DamagedRepository(f"file {checksum} is damaged; `fsck --repair` may heal it")


def _links(checksum: str, meta: FileMeta, content: Content) -> Iterator[bytes]:
    # A build on top that changes an empty file would change the object that it is linked to, so
    # ostree-ext makes it a file of its own.
    own = not meta.is_symlink and not content.size
    for path in content.paths:
        name = _in_container(path)
        if own:
            yield _header(name, _FILE, meta)
        else:
            target = object_path(checksum, "file")
            yield _header(name, _HARDLINK, replace(meta, xattrs=()), target=target)


def _in_container(path: str) -> str:
    """Return where container tools are to see what the commit has at `path`."""
    return path.removeprefix("usr/") if path.startswith("usr/etc/") else path


# -- entries -----------------------------------------------------------------------------------


def _structure() -> Iterator[bytes]:
    parts = OBJECTS.split("/")
    for end in range(1, len(parts) + 1):
        yield _directory("/".join(parts[:end]) + "/", _ROOT)
    for number in range(256):
        yield _directory(f"{OBJECTS}/{number:02x}/", _ROOT)
    for name in _SUBDIRECTORIES:
        yield _directory(f"{REPOSITORY}/{name}/", _ROOT)
    yield _plain(f"{REPOSITORY}/config", _CONFIG)


def _object(checksum: str, ending: str, data: bytes) -> bytes:
    return _plain(object_path(checksum, ending), data)


def _plain(path: str, data: bytes) -> bytes:
    header = _header(path, _FILE, FileMeta(0, 0, 0o644), len(data))
    return header + data + bytes(-len(data) % BLOCK)


def _directory(path: str, meta: DirMeta) -> bytes:
    return _header(path, _DIRECTORY, meta)


def _header(
    path: str, kind: bytes, meta: FileMeta | DirMeta, size: int = 0, target: str = ""
) -> bytes:
    return render(
        GoHeader(
            name=path,
            type_flag=kind,
            mode=stat.S_IMODE(meta.mode),
            uid=meta.uid,
            gid=meta.gid,
            size=size,
            mtime=0,
            target=target,
            xattrs=without_label(meta.xattrs),  # no container shows a label
        )
    )
