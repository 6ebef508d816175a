"""A registry's write side: blobs and manifests of the OCI distribution-spec.

A blob that is there is not sent, and neither is one that another repository of the registry can
lend. Of one that is sent, what arrived before a connection broke is not sent again. Everything
goes to the place that the reference names: mirrors are for pulls.
Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from bridge import limits
from bridge.errors import BridgeError, NetworkError, NotFound, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.reference import RegistryReference
from bridge.registry.auth import describe
from bridge.registry.authfile import CredentialStore
from bridge.registry.blob import body_length
from bridge.registry.body import Arriving, FileBody
from bridge.registry.connection import Connection
from bridge.registry.endpoint import EndpointClient
from bridge.registry.message import located
from bridge.registry.meter import Meter
from bridge.registry.mirrors import only_endpoint
from bridge.registry.options import NetworkOptions
from bridge.registry.outcome import Outcome
from bridge.registry.registriesconf import RegistriesConf
from bridge.registry.retry import STATUSES
from bridge.registry.transport import Interrupted, Response, Transport

_TAKEN = frozenset({200, 201, 202, 204})
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")
_LOST = frozenset({404, 410})
"""The registry does not know an upload any more: it is begun anew."""
_WORTH_ANOTHER_TRY = STATUSES | _LOST | {416}


@dataclass(slots=True)
class _Upload:
    """An upload that was begun: where to send what is left, and what is not."""

    url: str
    least: int
    """Bytes that a part must have, unless it is the last."""
    offset: int = 0

    @classmethod
    def begun(cls, what: str, reply: Response) -> _Upload:
        """Return what a 202 says; `NetworkError` where it does not say where to send the blob."""
        if not reply.headers.get("Location"):
            raise NetworkError(f"{what}: the registry does not say where to send it")
        least = reply.headers.get("OCI-Chunk-Min-Length", "")
        known = int(least) if least.isascii() and least.isdigit() and len(least) < 16 else 0
        upload = cls(reply.url, known)
        upload.went_on(reply, 0)
        return upload

    def went_on(self, reply: Response, offset: int) -> None:
        """Take over what an answer says; `offset` is where it is if that does not say it."""
        self.url = located(reply.url, reply.headers.get("Location", self.url))
        text = reply.headers.get("Range", "")
        found = _RANGE.fullmatch(text)
        # Of nothing and of a single byte registries say the same.
        self.offset = offset if found is None or text.endswith("0-0") else int(found[1]) + 1


class PutManifest(NamedTuple):
    """A manifest that a registry took, and the subject of it that the registry took notice of."""

    digest: Digest
    subject: str | None


class Pusher:
    """Writes to one repository. Safe for several threads; counts into `meter`."""

    def __init__(
        self,
        ref: RegistryReference,
        options: NetworkOptions | None = None,
        *,
        meter: Meter | None = None,
        credentials: CredentialStore | None = None,
        transport: Transport | None = None,
        registries: RegistriesConf | None = None,
        connection: Connection | None = None,
        actions: str = "pull,push",
    ) -> None:
        """`connection` is one that others use, too; it stays open, and is all that is needed."""
        self._shared = connection
        if connection is None:
            connection = Connection(
                options or NetworkOptions(), credentials=credentials, registries=registries
            )
        self.meter = meter or Meter()
        self.transport = transport or connection.transport
        self.uploads = connection.uploads
        reached = connection.reached
        self.asking = EndpointClient(self.transport, connection.auth, self.meter, actions, reached)
        tls_verify = connection.options.tls_verify
        self.endpoint = only_endpoint(ref, connection.registries, tls_verify)
        self._begun: dict[Digest, _Upload] = {}

    def close(self) -> None:
        """Close the idle connections, unless they are shared."""
        if self._shared is None:
            self.transport.close()

    # -- blobs -----------------------------------------------------------------------------

    def has_blob(self, digest: Digest, size: int) -> bool:
        """Tell whether the repository has the blob; same errors as `push_blob`."""
        reply = self.send("HEAD", f"blobs/{digest}")
        reply.close()
        if reply.status == 200:
            return body_length(reply) in (None, size)
        # Where a redirect led to need not answer a HEAD: then it is not known.
        if reply.foreign or reply.status == 404:
            return False
        raise self.failure(f"blob {digest}", reply)

    def borrow(self, digest: Digest, mount_from: str) -> bool:
        """Tell whether another repository there lent the blob: then it need not be sent."""
        path = f"blobs/uploads/?mount={digest}&from={quote(mount_from, safe='')}"
        reply = self.send("POST", path)
        if reply.status == 201:
            return True
        # Not allowed to read there, say. It was worth a try, and may have begun an upload.
        if reply.status == 202:
            self._begun[digest] = _Upload.begun(f"blob {digest}", reply)
        return False

    def push_blob(
        self,
        fd: int,
        digest: Digest,
        size: int,
        *,
        mount_from: str | None = None,
        lacks: bool = False,
        told: Callable[[int], None] = lambda count: None,
        arriving: Arriving | None = None,
    ) -> Outcome:
        """Have the registry hold the file `fd`, of that digest and size, as a blob.

        `mount_from` is another repository there that may have it; with `lacks` it is known that
        this one has not. `told` gets how many bytes more were sent, less than 0 when some were in
        vain. What is still `arriving` in the file is waited for, and ends all if it is wrong.
        Raises `NotAuthorised`, `NetworkError` when the tries are used up, and
        `VerificationFailed` when the registry says that what came has another digest.
        """
        if not lacks and self.has_blob(digest, size):
            return Outcome.SKIPPED
        if mount_from is not None and self.borrow(digest, mount_from):
            return Outcome.MOUNTED
        upload = self._begun.pop(digest, None)
        sending = _Sending(self, fd, digest, size, told, arriving)
        sending.run(upload or self.begin(digest))
        return Outcome.PUSHED

    def begin(self, digest: Digest) -> _Upload:
        """Begin the upload of a blob."""
        reply = self.send("POST", "blobs/uploads/")
        if reply.status != 202:
            raise self.failure(f"blob {digest}", reply)
        return _Upload.begun(f"blob {digest}", reply)

    def abandon(self, upload: _Upload) -> None:
        """Tell the registry that an upload is not going to end; it is no matter if it fails."""
        with suppress(BridgeError):
            self.send("DELETE", upload.url, once=True).close()

    # -- manifests -------------------------------------------------------------------------

    def push_manifest(self, raw: bytes, media_type: str, tag: str | None) -> Digest:
        """Put a manifest under `tag`, or just under its digest; return that.

        What it names must be there. Raises as `push_blob` does. For one that may have a subject
        there is `bridge.registry.referrers.push`.
        """
        return self.put_manifest(raw, media_type, tag).digest

    def put_manifest(self, raw: bytes, media_type: str, tag: str | None) -> PutManifest:
        """Put a manifest as `push_manifest` does, and return what the registry says of it."""
        digest = Digest.of(raw)
        what = f"manifest {digest}"
        kind = {"Content-Type": media_type}
        backoff = self.transport.backoff()
        while (
            reply := self.send("PUT", f"manifests/{tag or digest}", kind, raw)
        ).status not in _TAKEN:
            error = self.failure(what, reply)
            # docker-registry says of a manifest that its digest is wrong, too, when it finds the
            # link to a blob that it names empty: another client sends that blob just now, and the
            # link is written again.
            wrong = isinstance(error, VerificationFailed)
            if not (wrong and self.transport.wait(backoff, self.meter)):
                raise error
        _check_digest(what, digest, reply)
        return PutManifest(digest, reply.headers.get("OCI-Subject"))

    # -- asking ----------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | FileBody | None = None,
        *,
        once: bool = False,
    ) -> Response:
        """Send a request, and read its answer; with `once` it is not sent again."""
        given = dict(headers or {})
        if body is not None:
            given.setdefault("Content-Type", "application/octet-stream")
        limit = None if method == "HEAD" else limits.ERROR_BODY_MAX
        backoff = self.transport.backoff(0) if once else None
        return self.asking.send(method, self.endpoint, path, given, limit, None, backoff, body)

    def failure(self, what: str, reply: Response) -> BridgeError:
        """Return the error for an answer that is no success."""
        if reply.status == 400 and "DIGEST_INVALID" in describe(reply):
            return VerificationFailed(f"{what}: what the registry has got has another digest")
        at = self.endpoint
        if reply.status == 413:
            return NetworkError(
                f"{what}: {at.host} answered {describe(reply)}: it, or a proxy before it, "
                "takes no body of that size"
            )
        if reply.status == 404 and not reply.foreign:
            reply.close()
            return NotFound(
                f"{what}: {at.host} answered {describe(reply)}; {at.name} may have to "
                "be created there first"
            )
        return self.asking.failure(at, what, reply)


class _Sending:
    """One blob on its way: an upload, how far it is, and the tries that are left."""

    def __init__(
        self,
        pusher: Pusher,
        fd: int,
        digest: Digest,
        size: int,
        told: Callable[[int], None],
        arriving: Arriving | None,
    ) -> None:
        self._arriving = arriving
        self._pusher = pusher
        self._fd = fd
        self._digest = digest
        self._size = size
        self._report = told
        self._reported = 0
        self._what = f"blob {digest}"

    def run(self, upload: _Upload) -> None:
        """Send all of it. A try that brought `limits.RESUME_PROGRESS` is not counted."""
        pusher = self._pusher
        backoff = pusher.transport.backoff()
        kept = 0
        resumed = False
        while True:
            wrong = False
            error: BridgeError
            try:
                reply = self._send(upload)
                if reply is None:
                    return
                error = pusher.failure(self._what, reply)
                # An upload that went on may have been put together wrongly.
                wrong = isinstance(error, VerificationFailed)
                if not (resumed if wrong else reply.status in _WORTH_ANOTHER_TRY):
                    raise error
            except Interrupted as broken:
                error = NetworkError(f"{self._what} of {self._size} bytes: {broken}")
            # Was only the answer lost? If not, go on where the registry is.
            if pusher.has_blob(self._digest, self._size):
                return
            found = None if wrong else self._found_again(upload)
            resumed = found is not None
            upload = found or pusher.begin(self._digest)
            self._tell(upload.offset - self._reported)
            if upload.offset - kept >= limits.RESUME_PROGRESS:
                backoff = pusher.transport.backoff()
            kept = upload.offset
            if not pusher.transport.wait(backoff, pusher.meter):
                tries = f" ({backoff.tries} tries)" if backoff.tries > 1 else ""
                raise type(error)(f"{error}{tries}")

    def _send(self, upload: _Upload) -> Response | None:
        """Send what is left; return the answer that is not what it should be, None at the end."""
        # A small one goes with the last request. A large one goes in parts: what no proxy takes
        # in one body, and what is not lost where a registry forgets a body that broke.
        uploads = self._pusher.uploads
        whole = upload.offset == 0 and self._size <= uploads.whole
        while not whole and upload.offset < self._size:
            end = min(self._size, upload.offset + max(uploads.part, upload.least))
            self._wait(upload, end)
            span = f"{upload.offset}-{end - 1}"
            body = FileBody(self._fd, upload.offset, end, self._tell)
            reply = self._pusher.send("PATCH", upload.url, {"Content-Range": span}, body, once=True)
            if reply.status not in _TAKEN:
                return reply
            upload.went_on(reply, end)
        self._wait(upload, None)
        joint = "&" if "?" in upload.url else "?"
        url = f"{upload.url}{joint}digest={quote(self._digest, safe='')}"
        rest = FileBody(self._fd, upload.offset, self._size, self._tell)
        reply = self._pusher.send("PUT", url, {}, rest, once=True)
        if reply.status not in _TAKEN:
            return reply
        _check_digest(self._what, self._digest, reply)
        return None

    def _wait(self, upload: _Upload, end: int | None) -> None:
        """Wait until the file has its bytes up to `end`, or all of them, verified."""
        if self._arriving is None:
            return
        try:
            if end is None:
                self._arriving.whole()
            else:
                self._arriving.upto(end)
        except BaseException:
            self._pusher.abandon(upload)
            raise

    def _found_again(self, upload: _Upload) -> _Upload | None:
        """Return the upload as the registry has it now, None if it has forgotten it."""
        reply = self._pusher.send("GET", upload.url)
        if reply.status in _LOST:
            return None
        if reply.status not in (200, 202, 204):
            raise self._pusher.failure(self._what, reply)
        upload.went_on(reply, 0)
        return upload if upload.offset <= self._size else None

    def _tell(self, count: int) -> None:
        self._reported += count
        self._report(count)


def _check_digest(what: str, digest: Digest, reply: Response) -> None:
    claimed = reply.headers.get("Docker-Content-Digest", digest)
    if claimed != digest:
        raise VerificationFailed(f"{what}: the registry took it for {claimed!r:.200}")
