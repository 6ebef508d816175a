"""Uploads against a registry that says exactly what it is told to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import limits
from bridge.errors import (
    BridgeError,
    NetworkError,
    NotAuthorised,
    NotFound,
    VerificationFailed,
)
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_MANIFEST
from bridge.oci.reference import parse_registry_reference
from bridge.registry.authfile import CredentialStore
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions, Timeouts
from bridge.registry.outcome import Outcome
from bridge.registry.push import Pusher
from bridge.registry.registriesconf import Location, RegistriesConf, Registry
from bridge.registry.transport import Transport

from .conftest import Answer, Seen, Server

SMALL = bytes(range(256)) * 40
LARGE = SMALL * 30
SESSION = "/v2/a/b/blobs/uploads/1"


class Uploads:
    """A registry's uploads as they should be, with faults that a test asks for."""

    def __init__(self, server: Server, blob: bytes) -> None:
        self.digest = Digest.of(blob)
        self.size = len(blob)
        self.there = False
        self.got = bytearray()
        self.faults: list[Callable[[Seen], Answer | None]] = []
        self.begun = 0
        self.least: dict[str, str] = {}
        self.absolute = ""
        server.on(f"/v2/a/b/blobs/{self.digest}", self.head)
        server.on("/v2/a/b/blobs/uploads/", self.begin)
        server.on(SESSION, self.session)

    def head(self, seen: Seen) -> Answer:
        length = {"Content-Length": str(self.size)}
        return Answer(200, b"", length) if self.there else Answer(404)

    def begin(self, seen: Seen) -> Answer:
        self.begun += 1
        self.got.clear()
        location = f"{self.absolute}{SESSION}?state={self.begun}"
        return Answer(202, b"", {"Location": location, "Range": "0-0", **self.least})

    def session(self, seen: Seen) -> Answer:
        if seen.method != "GET" and self.faults:
            answer = self.faults.pop(0)(seen)
            if answer is not None:
                return answer
        if seen.method == "PATCH":
            first = int(seen.headers["content-range"].partition("-")[0])
            if first != len(self.got):
                return Answer(416)
        self.got += seen.body
        where = {"Location": f"{self.absolute}{SESSION}?state=x&of={len(self.got)}"}
        where["Range"] = f"0-{max(0, len(self.got) - 1)}"
        if seen.method == "GET":
            return Answer(204, b"", where)
        if seen.method == "PATCH":
            return Answer(202, b"", where)
        assert seen.path.endswith(f"&digest=sha256%3A{self.digest.hex}")
        if Digest.of(bytes(self.got)) != self.digest:
            return Answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
        self.there = True
        return Answer(201, b"", {"Docker-Content-Digest": self.digest})


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_WHOLE", len(SMALL))
    monkeypatch.setattr(limits, "UPLOAD_PART", 100_000)
    monkeypatch.setattr(limits, "RESUME_PROGRESS", 200_000)


@pytest.fixture
def pusher(server: Server) -> Iterator[Callable[..., Pusher]]:
    made: list[Pusher] = []

    def make(registries: RegistriesConf | None = None, **given: Any) -> Pusher:
        given.setdefault("retry_times", 3)
        options = NetworkOptions(tls_verify=False, timeouts=Timeouts(connect=5, idle=0.3), **given)
        transport = Transport(options, sleep=lambda seconds: None, random=lambda: 0.5)
        transport.base_url = lambda host, meter, insecure: f"http://{host}"  # type: ignore[method-assign]
        made.append(
            Pusher(
                parse_registry_reference(f"{server.host}/a/b:tag"),
                options,
                meter=Meter(),
                credentials=CredentialStore(options, environ={"HOME": "/nowhere"}, uid=12345),
                transport=transport,
                registries=registries or RegistriesConf(),
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def send(pusher: Pusher, blob: bytes, **more: Any) -> Outcome:
    with tempfile.TemporaryFile() as file:
        file.write(blob)
        file.flush()
        return pusher.push_blob(file.fileno(), Digest.of(blob), len(blob), **more)


def methods(server: Server) -> list[str]:
    return [seen.method for seen in server.seen]


def test_a_small_blob_is_one_upload(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, SMALL)
    assert send(pusher(), SMALL) is Outcome.PUSHED
    assert (uploads.there, methods(server)) == (True, ["HEAD", "POST", "PUT"])
    assert server.seen[-1].headers["content-type"] == "application/octet-stream"
    assert send(pusher(), SMALL) is Outcome.SKIPPED
    assert methods(server)[3:] == ["HEAD"]


def test_an_empty_blob(server: Server, pusher: Callable[..., Pusher]) -> None:
    Uploads(server, b"")
    assert send(pusher(), b"") is Outcome.PUSHED


def test_requests_without_a_body_say_so_each_time(
    server: Server, pusher: Callable[..., Pusher]
) -> None:
    """Some servers take no POST without a length (411)."""
    Uploads(server, SMALL)
    one = pusher()
    for _ in range(3):
        one.begin(Digest.of(SMALL))
    assert [seen.headers["content-length"] for seen in server.seen] == ["0"] * 3


def test_a_large_blob_goes_in_parts(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, LARGE)
    told: list[int] = []
    assert send(pusher(), LARGE, told=told.append) is Outcome.PUSHED
    parts = [seen.headers["content-range"] for seen in server.seen if seen.method == "PATCH"]
    assert parts == ["0-99999", "100000-199999", "200000-299999", f"300000-{len(LARGE) - 1}"]
    assert (bytes(uploads.got), sum(told)) == (LARGE, len(LARGE))
    assert server.seen[-1].body == b""


def test_parts_are_as_large_as_the_registry_wants(
    server: Server, pusher: Callable[..., Pusher]
) -> None:
    uploads = Uploads(server, LARGE)
    uploads.least = {"OCI-Chunk-Min-Length": "250000"}
    send(pusher(), LARGE)
    parts = [len(seen.body) for seen in server.seen if seen.method == "PATCH"]
    assert parts == [250_000, len(LARGE) - 250_000]


def test_locations_may_be_absolute(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, LARGE)
    uploads.absolute = f"http://{server.host}"
    assert send(pusher(), LARGE) is Outcome.PUSHED


def test_another_hosts_location_gets_no_credentials(
    server: Server, new_server: Callable[[], Server], pusher: Callable[..., Pusher]
) -> None:
    elsewhere = new_server()
    uploads = Uploads(server, SMALL)
    elsewhere.on(SESSION, uploads.session)
    uploads.absolute = f"http://{elsewhere.host}"
    for path in (f"/v2/a/b/blobs/{uploads.digest}", "/v2/a/b/blobs/uploads/"):
        (right,) = server.rules[path]

        def guarded(seen: Seen, right: Any = right) -> Answer:
            if seen.headers.get("authorization") != "Basic dTpw":
                return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
            found: Answer = right(seen)
            return found

        server.on(path, guarded)
    one = pusher(creds="u:p")
    assert send(one, SMALL) is Outcome.PUSHED
    assert elsewhere.authorizations() == [None]


# -- what breaks -------------------------------------------------------------------------------


def breaks(uploads: Uploads, kept: int) -> Callable[[Seen], Answer]:
    """The connection ends without an answer; the registry has so many bytes of the body."""

    def fault(seen: Seen) -> Answer:
        uploads.got += seen.body[:kept]
        return Answer(202, b"", {"Content-Length": "5"}, sent=0)

    return fault


@pytest.mark.parametrize("kept", [0, 1234, 100_000])
def test_what_arrived_is_not_sent_again(
    server: Server, pusher: Callable[..., Pusher], kept: int
) -> None:
    uploads = Uploads(server, LARGE)
    uploads.faults = [lambda seen: None, breaks(uploads, kept)]
    told: list[int] = []
    one = pusher()
    assert send(one, LARGE, told=told.append) is Outcome.PUSHED
    assert (uploads.begun, one.meter.retries) == (1, 1)
    starts = [
        int(seen.headers["content-range"].partition("-")[0])
        for seen in server.seen
        if seen.method == "PATCH"
    ]
    assert starts[:3] == [0, 100_000, 100_000 + kept]
    assert (bytes(uploads.got), sum(told)) == (LARGE, len(LARGE))


def test_a_whole_blob_that_broke_goes_on_in_parts(
    server: Server, pusher: Callable[..., Pusher]
) -> None:
    uploads = Uploads(server, SMALL)
    uploads.faults = [breaks(uploads, 100)]
    assert send(pusher(), SMALL) is Outcome.PUSHED
    assert methods(server) == ["HEAD", "POST", "PUT", "HEAD", "GET", "PATCH", "PUT"]


def test_an_answer_that_was_lost_is_not_a_failure(
    server: Server, pusher: Callable[..., Pusher]
) -> None:
    uploads = Uploads(server, SMALL)

    def lost(seen: Seen) -> Answer:
        uploads.there = True
        return Answer(201, b"", {"Content-Length": "5"}, sent=0)

    uploads.faults = [lost]
    assert send(pusher(), SMALL) is Outcome.PUSHED
    assert methods(server) == ["HEAD", "POST", "PUT", "HEAD"]


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_was_forgotten_is_begun_anew(
    server: Server, pusher: Callable[..., Pusher], status: int
) -> None:
    uploads = Uploads(server, LARGE)

    def forget(seen: Seen) -> Answer:
        server.on(SESSION, lambda seen: Answer(status), uploads.session)
        return Answer(status)

    uploads.faults = [lambda seen: None, forget]
    told: list[int] = []
    assert send(pusher(), LARGE, told=told.append) is Outcome.PUSHED
    assert (uploads.begun, sum(told), bytes(uploads.got)) == (2, len(LARGE), LARGE)


def test_an_upload_that_went_on_wrongly_is_begun_anew(
    server: Server, pusher: Callable[..., Pusher]
) -> None:
    uploads = Uploads(server, LARGE)

    def garbles(seen: Seen) -> Answer:
        uploads.got += b"?" * 1000
        return Answer(202, b"", {"Content-Length": "5"}, sent=0)

    uploads.faults = [garbles]
    assert send(pusher(), LARGE) is Outcome.PUSHED
    assert (uploads.begun, bytes(uploads.got)) == (2, LARGE)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408, 416])
def test_answers_that_are_tried_again(
    server: Server, pusher: Callable[..., Pusher], status: int
) -> None:
    uploads = Uploads(server, LARGE)
    uploads.faults = [lambda seen: Answer(status)] * 2
    one = pusher()
    assert send(one, LARGE) is Outcome.PUSHED
    assert one.meter.retries == 2


def test_progress_gives_new_tries(server: Server, pusher: Callable[..., Pusher]) -> None:
    """Each try brings two parts, and there are more breaks than tries."""
    uploads = Uploads(server, LARGE * 4)
    good: Callable[[Seen], Answer | None] = lambda seen: None  # noqa: E731
    uploads.faults = [good, good, breaks(uploads, 0)] * 5
    assert send(pusher(retry_times=1), LARGE * 4) is Outcome.PUSHED


def always(status: int, body: bytes = b"") -> Callable[[Seen], Answer]:
    return lambda seen: Answer(status, body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, b"", NotAuthorised, "not authorised for"),
        (403, b"", NotAuthorised, "not authorised for"),
        (413, b"", NetworkError, "no body of that size"),
        (503, b"", NetworkError, r"503.*\(4 tries\)"),
        (400, b'{"errors":[{"code":"DIGEST_INVALID"}]}', VerificationFailed, "another digest"),
        (400, b"", NetworkError, "400"),
    ],
)
def test_refusals_of_an_upload(
    server: Server,
    pusher: Callable[..., Pusher],
    status: int,
    body: bytes,
    kind: type[BridgeError],
    words: str,
) -> None:
    uploads = Uploads(server, SMALL)
    uploads.faults = [always(status, body)] * 10
    with pytest.raises(kind, match=words):
        send(pusher(), SMALL)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(401), NotAuthorised, "not authorised"),
        (Answer(403), NotAuthorised, "not authorised"),
        (Answer(404), NotFound, "may have to be created"),
        (Answer(500), NetworkError, "500"),
        (Answer(200), NetworkError, "200"),
        (Answer(202), NetworkError, "where to send it"),
        (Answer(202, b"", {"Location": "ftp://x/"}), NetworkError, "not an http"),
        (Answer(307, b"", {"Location": "/other"}), NetworkError, "redirects a POST"),
    ],
)
def test_uploads_that_cannot_begin(
    server: Server,
    pusher: Callable[..., Pusher],
    answer: Answer,
    kind: type[BridgeError],
    words: str,
) -> None:
    Uploads(server, SMALL)
    server.on("/v2/a/b/blobs/uploads/", answer)
    with pytest.raises(kind, match=words):
        send(pusher(), SMALL)


def test_a_blob_that_was_taken_for_another(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, SMALL)
    other = {"Docker-Content-Digest": Digest.of(b"x")}
    uploads.faults = [lambda seen: Answer(201, b"", other)]
    with pytest.raises(VerificationFailed, match="took it for"):
        send(pusher(), SMALL)


def test_a_blob_of_another_size_is_not_there(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, SMALL)
    server.on(f"/v2/a/b/blobs/{uploads.digest}", Answer(200, b"", {"Content-Length": "3"}))
    assert send(pusher(), SMALL) is Outcome.PUSHED


# -- other repositories ------------------------------------------------------------------------


def test_a_blob_is_mounted(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, SMALL)
    server.on("/v2/a/b/blobs/uploads/", Answer(201))
    assert send(pusher(), SMALL, mount_from="c/d") is Outcome.MOUNTED
    assert server.paths()[-1].endswith(f"?mount={uploads.digest}&from=c%2Fd")
    assert methods(server) == ["HEAD", "POST"]


@pytest.mark.parametrize("status", [202, 401, 403, 404])
def test_a_blob_that_cannot_be_mounted_is_sent(
    server: Server, pusher: Callable[..., Pusher], status: int
) -> None:
    uploads = Uploads(server, SMALL)
    server.on(
        "/v2/a/b/blobs/uploads/",
        lambda seen: uploads.begin(seen) if status == 202 else Answer(status),
        uploads.begin,
    )
    assert send(pusher(), SMALL, mount_from="c/d") is Outcome.PUSHED
    assert methods(server).count("POST") == (1 if status == 202 else 2)


def test_nothing_goes_to_a_mirror(
    server: Server, new_server: Callable[[], Server], pusher: Callable[..., Pusher]
) -> None:
    mirror = new_server()
    table = Registry(server.host, Location(server.host), mirrors=(Location(mirror.host),))
    registries = RegistriesConf(registries={server.host: table})
    Uploads(server, SMALL)
    assert send(pusher(registries), SMALL) is Outcome.PUSHED
    assert mirror.seen == []


# -- manifests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["tag", None])
def test_manifests(server: Server, pusher: Callable[..., Pusher], tag: str | None) -> None:
    digest = Digest.of(b"{}")
    path = f"/v2/a/b/manifests/{tag or digest}"
    server.on(path, Answer(201, b"", {"Docker-Content-Digest": digest}))
    assert pusher().push_manifest(b"{}", OCI_MANIFEST, tag) == digest
    (seen,) = server.seen
    assert (seen.method, seen.body) == ("PUT", b"{}")
    assert seen.headers["content-type"] == OCI_MANIFEST
    server.on(path, Answer(201, b"", {"Docker-Content-Digest": Digest.of(b"x")}))
    with pytest.raises(VerificationFailed):
        pusher().push_manifest(b"{}", OCI_MANIFEST, tag)
    server.on(path, Answer(400, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'))
    with pytest.raises(NetworkError, match="MANIFEST_INVALID"):
        pusher().push_manifest(b"{}", OCI_MANIFEST, tag)


def test_a_manifest_is_sent_again_where_its_digest_is_doubted(
    server: Server, pusher: Callable[..., Pusher]
) -> None:
    digest = Digest.of(b"{}")
    doubt = Answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
    taken = Answer(201, b"", {"Docker-Content-Digest": digest})
    path = f"/v2/a/b/manifests/{digest}"
    server.on(path, doubt, doubt, taken)
    one = pusher()
    assert one.push_manifest(b"{}", OCI_MANIFEST, None) == digest
    assert ([seen.body for seen in server.seen], one.meter.retries) == ([b"{}"] * 3, 2)
    server.on(path, doubt)
    with pytest.raises(VerificationFailed, match="another digest"):
        pusher().push_manifest(b"{}", OCI_MANIFEST, None)
    assert len(server.seen) == 3 + 4


def test_a_push_asks_for_the_right_to(server: Server, pusher: Callable[..., Pusher]) -> None:
    uploads = Uploads(server, SMALL)
    server.on("/token", Answer(200, b'{"token":"t"}'))
    (right,) = server.rules[f"/v2/a/b/blobs/{uploads.digest}"]
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token",service="s"'}

    def guarded(seen: Seen) -> Answer:
        if seen.headers.get("authorization") != "Bearer t":
            return Answer(401, b"", challenge)
        assert not isinstance(right, Answer)
        return right(seen)

    server.on(f"/v2/a/b/blobs/{uploads.digest}", guarded)
    send(pusher(), SMALL)
    (asked,) = (seen.path for seen in server.seen if seen.path.startswith("/token"))
    assert "scope=repository%3Aa%2Fb%3Apull%2Cpush" in asked
    assert {seen.headers.get("authorization") for seen in server.seen[2:]} == {"Bearer t"}
