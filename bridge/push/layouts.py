"""Writing OCI image layouts: into a directory (`oci:`), or as an archive of one (`oci-archive:`).

A blob is there whole or not at all, and the index, which alone gives it a meaning, comes last.
Source: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import fcntl
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self

from bridge import limits
from bridge.errors import BridgeError, UsageError, VerificationFailed
from bridge.oci import strict_json
from bridge.oci.artifact import described, descriptor_of
from bridge.oci.digest import Digest, Verifier
from bridge.oci.layout import REF_NAME, Layout
from bridge.oci.model import OCI_INDEX, Descriptor, parse_document
from bridge.ostree import durable
from bridge.push.compress import Packed
from bridge.registry.body import Arriving
from bridge.registry.meter import Meter
from bridge.registry.outcome import Outcome

MARKER, INDEX = "oci-layout", "index.json"
MARKER_TEXT = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutWriter:
    """A layout directory, reached through one descriptor. A context manager."""

    def __init__(self, path: str, fd: int, tag: str | None) -> None:
        self.path = path
        self.attaches_at_once = False
        """Whether the index names what is attached before `finish`, or without one."""
        self.meter = Meter()
        self.piece: int | None = None
        self._fd = fd
        self._tag = tag
        self._attached: list[dict[str, Any]] = []

    @classmethod
    def open(cls, path: str, tag: str | None) -> Self:
        """Open the layout at `path`, or make one; `UsageError` where there is something else."""
        try:
            os.makedirs(path, exist_ok=True)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"{path} is not a directory; write oci-archive:{path}") from None
        except OSError as error:
            raise BridgeError(f"making the layout {path}: {error.strerror}") from None
        try:
            names = set(os.listdir(fd)) - {f".{MARKER}.new"}
            if not names:
                durable.replace_file(MARKER, MARKER_TEXT, fd)
            elif MARKER not in names:
                raise UsageError(f"{path} is neither empty nor an OCI layout")
            return cls(path, fd, tag)
        except BaseException:
            os.close(fd)
            raise

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        """Have a blob there; one that is, and is what its name says, is not written again."""
        if self.holds(digest, size):
            return Outcome.SKIPPED
        self._write(digest, chunks_of(fd, size, told))
        return Outcome.PUSHED

    def take(self, make: Callable[[Callable[[bytes], object]], Packed]) -> Packed:
        """Have a blob there that is only made now: `make` hands it over, and returns what it is."""
        directory = durable.make_directories("blobs/sha256", self._fd)
        try:
            with durable.new_file("blob", directory) as file:
                made = make(partial(durable.write_all, file.fd))
                file.name = made.digest.hex
        finally:
            os.close(directory)
        return made

    def has(self, digest: Digest, size: int) -> Outcome | None:
        """Tell whether a blob is there, and is what its name says."""
        return Outcome.SKIPPED if self.holds(digest, size) else None

    def borrow(self, digest: Digest, lender: str) -> bool:
        """Return False: there is one store of blobs, and nothing to lend."""
        return False

    def gave_up(self, digest: Digest) -> None:
        """Take that a blob does not come."""

    def write(self, document: bytes, media_type: str) -> Digest:
        """Write a manifest or index as a blob, which nothing in `index.json` names."""
        digest = Digest.of(document)
        self._write(digest, document)
        return digest

    def attach(self, document: bytes, media_type: str) -> Digest:
        """Write a manifest that refers to another one; `finish` has the index name it, too."""
        digest = self.write(document, media_type)
        self._attached.append(_referrer(document, media_type))
        if self.attaches_at_once:
            self._rename((), [])
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return digest

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        """Write the manifest, and have the index name it under the tags.

        It takes the place of what had those; without any, of the image that has none.
        """
        digest = self.write(document, media_type)
        names = tags or (self._tag,)
        self._rename(names, _named(document, media_type, names))
        return digest

    def _rename(self, names: Sequence[str | None], entries: list[dict[str, Any]]) -> None:
        """Have the index name `entries` in place of what has these names, and what is attached."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # until it is closed: others write here, too
        index = self._index()
        attached = {each["digest"] for each in self._attached}
        index["manifests"] = [
            each
            for each in index["manifests"]
            if each["digest"] not in attached and not _is_named(each, names)
        ]
        index["manifests"] += entries + self._attached
        durable.replace_file(INDEX, _dumps(index), self._fd)

    def forget(self, tag: str) -> None:
        """Have the index no longer name a tag. Blobs stay."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # until it is closed: others write here, too
        index = self._index()
        index["manifests"] = [each for each in index["manifests"] if not _is_named(each, (tag,))]
        durable.replace_file(INDEX, _dumps(index), self._fd)

    def replace_index(self, raw: bytes) -> None:
        """Have `index.json` be this."""
        durable.replace_file(INDEX, raw, self._fd)

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document that is there, verified."""
        with Layout.open(self.path) as layout:
            return layout.read_blob(descriptor)

    def _index(self) -> dict[str, Any]:
        if INDEX not in os.listdir(self._fd):  # a new one, or one whose making was cut off
            return new_index()
        with Layout.open(self.path) as layout:
            found: Any = strict_json.parse(layout.index().raw)
        assert isinstance(found, dict)
        return found

    def _write(self, digest: Digest, data: bytes | Iterator[bytes]) -> None:
        directory = durable.make_directories(f"blobs/{digest.algorithm}", self._fd)
        try:
            durable.replace_file(digest.hex, data, directory)
        finally:
            os.close(directory)

    def holds(self, digest: Digest, size: int) -> bool:
        """Tell whether a blob is there, and is what its name says."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(blob_path(digest), flags, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        try:
            verifier = Verifier(f"blob {digest} in {self.path}", digest, size)
            for chunk in chunks_of(fd, os.fstat(fd).st_size):
                verifier.update(chunk)
            verifier.finish()
        except VerificationFailed:
            return False
        finally:
            os.close(fd)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class ArchiveWriter:
    """An archive that takes the place of whatever is at its path when it is finished."""

    def __init__(self, path: str, directory: int, name: str, tag: str | None) -> None:
        self.path = path
        self.meter = Meter()
        self.piece: int | None = None
        self._directory = directory
        self._name = name
        self._tag = tag
        self._lock = threading.Lock()
        self._files: dict[Digest, tuple[int, int]] = {}
        self._documents: dict[Digest, bytes] = {}
        self._attached: list[dict[str, Any]] = []

    @classmethod
    def create(cls, path: str, tag: str | None) -> ArchiveWriter:
        """Begin an archive at `path`, whose directory must be there; else `UsageError`."""
        directory, _, name = path.rpartition("/")
        if os.path.isdir(path) or not name:
            raise UsageError(f"{path} is a directory; write oci:{path}")
        try:
            fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{path}: its directory cannot be opened: {error.strerror}") from None
        return cls(path, fd, name, tag)

    def put(
        self,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        """Keep the blob for the archive, which is written at the end."""
        with self._lock:
            if digest not in self._files:
                self._files[digest] = (os.dup(fd), size)
        return Outcome.PUSHED

    def has(self, digest: Digest, size: int) -> Outcome | None:
        """Return None: an archive is always made anew."""
        return None

    def borrow(self, digest: Digest, lender: str) -> bool:
        """Return False: there is one store of blobs, and nothing to lend."""
        return False

    def gave_up(self, digest: Digest) -> None:
        """Take that a blob does not come."""

    def write(self, document: bytes, media_type: str) -> Digest:
        """Keep a manifest or index for the archive, which nothing in `index.json` names."""
        digest = Digest.of(document)
        self._documents[digest] = document
        return digest

    def attach(self, document: bytes, media_type: str) -> Digest:
        """Keep a manifest that refers to another one; the index names it, too."""
        self._attached.append(_referrer(document, media_type))
        return self.write(document, media_type)

    def finish(self, document: bytes, media_type: str, tags: Sequence[str] = ()) -> Digest:
        """Write the archive, blobs in the order of their names: it is the same each time."""
        digest = self.write(document, media_type)
        entries = _named(document, media_type, tags or (self._tag,)) + self._attached
        durable.replace_file(self._name, self._members(digest, entries), self._directory)
        return digest

    def _members(self, first: Digest, entries: list[dict[str, Any]]) -> Iterator[bytes]:
        index = new_index()
        index["manifests"] = entries
        yield from tar_member(MARKER, MARKER_TEXT)
        yield from tar_member(INDEX, _dumps(index))
        for document in sorted(self._documents, key=lambda each: (each != first, each)):
            yield from tar_member(blob_path(document), self._documents[document])
        for blob, (fd, size) in sorted(self._files.items()):
            yield from tar_header(blob_path(blob), size)
            yield from chunks_of(fd, size)
            yield bytes(-size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd, _size in self._files.values():
            os.close(fd)
        os.close(self._directory)


def blob_path(digest: Digest) -> str:
    """Return where a layout has a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _dumps(index: dict[str, Any]) -> bytes:
    # In ASCII: what others wrote into it need not be text that can be encoded.
    return json.dumps(index, separators=(",", ":")).encode()


def new_index() -> dict[str, Any]:
    """Return the index of a layout without images."""
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def _named(document: bytes, media_type: str, tags: Iterable[str | None]) -> list[dict[str, Any]]:
    found = described(Descriptor(media_type, Digest.of(document), len(document)))
    return [found | {"annotations": {REF_NAME: tag}} if tag else found for tag in tags]


def _is_named(entry: dict[str, Any], tags: Iterable[str | None]) -> bool:
    tag = (entry.get("annotations") or {}).get(REF_NAME)
    # What has no tag is an image that was written without one, or an artifact, which never has one.
    return tag in tags and (tag is not None or not entry.get("artifactType"))


def _referrer(document: bytes, media_type: str) -> dict[str, Any]:
    return described(descriptor_of(parse_document(document, media_type)))


def chunks_of(
    fd: int, size: int, told: Callable[[int], None] = lambda count: None
) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file; `BridgeError` where it has not so many."""
    position = 0
    while position < size:
        chunk = os.pread(fd, min(limits.BLOB_BUFFER, size - position), position)
        if not chunk:
            raise BridgeError(f"a blob of {size} bytes ends after {position}")
        position += len(chunk)
        yield chunk
        told(len(chunk))


def tar_member(name: str, data: bytes) -> Iterator[bytes]:
    """Yield a file as a tar archive has it: the same each time."""
    yield from tar_header(name, len(data))
    yield data + bytes(-len(data) % tarfile.BLOCKSIZE)


def tar_header(name: str, size: int) -> Iterator[bytes]:
    """Yield what stands before a file's content there."""
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.GNU_FORMAT)
