"""A blob that goes on while it still comes in: read by one thread, sent by another.

What has arrived lies in a file without a name, so that a part can be sent once more. The last
request, by which the destination takes all of it for the blob, waits until digest and size are
found to be right: what is wrong at the source never becomes a blob there.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable

from bridge.errors import BridgeError, NetworkError, VerificationFailed
from bridge.oci.digest import Verifier
from bridge.oci.model import Descriptor
from bridge.ostree import durable
from bridge.pull.spool import spool_directory
from bridge.push.destination import Destination
from bridge.push.origin import Origin
from bridge.registry.outcome import Outcome


def passed_on(
    source: Origin, place: Destination, descriptor: Descriptor, check: Callable[[], None]
) -> Outcome:
    """Have a blob at `place`, which has it not, as it comes from `source`.

    `check` is called now and then, and may raise. Raises what reading and writing raise. It is
    fetched once more where the source tells that another place may have it right.
    """
    while True:
        with tempfile.TemporaryFile(buffering=0, dir=spool_directory()) as file:
            reading = _Reading(source, descriptor, file.fileno(), check)
            try:
                return place.put(
                    file.fileno(), descriptor.digest, descriptor.size, lambda _: check(), reading
                )
            except VerificationFailed as error:
                if error is not reading.error or not source.distrust(descriptor):
                    raise
            finally:
                reading.end()


class _Reading:
    """A thread that reads a blob into a file, and what it has by now."""

    def __init__(
        self, source: Origin, descriptor: Descriptor, fd: int, check: Callable[[], None]
    ) -> None:
        self.error: BaseException | None = None
        self._source = source
        self._descriptor = descriptor
        self._fd = fd
        self._check = check
        self._changed = threading.Condition()
        self._count = 0
        self._whole = False
        self._unwanted = False
        self._thread = threading.Thread(target=self._run, name="blob")
        self._thread.start()

    def upto(self, end: int) -> None:
        self._wait(lambda: self._count >= end)

    def whole(self) -> None:
        self._wait(lambda: self._whole)

    def end(self) -> None:
        """Have the thread end, if it has not."""
        self._unwanted = True
        self._thread.join()

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or ready())
            if self.error is not None:
                raise self.error

    def _run(self) -> None:
        blob = self._descriptor
        verifier = Verifier(f"blob {blob.digest}", blob.digest, blob.size)
        try:
            for chunk in self._source.blob(blob):
                self._check()
                if self._unwanted:
                    raise BridgeError(f"blob {blob.digest} is no longer wanted")
                verifier.update(chunk)
                durable.write_all(self._fd, chunk)
                with self._changed:
                    self._count += len(chunk)
                    self._changed.notify_all()
            verifier.finish()
        except NetworkError as error:
            # Of its own class whoever sends would take it for a failure of theirs.
            self._failed(NetworkError(str(error)))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._failed(error)
        else:
            with self._changed:
                self._whole = True
                self._changed.notify_all()

    def _failed(self, error: BaseException) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()
