"""Downloads: blobs on their way from a registry, kept on disk until they are used up.

A blob is written to a file in the repository's own corner while its reader follows behind, so a
slow import never holds up the network, a broken connection goes on by range where it stopped,
and so does the next process after this one was killed. Nothing here is trusted: the reader
verifies all bytes, those that lay on disk before included.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import TracebackType

from bridge.errors import NetworkError, NoSpace, VerificationFailed
from bridge.limits import BLOB_BUFFER, MIB
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import RegistryReference
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository
from bridge.registry.client import Client
from bridge.registry.meter import Meter

_PROGRESS = MIB
"""A connection that moved this much before it broke counts as progress: tries start anew."""


class Downloads:
    """The blobs of one repository in a registry. A context manager: no thread outlives it."""

    def __init__(
        self, client: Client, reference: RegistryReference, repo: Repository, retries: int
    ) -> None:
        self._client = client
        self._reference = reference
        self._retries = retries
        self._fd = durable.make_directories(f"{EXTENSION}/downloads", repo.fd)
        self._running: list[_Download] = []

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for download in self._running:
            download.stop()
        os.close(self._fd)

    def chunks(self, descriptor: Descriptor, meter: Meter) -> Iterator[bytes]:
        """Yield the blob's bytes as they come; `NetworkError` when they stop coming for good."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(_name(descriptor.digest), flags, 0o600, dir_fd=self._fd)
        download = _Download(self, descriptor, meter, fd)
        self._running.append(download)
        return download.follow()

    def forget(self, descriptor: Descriptor) -> None:
        """Remove what was kept of the blob."""
        try:
            os.unlink(_name(descriptor.digest), dir_fd=self._fd)
        except FileNotFoundError:
            return

    def fetch(self, download: _Download) -> None:
        """Write what is missing of a blob to its file, over as many connections as it takes."""
        descriptor, failures = download.descriptor, 0
        while download.written < descriptor.size and not download.stopped:
            before = download.written
            try:
                self._fetch_from(download, before)
            except NetworkError:
                failures = 0 if download.written - before >= _PROGRESS else failures + 1
                if failures > self._retries:
                    raise
                download.meter.add(retries=1)

    def _fetch_from(self, download: _Download, start: int) -> None:
        with self._client.open_blob(
            self._reference, download.descriptor, start, download.meter
        ) as stream:
            # A server that ignores ranges sends it all again: what is here already is passed over.
            skip = start - stream.start
            for chunk in stream:
                if download.stopped:
                    return
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                download.write(chunk[skip:])
                skip = 0


class _Download:
    """One blob's file, its writer's thread, and the reader that follows it."""

    def __init__(self, owner: Downloads, descriptor: Descriptor, meter: Meter, fd: int) -> None:
        self.descriptor = descriptor
        self.meter = meter
        self.stopped = False
        self.written = min(os.fstat(fd).st_size, descriptor.size)
        self._fd = fd
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(owner,), name="download")
        self._thread.start()

    def write(self, chunk: bytes) -> None:
        """Append bytes from the network; more than the blob's size is an error of the server."""
        if self.written + len(chunk) > self.descriptor.size:
            raise VerificationFailed(
                f"blob {self.descriptor.digest}: the registry sends more than the "
                f"{self.descriptor.size} bytes that the manifest gives"
            )
        try:
            durable.write_all_at(self._fd, chunk, self.written)
        except OSError as error:
            raise NoSpace(f"cannot keep a downloaded blob: {error.strerror}") from error
        with self._changed:
            self.written += len(chunk)
            self._changed.notify()

    def follow(self) -> Iterator[bytes]:
        """Yield the file's bytes from its start, waiting for those that are still to come."""
        position = 0
        while position < self.descriptor.size:
            with self._changed:
                while self.written <= position and not self._ended:
                    self._changed.wait()
                available = self.written - position
            if not available:
                break
            chunk = os.pread(self._fd, min(available, BLOB_BUFFER), position)
            position += len(chunk)
            yield chunk
        self._thread.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the writer at its next chunk and close the file."""
        self.stopped = True
        self._thread.join()
        os.close(self._fd)

    def _run(self, owner: Downloads) -> None:
        try:
            owner.fetch(self)
        except BaseException as error:  # noqa: BLE001 - raised in the reader
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()


def _name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"
