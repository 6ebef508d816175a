"""A repository: opening and making one, finding and reading its objects."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import BinaryIO

from bridge import limits
from bridge.errors import DamagedRepository, NotFound, UsageError
from bridge.ostree import config as repo_config
from bridge.ostree import content, durable, objects
from bridge.ostree.keyfile import KeyFile
from bridge.ostree.objects import Commit, DirMeta, DirTree, FileMeta, ObjectType
from bridge.ostree.space import Space

_DIRECTORIES = (
    "objects",
    "tmp",
    "tmp/cache",
    "extensions",
    "state",
    "refs",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
)
UNFINISHED = frozenset({*(name for name in _DIRECTORIES if "/" not in name), ".config.new"})
"""What may be in a directory that was to become a repository when its making was cut off."""
_HALF_READ = 8
"""Payloads that are kept open half read: one for each thread that reads pieces, and some more."""
EXTENSION = "extensions/bootc-py"
"""Where our own files live: history, lock, unfinished downloads."""


class Known:
    """The content objects in a repository, listed directory by directory when they are asked for.

    One listing costs less than a few look-ups of objects that are not there. It may be believed
    only while nobody can delete objects: `forget` it when the repository's lock is taken.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._prefixes: dict[str, set[str]] = {}
        self._all: set[str] | None = None
        self._changes = 0

    def __contains__(self, checksum: str) -> bool:
        if checksum in self._repo.damaged:
            return False
        names = self._prefixes.get(checksum[:2])
        if names is None:
            names = self._prefixes[checksum[:2]] = self._list(checksum[:2])
        return checksum in names

    def everything(self) -> Set[str]:
        """Return all of them but the damaged ones, and what else is named like one."""
        found = self._all
        if found is None:
            changes = self._changes
            for prefix in _names("objects", self._repo.fd):
                if len(prefix) == 2 and prefix not in self._prefixes:
                    self._prefixes[prefix] = self._list(prefix)
            found = set().union(*self._prefixes.values())
            if changes == self._changes:  # nobody has added one meanwhile
                self._all = found
        damaged = self._repo.damaged
        return found - damaged if damaged else found

    def add(self, checksum: str) -> None:
        """Take that the object is there now."""
        if checksum not in self:
            self._prefixes[checksum[:2]].add(checksum)
            self._changed()

    def forget(self) -> None:
        """Look again from now on."""
        self._prefixes = {}
        self._changed()

    def _changed(self) -> None:
        self._changes += 1
        self._all = None

    def _list(self, prefix: str) -> set[str]:
        ending = ".filez" if self._repo.mode == "archive" else ".file"
        try:
            names = _names(f"objects/{prefix}", self._repo.fd)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {prefix + name[:62] for name in names if name[62:] == ending}


class Repository:
    """An open repository. `path` is for messages; everything goes through the descriptor `fd`."""

    def __init__(self, path: str, fd: int, config: repo_config.Config) -> None:
        self.path = path
        self.fd = fd
        self.config = config
        self.known = Known(self)
        self.writers: set[object] = set()
        """Open transactions. `known` holds only while there is one: their locks keep prunes out."""
        self.publishing = threading.Lock()
        self._half_read = content.HalfRead(_HALF_READ)
        self.space = Space(self)
        self.shares = config.mode != "archive"
        """Whether files may share blocks there, until its file system said that it cannot."""
        self.damaged: set[str] = set()
        """Objects that are being repaired: as good as not there, until they are written again."""

    @property
    def mode(self) -> str:
        return self.config.mode

    @classmethod
    def open(cls, path: str | os.PathLike[str], dir_fd: int | None = None) -> Repository:
        """Open the repository at `path`; `NotFound` when there is none."""
        name = os.fspath(path)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{name} is not an OSTree repository: no such directory") from None
        try:
            config = repo_config.parse(_read_text(fd, "config"))
        except FileNotFoundError:
            os.close(fd)
            raise NotFound(f"{name} is not an OSTree repository: it has no config") from None
        except BaseException:
            os.close(fd)
            raise
        return cls(name, fd, config)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        mode: str,
        values: Iterable[tuple[str, str, str]] = (),
    ) -> Repository:
        """Make a repository at `path` (its parent must exist) and open it.

        `mode` is bare, bare-user or archive; only root can own what bare stores. `values` (group,
        key, value) go into its config. `UsageError` where there is a repository already.
        """
        text = repo_config.render(mode, values)
        if mode == "bare" and os.geteuid() != 0:
            raise UsageError("a bare repository needs root; use --mode bare-user or archive")
        target = Path(path)
        target.mkdir(exist_ok=True)
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if "config" in os.listdir(fd):
                raise UsageError(f"{target} is a repository already; open it, or give another path")
            for name in _DIRECTORIES:
                _make_directory(name, fd)
            # The config is what makes it a repository, so it comes last.
            durable.replace_file("config", text.encode(), fd)
        finally:
            os.close(fd)
        return cls.open(path)

    def set_value(self, group: str, key: str, value: str | None) -> None:
        """Set a value in the repository's config, or take it out."""
        text = _read_text(self.fd, "config")
        changed = KeyFile.parse(text).with_value(group, key, value).text
        self.config = repo_config.parse(changed)
        durable.replace_file("config", changed.encode(), self.fd)

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        self._half_read.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def object_path(self, checksum: str, kind: ObjectType) -> str:
        """Return where the object lies, relative to the repository."""
        ending = "filez" if kind is ObjectType.FILE and self.mode == "archive" else kind.value
        return f"objects/{checksum[:2]}/{checksum[2:]}.{ending}"

    def has_object(self, checksum: str, kind: ObjectType) -> bool:
        """Tell whether the object is there; its content is not looked at."""
        if checksum in self.damaged:
            return False
        try:
            os.stat(self.object_path(checksum, kind), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read_commit(self, checksum: str) -> Commit:
        """Return a commit; `DamagedRepository` where it is missing or does not hash to its name."""
        return objects.decode_commit(self.read_metadata(checksum, ObjectType.COMMIT))

    def read_dirtree(self, checksum: str) -> DirTree:
        return objects.decode_dirtree(self.read_metadata(checksum, ObjectType.DIRTREE))

    def read_dirmeta(self, checksum: str) -> DirMeta:
        return objects.decode_dirmeta(self.read_metadata(checksum, ObjectType.DIRMETA))

    def read_metadata(self, checksum: str, kind: ObjectType) -> bytes:
        """Return the bytes of a metadata object, which were hashed on the way."""
        path = self.object_path(checksum, kind)
        try:
            fd = os.open(path, content.READ_FLAGS, dir_fd=self.fd)
            with open(fd, "rb", buffering=0) as file:
                data = file.read(limits.METADATA_MAX + 1) or b""
        except OSError as error:
            raise self._explained(error, f"{kind.value} {checksum}") from None
        if len(data) > limits.METADATA_MAX or hashlib.sha256(data).hexdigest() != checksum:
            raise DamagedRepository(f"{kind.value} {checksum} in {self.path} is damaged")
        return data

    def open_file(self, checksum: str) -> tuple[FileMeta, BinaryIO | None]:
        """Open a content object: its metadata, and its payload (None for a symbolic link).

        The payload is not verified here: who relies on it hashes what is read.
        """
        try:
            return self.open_content(self.object_path(checksum, ObjectType.FILE), self.fd)
        except OSError as error:
            raise self._explained(error, f"file {checksum}") from None

    def open_content(self, path: str, dir_fd: int) -> tuple[FileMeta, BinaryIO | None]:
        """Open a content object, wherever it lies, in the form that the mode gives it."""
        opener = {
            "bare": content.open_bare,
            "bare-user": content.open_bare_user,
            "archive": content.open_archive,
        }[self.mode]
        return opener(path, dir_fd)

    def read_payload(self, checksum: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of a regular file's payload; fewer where it ends before.

        Nothing but the payload is looked at, and it is not verified: for who knows what he reads.
        `DamagedRepository` where it cannot be read.
        """
        if self.mode == "archive":
            return b"".join(self.stream_payload(checksum, offset, size))
        try:
            fd = os.open(
                f"objects/{checksum[:2]}/{checksum[2:]}.file", content.READ_FLAGS, dir_fd=self.fd
            )
            try:
                return os.pread(fd, size, offset)
            finally:
                os.close(fd)
        except (OSError, OverflowError, ValueError) as error:
            raise self._explained(error, f"file {checksum}") from None

    def stream_payload(self, checksum: str, offset: int, size: int) -> Iterator[bytes]:
        """Yield what `read_payload` returns, in pieces of at most 256 KiB.

        In archive mode all before `offset` is inflated too, unless the last one who read the
        object has stopped there or before.
        """
        position, payload = self._half_read.take(checksum, offset) or (0, None)
        if payload is None:
            _meta, payload = self.open_file(checksum)
        if payload is None:
            raise DamagedRepository(f"file {checksum} in {self.path} is a symbolic link")
        try:
            if payload.seekable():
                position = payload.seek(offset)
            while position < offset + size:
                chunk = payload.read(min(offset + size - position, limits.BLOB_BUFFER))
                if not chunk:
                    break
                start = max(0, offset - position)
                position += len(chunk)
                if start < len(chunk):
                    yield chunk[start:]
            else:
                if not payload.seekable():
                    self._half_read.keep(checksum, position, payload)
                    payload = None
        except (OSError, OverflowError) as error:
            raise self._explained(error, f"file {checksum}") from None
        finally:
            if payload is not None:
                payload.close()

    def _explained(self, error: Exception, what: str) -> DamagedRepository:
        if isinstance(error, FileNotFoundError):
            return DamagedRepository(f"{what} is missing from {self.path}")
        reason = error.strerror if isinstance(error, OSError) else error
        return DamagedRepository(f"{what} in {self.path} cannot be read: {reason}")

    def objects(self) -> Iterator[tuple[str, ObjectType]]:
        """Yield the checksum and kind of every object that has a name there, whatever it is."""
        endings = {f".{kind.value}": kind for kind in ObjectType}
        if self.mode == "archive":
            endings[".filez"] = endings.pop(".file")
        for prefix in sorted(_names("objects", self.fd)):
            try:
                names = _names(f"objects/{prefix}", self.fd) if len(prefix) == 2 else []
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone since, or nothing of a repository's
            for name in names:
                stem, dot, ending = name.partition(".")
                kind = endings.get(dot + ending)
                if kind is not None and objects.is_checksum(prefix + stem):
                    yield prefix + stem, kind


def _names(path: str, dir_fd: int) -> list[str]:
    fd = durable.open_directory(path, dir_fd)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _make_directory(name: str, dir_fd: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=dir_fd)
    except FileExistsError:
        durable.sync_directory(name, dir_fd)


def _read_text(dir_fd: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        return file.read(limits.MIB)
