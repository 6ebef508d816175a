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
from contextlib import closing

from bridge.errors import BridgeError
from bridge.limits import BLOB_BUFFER
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor
from bridge.oci.reference import RegistryReference
from bridge.ostree import durable
from bridge.ostree.repository import Repository
from bridge.pull import kept
from bridge.registry.client import Client, WholeBlob
from bridge.registry.meter import Meter

PATIENCE = 2.0
"""Seconds that a stopped writer has to end; one that hears nothing ends with the process."""


class Downloads:
    """The blobs of one repository in a registry. A context manager: at its end all are stopped."""

    def __init__(self, client: Client, reference: RegistryReference, repo: Repository) -> None:
        self._client = client
        self._reference = reference
        self._fd = durable.make_directories(kept.DIRECTORY, repo.fd)
        self.space = repo.space
        self._running: list[_Download] = []
        self._resumed: set[Digest] = set()
        self._lock = threading.Lock()
        self._adopted: dict[Digest, _Download] = {}
        self._stopped = False

    def __enter__(self) -> Downloads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for download in self._running:
            download.join()
        os.close(self._fd)

    def stop(self) -> None:
        """Have all writers stop, and all readers fail: nothing more is wanted."""
        self._stopped = True
        for download in list(self._running):
            download.stop()

    def chunks(
        self,
        descriptor: Descriptor,
        meter: Meter,
        ahead: int | None = None,
        tail: bytes | None = None,
    ) -> Iterator[bytes]:
        """Yield the blob's bytes as they come; `NetworkError` when they stop coming for good.

        With `ahead` no more than about so many bytes are fetched before they are asked for. `tail`
        are the blob's last bytes, when these are here already.
        """
        with self._lock:
            download = self._adopted.pop(descriptor.digest, None)
        if download is None:
            download = self._start(descriptor, meter, ahead, tail or b"")
            if download.kept:
                self._resumed.add(descriptor.digest)
        return download.follow()

    def adopt(self, descriptor: Descriptor, meter: Meter, whole: WholeBlob) -> None:
        """Take over a body with all of a blob: `chunks` is going to use it, and asks for nothing.

        It comes in, in the background, from now on. A second one for the same blob is given up.
        """
        with self._lock:
            if not self._stopped and descriptor.digest not in self._adopted:
                self._adopted[descriptor.digest] = self._start(descriptor, meter, opened=whole)
                return
        whole.stream.close()

    def _start(
        self,
        descriptor: Descriptor,
        meter: Meter,
        ahead: int | None = None,
        tail: bytes = b"",
        opened: WholeBlob | None = None,
    ) -> _Download:
        fd = kept.open_file(kept.name(descriptor.digest), self.space, self._fd)
        download = _Download(self, descriptor, meter, fd, ahead, tail, opened)
        self._running.append(download)
        if self._stopped:
            download.stop()
        return download

    def forget(self, descriptor: Descriptor) -> None:
        """Remove what was kept of the blob."""
        kept.forget(kept.name(descriptor.digest), self.space, self._fd)

    def was_resumed(self, descriptor: Descriptor) -> bool:
        """Tell, once, whether a part of the blob lay here before this process began."""
        resumed = descriptor.digest in self._resumed
        self._resumed.discard(descriptor.digest)
        return resumed

    def fetch(self, download: _Download) -> None:
        """Write what is missing of a blob to its file, over as many connections as it takes."""
        descriptor = download.descriptor
        end = descriptor.size - len(download.tail)
        if download.written < end:
            blob = self._client.iter_blob(
                self._reference,
                descriptor,
                download.written,
                download.meter,
                end=end if download.tail else None,
                opened=download.opened,
            )
            with closing(blob):
                for chunk in blob:
                    if download.stopped:
                        return
                    download.write(chunk)
        # All of the blob may have come: where ranges are not served, or from an earlier process.
        if rest := download.tail[download.written - end :]:
            download.write(rest)


class _Download:
    """One blob's file, its writer's thread, and the reader that follows it.

    The file is closed by whichever of the two ends last: the writer may be waiting for a peer that
    says nothing, and nobody should have to wait with it.
    """

    def __init__(
        self,
        owner: Downloads,
        descriptor: Descriptor,
        meter: Meter,
        fd: int,
        ahead: int | None,
        tail: bytes,
        opened: WholeBlob | None,
    ) -> None:
        self.descriptor = descriptor
        self.meter = meter
        self.space = owner.space
        self.stopped = False
        self.tail = tail
        self.opened = opened
        # A body that comes from its start is no worse than what lies here.
        self.kept = 0 if opened is not None else min(os.fstat(fd).st_size, descriptor.size)
        self.written = self.kept
        self._fd = fd
        self._ahead = descriptor.size if ahead is None else ahead
        self._position = 0
        self._users = 2
        self._joined = False
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._run, args=(owner,), name="download", daemon=True
        )
        self._thread.start()

    def write(self, chunk: bytes) -> None:
        """Append bytes from the network."""
        kept.write_at(self._fd, chunk, self.written, self.space)
        with self._changed:
            self.written += len(chunk)
            self._changed.notify()
            while self.written - self._position > self._ahead and not self.stopped:
                self._changed.wait()

    def follow(self) -> Iterator[bytes]:
        """Yield the file's bytes from its start, waiting for those that are still to come."""
        position = 0
        try:
            while position < self.descriptor.size:
                with self._changed:
                    self._position = position
                    self._changed.notify()
                    while self.written <= position and not (self._ended or self.stopped):
                        self._changed.wait()
                    available = self.written - position
                if not available:
                    break
                chunk = os.pread(self._fd, min(available, BLOB_BUFFER), position)
                position += len(chunk)
                yield chunk
            # All is here; whether the body ends here too is for the writer to see.
            with self._changed:
                self._position = position
                self._changed.notify()
                while not (self._ended or self.stopped):
                    self._changed.wait()
            if self._error is not None:
                raise self._error
            if self.stopped:
                raise BridgeError(f"the download of {self.descriptor.digest} was cancelled")
        finally:
            self.stop()
            self.join()

    def stop(self) -> None:
        """Have the writer end at its next chunk, and the reader fail."""
        with self._changed:
            self.stopped = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the writer, for as long as one that gets bytes may take; let the file go."""
        self._thread.join(PATIENCE)
        if not self._joined:
            self._joined = True
            self._release()

    def _run(self, owner: Downloads) -> None:
        try:
            owner.fetch(self)
        except BaseException as error:  # noqa: BLE001 - raised in the reader
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._release()

    def _release(self) -> None:
        with self._changed:
            self._users -= 1
            if not self._users:
                os.close(self._fd)
