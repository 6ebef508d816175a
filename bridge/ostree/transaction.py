"""A transaction: new objects are staged, and become visible all together or not at all.

The order in which it publishes is the promise: everything staged is on the disk (syncfs), then
files, dirmetas, dirtrees and commits are renamed in, in that order, then the directories are
synced, then refs are written. A crash between any two steps leaves objects that nothing refers
to, never a reference to an object that is not there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

from bridge.errors import DamagedRepository, MalformedImage, VerificationFailed
from bridge.limits import BLOB_BUFFER, METADATA_MAX, SMALL_FILE
from bridge.ostree import durable, lock, objects, publish, refs, share
from bridge.ostree.content import READ_FLAGS, payload_size
from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta, ObjectType
from bridge.ostree.repository import Repository
from bridge.ostree.staging import Beside, Clone, Staging
from bridge.ostree.stats import Stats


class Transaction:
    """Use as a context manager; what was not published when it ends is gone.

    One transaction belongs to one thread; several may be open at once on one repository.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._stack = ExitStack()
        self._stack.enter_context(lock.held(repo.fd, ".lock", repo.path, shared=True))
        try:
            self._staging = Staging(repo.fd, repo.mode, repo.space)
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self._staging.remove)
        if not repo.writers:
            repo.known.forget()
            repo.space.look()
        repo.writers.add(self)
        self._stack.callback(repo.writers.discard, self)
        self._staged: dict[ObjectType, dict[str, int]] = {kind: {} for kind in ObjectType}
        self._files = self._staged[ObjectType.FILE]  # looked into for each file: by no enum's hash
        self._beside: dict[str, Beside] = {}
        self._refs: list[tuple[str, str]] = []
        self.stats = Stats()

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- content ---------------------------------------------------------------------------

    def write_payload(
        self, meta: FileMeta, payload: bytes | memoryview, clone: Clone | None = None
    ) -> str:
        """Store a regular file that is in memory; return its checksum. Nothing is written where
        the repository has that object already."""
        digest = hashlib.sha256(objects.content_header(meta))
        digest.update(payload)
        checksum = digest.hexdigest()
        if not self._have(checksum, len(payload)):
            self._staging.write_payload(f"{checksum}.file", meta, payload, clone)
            self._files[checksum] = len(payload)
        return checksum

    def write_stream(
        self,
        meta: FileMeta,
        size: int,
        chunks: Iterable[Any],
        clone: Clone | None = None,
        *,
        expected: str | None = None,
    ) -> str:
        """Store a regular file of `size` bytes that comes in chunks; return its checksum.

        That is known only when all has been written, unless it is `expected`: where the repository
        has that object, with this size and metadata, the chunks are hashed and nothing is written.
        `VerificationFailed` if it then is another one.
        """
        if expected is not None and self._is_stored(expected, meta, size):
            digest = hashlib.sha256(objects.content_header(meta))
            for chunk in chunks:
                digest.update(chunk)
            if digest.hexdigest() != expected:
                raise VerificationFailed(f"file {expected} hashes to {digest.hexdigest()}")
            self._have(expected, size)
            return expected
        checksum, name = self._staging.write_stream(meta, size, chunks, clone)
        if self._have(checksum, size):
            self._staging.discard(name, size)
        else:
            fd = self._staging.fd
            os.rename(name, f"{checksum}.file", src_dir_fd=fd, dst_dir_fd=fd)
            self._files[checksum] = size
        return checksum

    def write_link(self, meta: FileMeta) -> str:
        """Store a symbolic link; return its checksum."""
        checksum = objects.file_checksum(meta)
        if not self._have(checksum, 0):
            self._staging.write_link(f"{checksum}.file", meta)
            self._files[checksum] = 0
        return checksum

    def write_changed(
        self, checksum: str, old: FileMeta, new: FileMeta, payload: BinaryIO | None
    ) -> str:
        """Store the object `checksum` once more, with `new` in place of its metadata `old`; return
        the new one's checksum.

        `payload` is the object's, at its start (None for a link). The two share their blocks where
        the file system can. `DamagedRepository` where `old` and the payload are not what the
        object's name says: a damaged one must not become a good one of another name.
        """
        if payload is None:
            if objects.file_checksum(old) != checksum:
                raise _damaged(checksum)
            return self.write_link(new)
        size = payload_size(payload)
        chunks = _checked(payload, old, checksum)
        clone = self._cloning(payload, size)
        if size <= SMALL_FILE:
            return self.write_payload(new, b"".join(chunks), clone)
        return self.write_stream(new, size, chunks, clone)

    def _cloning(self, payload: BinaryIO, size: int) -> Clone | None:
        repo = self._repo
        if not repo.shares or size < share.WORTH_CLONING:
            return None

        def clone(target: int) -> bool:
            try:
                share.clone(target, payload.fileno())
            except OSError as error:
                if error.errno in share.CANNOT:
                    repo.shares = False
                return False
            repo.space.give_back(size)
            return True

        return clone

    def share(self, checksum: str, existing: str) -> int:
        """Have a file that is staged share the blocks of an object with the same payload but other
        metadata; return how many bytes are shared now.

        None are where the file is not new, is small, or the file system or the mode (archive) has
        no such thing; it is no error then, nor where the payloads differ: the kernel compares.
        """
        size = self._files.get(checksum, 0)
        if size < share.WORTH or not self._repo.shares:
            return 0
        path = self._repo.object_path(existing, ObjectType.FILE)
        try:
            with (
                _opened(path, self._repo.fd) as source,
                _opened(f"{checksum}.file", self._staging.fd) as target,
            ):
                shared = share.share(target, source, size)
        except OSError as error:
            if error.errno in share.CANNOT:
                self._repo.shares = False
            return 0
        self._repo.space.give_back(shared)
        return shared

    def without_payload(self) -> list[str]:
        """Return the content objects that are staged and have none: links, and empty files."""
        return [checksum for checksum, size in self._files.items() if not size]

    def _is_stored(self, checksum: str, meta: FileMeta, size: int) -> bool:
        """Tell whether the repository has a regular file with that name, metadata and size."""
        if checksum not in self._repo.known:
            return False
        try:
            there, payload = self._repo.open_file(checksum)
        except DamagedRepository:
            return False
        if payload is None:
            return False
        with payload:
            return there == meta and payload_size(payload) == size

    def _have(self, checksum: str, size: int) -> bool:
        if checksum not in self._files and checksum not in self._repo.known:
            return False
        self.stats.reused_objects += 1
        self.stats.reused_bytes += size
        return True

    # -- metadata --------------------------------------------------------------------------

    def write_dirmeta(self, meta: DirMeta) -> str:
        """Store a directory's metadata; return its checksum."""
        return self._write(ObjectType.DIRMETA, objects.encode_dirmeta(meta))

    def write_dirtree(self, tree: DirTree) -> str:
        """Store a directory's names; return its checksum."""
        return self._write(ObjectType.DIRTREE, objects.encode_dirtree(tree))

    def write_commit(self, commit: Commit) -> str:
        """Store a commit; return its checksum."""
        return self._write(ObjectType.COMMIT, objects.encode_commit(commit))

    def write_metadata(self, kind: ObjectType, data: bytes) -> str:
        """Store the bytes of a metadata object as they are; return the checksum.

        `DamagedRepository` where they are none of that kind.
        """
        decode = {
            ObjectType.DIRMETA: objects.decode_dirmeta,
            ObjectType.DIRTREE: objects.decode_dirtree,
            ObjectType.COMMIT: objects.decode_commit,
        }[kind]
        decode(data)
        return self._write(kind, data)

    def set_ref(self, name: str, commit: str) -> None:
        """Have the ref written when the transaction is published."""
        self._refs.append((refs.check_ref(name), commit))

    def _write(self, kind: ObjectType, data: bytes) -> str:
        if len(data) > METADATA_MAX:
            raise MalformedImage(
                f"{kind.value} of {len(data)} bytes; libostree's limit is {METADATA_MAX}"
            )
        checksum = hashlib.sha256(data).hexdigest()
        staged = self._staged[kind]
        if checksum not in staged and not self._repo.has_object(checksum, kind):
            self._staging.write_metadata(f"{checksum}.{kind.value}", data)
            staged[checksum] = len(data)
        return checksum

    # -- beside the objects ----------------------------------------------------------------

    def write_beside(self, path: str) -> Beside:
        """Return a new file that will be `path` in the repository, and no object, when this is
        published: there before a ref is. A second one for that path takes the first one's place."""
        file = self._beside[path] = self._staging.write_beside()
        self._stack.callback(file.close)
        return file

    def read_payload(self, checksum: str) -> Iterator[bytes]:
        """Yield the content of a regular file that was written here."""
        _meta, file = self.open_file(checksum)
        assert file is not None
        with file:
            while chunk := file.read(BLOB_BUFFER):
                yield chunk

    # -- what is staged, or in the repository ------------------------------------------------

    def open_file(self, checksum: str) -> tuple[FileMeta, BinaryIO | None]:
        """Open a content object as `Repository.open_file`."""
        if checksum in self._files:
            return self._repo.open_content(f"{checksum}.file", self._staging.fd)
        return self._repo.open_file(checksum)

    def read_dirmeta(self, checksum: str) -> DirMeta:
        """Return a directory's metadata as `Repository.read_dirmeta`."""
        if checksum not in self._staged[ObjectType.DIRMETA]:
            return self._repo.read_dirmeta(checksum)
        return objects.decode_dirmeta(self._read_staged(f"{checksum}.dirmeta"))

    def _read_staged(self, name: str) -> bytes:
        with open(os.open(name, READ_FLAGS, dir_fd=self._staging.fd), "rb") as file:
            return file.read(METADATA_MAX)

    def read_commit(self, checksum: str) -> Commit:
        """Return a commit as `Repository.read_commit`."""
        if checksum not in self._staged[ObjectType.COMMIT]:
            return self._repo.read_commit(checksum)
        return objects.decode_commit(self._read_staged(f"{checksum}.commit"))

    def read_dirtree(self, checksum: str) -> DirTree:
        """Return a directory's names as `Repository.read_dirtree`."""
        if checksum not in self._staged[ObjectType.DIRTREE]:
            return self._repo.read_dirtree(checksum)
        return objects.decode_dirtree(self._read_staged(f"{checksum}.dirtree"))

    def has(self, checksum: str, kind: ObjectType) -> bool:
        """Tell whether an object is staged, or in the repository."""
        if checksum in self._staged[kind]:
            return True
        if kind is ObjectType.FILE:
            return checksum in self._repo.known
        return self._repo.has_object(checksum, kind)

    # -- repair ----------------------------------------------------------------------------

    def holds(self, checksums: Collection[str]) -> bool:
        """Tell whether all of these objects are staged."""
        staged = self._staged.values()
        return all(any(each in kind for kind in staged) for each in checksums)

    def keep_only(self, checksums: Collection[str]) -> None:
        """Have nothing published but these objects: each is what its name says, all else came
        from a stream that was not read, and so not verified, to its end."""
        self._beside.clear()
        for staged in self._staged.values():
            for checksum in [each for each in staged if each not in checksums]:
                del staged[checksum]

    # -- publishing ------------------------------------------------------------------------

    def publish(self) -> Stats:
        """Make everything visible; return what was new and what was there already."""
        staging, repo = self._staging.fd, self._repo
        is_staged = any(self._staged.values())
        # What a new value of a ref leads to may be there from a process that was cut off.
        changed = any(refs.current(repo, name) != commit for name, commit in self._refs)
        if is_staged or self._beside or changed:
            durable.syncfs(staging)
        if is_staged:
            with repo.publishing:
                publish.objects_in(repo, staging, self._staged, self.stats)
        for path, file in self._beside.items():
            publish.beside(repo, staging, file.name, path)
        self._beside.clear()
        for name, commit in self._refs:
            refs.write(repo, name, commit)
        self._refs.clear()
        return self.stats


def _checked(payload: BinaryIO, meta: FileMeta, checksum: str) -> Iterator[bytes]:
    """Yield a payload; `DamagedRepository` at its end where that is not the object's."""
    digest = hashlib.sha256(objects.content_header(meta))
    while chunk := payload.read(BLOB_BUFFER):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != checksum:
        raise _damaged(checksum)


def _damaged(checksum: str) -> DamagedRepository:
    return DamagedRepository(f"file {checksum} is damaged; `fsck --repair` may heal it")


@contextmanager
def _opened(name: str, dir_fd: int) -> Iterator[int]:
    fd = os.open(name, READ_FLAGS, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)
