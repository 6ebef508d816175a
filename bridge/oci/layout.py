"""OCI image layouts: a directory (`oci:`) or an uncompressed tar of one (`oci-archive:`).

Both answer the same three questions: which descriptor a tag means, the bytes of a small blob, and
a stream of a large one. File names are made from checked digests only. Blobs of an archive are
read in place, by the offset a single pass over the headers found; nothing is ever extracted.
Source: https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from abc import ABC, abstractmethod
from typing import Any, BinaryIO, Self

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, NotFound, UsageError
from bridge.oci import strict_json
from bridge.oci.digest import Digest, Verifier
from bridge.oci.model import OCI_INDEX, Descriptor, Index, parse_document, shown

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that carries a manifest's tag in `index.json`."""

_MARKER = "oci-layout"
_INDEX = "index.json"


class ImageLayout(ABC):
    """What layout directories and archives have in common. A context manager."""

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def _open(self, name: str) -> tuple[BinaryIO, int]:
        """Return a reader of the named file and its size; `FileNotFoundError` if it is absent."""

    @abstractmethod
    def close(self) -> None:
        """Give the descriptor back. Streams that are open stay usable."""

    def resolve(self, tag: str | None = None) -> Descriptor:
        """Return the descriptor of the manifest or index that `tag` names.

        Without a tag the layout must hold exactly one, apart from artifacts that refer to it. A tag
        is looked for in `index.json` first, then in the indexes it lists. Raises `NotFound`,
        `MalformedImage`, and `UsageError` when there are several and none was named.
        """
        index = self.index()
        if tag is None:
            images = [each for each in index.manifests if not each.artifact_type]
            images = images or list(index.manifests)
            if len({each.digest for each in images}) == 1:
                return images[0]
            if not images:
                raise NotFound(f"{self.path}: the layout holds no image")
            raise UsageError(
                f"{self.path}: the layout holds {len(images)} images; name one as "
                f"{self.path}:TAG ({_tags(index)})"
            )
        nested = (self._nested(entry) for entry in index.manifests if entry.media_type == OCI_INDEX)
        for candidate in (index, *nested):
            named = [m for m in candidate.manifests if m.annotations.get(REF_NAME) == tag]
            if len({entry.digest for entry in named}) > 1:
                raise MalformedImage(f"{self.path}: the tag {tag!r} is there more than once")
            if named:
                return named[0]
        raise NotFound(f"{self.path}: no image is tagged {tag!r}; there are: {_tags(index)}")

    def read_blob(self, descriptor: Descriptor, limit: int = limits.MANIFEST_MAX) -> bytes:
        """Return a blob's bytes, held to its digest and size; at most `limit` bytes."""
        what = f"{self.path}: blob {descriptor.digest}"
        if descriptor.size > limit:
            raise MalformedImage(f"{what}: {descriptor.size} bytes; the limit is {limit}")
        with self.open_blob(descriptor) as stream:
            data = stream.read(descriptor.size + 1)
        verifier = Verifier(what, descriptor.digest, descriptor.size)
        verifier.update(data)
        verifier.finish()
        return data

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        """Return a seekable stream of a blob's raw bytes. The caller verifies them."""
        digest = Digest.parse(descriptor.digest)
        try:
            return self._open(f"blobs/{digest.algorithm}/{digest.hex}")[0]
        except FileNotFoundError:
            raise NotFound(f"{self.path}: blob {digest} is not in the layout") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_marker(self) -> None:
        try:
            marker: Any = strict_json.parse(self._read(_MARKER, limits.LAYOUT_MARKER_MAX))
            version = marker["imageLayoutVersion"]
        except (ValueError, KeyError, TypeError):
            raise MalformedImage(f"{self.path}: its {_MARKER} file is not valid") from None
        if not isinstance(version, str) or not version.startswith("1."):
            raise MalformedImage(f"{self.path}: layout version {version!r:.50} is not supported")

    def index(self) -> Index:
        """Return `index.json`; `MalformedImage` where there is none, or it is none."""
        raw = self._read(_INDEX, limits.MANIFEST_MAX)
        try:
            index = parse_document(raw, OCI_INDEX)
        except MalformedImage as error:
            raise MalformedImage(f"{self.path}: {_INDEX}: {error}") from None
        if not isinstance(index, Index):
            raise MalformedImage(f"{self.path}: {_INDEX} is not an image index")
        return index

    def _nested(self, descriptor: Descriptor) -> Index:
        document = parse_document(self.read_blob(descriptor), descriptor.media_type)
        if not isinstance(document, Index):
            raise MalformedImage(f"{self.path}: {descriptor.digest} is not an image index")
        return document

    def _read(self, name: str, limit: int) -> bytes:
        try:
            stream, size = self._open(name)
        except FileNotFoundError:
            raise MalformedImage(f"{self.path} is not an OCI layout: it has no {name}") from None
        with stream:
            if size > limit:
                raise MalformedImage(f"{self.path}: {name} has {size} bytes; the limit is {limit}")
            return stream.read(limit)


class Layout(ImageLayout):
    """A layout directory, reached through one directory descriptor."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(path)
        self._fd = fd

    @classmethod
    def open(cls, path: str) -> Layout:
        """Open the layout at `path`; `NotFound` or `MalformedImage` when it is none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{path}: no such directory") from None
        except NotADirectoryError:
            raise MalformedImage(
                f"{path} is not a directory; for an archive write oci-archive:{path}"
            ) from None
        except OSError as error:
            raise BridgeError(f"opening the layout {path}: {error.strerror}") from None
        layout = cls(path, fd)
        try:
            layout._check_marker()
        except BaseException:
            layout.close()
            raise
        return layout

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, name: str) -> tuple[BinaryIO, int]:
        # O_NONBLOCK: a FIFO in the place of a blob must not hang us; it is refused just below.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=self._fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise MalformedImage(f"{self.path}: reading {name}: {error.strerror}") from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise MalformedImage(f"{self.path}: {name} is not a regular file")
        return io.FileIO(fd), status.st_size


class Archive(ImageLayout):
    """An uncompressed tar of a layout; blobs are read where they lie."""

    def __init__(self, path: str, fd: int, members: dict[str, tuple[int, int]]) -> None:
        super().__init__(path)
        self._fd = fd
        self._members = members

    @classmethod
    def open(cls, path: str) -> Archive:
        """Open the archive at `path`; `NotFound` or `MalformedImage` when it is none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{path}: no such file") from None
        except OSError as error:
            raise BridgeError(f"opening the archive {path}: {error.strerror}") from None
        try:
            archive = cls(path, fd, _locate(path, fd))
            archive._check_marker()
        except BaseException:
            os.close(fd)
            raise
        return archive

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, name: str) -> tuple[BinaryIO, int]:
        if name not in self._members:
            raise FileNotFoundError(name)
        offset, size = self._members[name]
        return _Window(os.dup(self._fd), offset, size), size  # type: ignore[return-value]


class _Window(io.RawIOBase):
    """A part of a file as a file. It reads by position, so windows may share one descriptor."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        count = os.preadv(self._fd, [memoryview(buffer)[:wanted]], self._offset + self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


class _Headers(io.FileIO):
    """What tarfile reads headers from: it takes their sizes on trust, so they are bounded here."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= limits.PAX_MAX:
            raise tarfile.ReadError("header of unlikely size")
        return super().read(size) or b""


def _locate(path: str, fd: int) -> dict[str, tuple[int, int]]:
    """Return offset and size of the regular files in an archive, by name; the last one wins."""
    members: dict[str, tuple[int, int]] = {}
    length = os.fstat(fd).st_size
    try:
        with _Headers(os.dup(fd)) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
                name = member.name.removeprefix("./")
                if member.size < 0 or member.offset_data + member.size > length:
                    raise MalformedImage(f"{path}: the archive ends within {name!r:.300}")
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse:
                    continue
                members[name] = (member.offset_data, member.size)
                if len(members) > limits.ARCHIVE_MEMBERS_MAX:
                    raise MalformedImage(f"{path}: too many files for an image archive")
    # RecursionError: it reads each header that extends the next one a level deeper.
    except (tarfile.TarError, ValueError, OverflowError, OSError, EOFError, RecursionError):
        raise MalformedImage(
            f"{path} is not an uncompressed tar archive; decompress it first, if it is compressed"
        ) from None
    return members


def _tags(index: Index) -> str:
    names = [entry.annotations.get(REF_NAME) for entry in index.manifests]
    return shown(", ".join([name for name in names if name][:10])) or "none with a tag"
