"""What refers to an image, asked and added to, at a registry that says what it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import limits
from bridge.errors import MalformedImage, NetworkError, NotAuthorised
from bridge.oci import artifact
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Descriptor, parse_document
from bridge.oci.reference import parse_registry_reference
from bridge.registry.authfile import CredentialStore
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions, Timeouts
from bridge.registry.push import Pusher
from bridge.registry.referrers import Support, push
from bridge.registry.registriesconf import RegistriesConf
from bridge.registry.transport import Transport

from .conftest import Answer, Rig, Seen, Server

SUBJECT = Descriptor(OCI_MANIFEST, Digest.of(b"image"), 5)
TAG = artifact.fallback_tag(SUBJECT.digest)
API = f"/v2/a/b/referrers/{SUBJECT.digest}"
LIST = f"/v2/a/b/manifests/{TAG}"
INDEX = {"Content-Type": OCI_INDEX}


def document(kind: str, subject: Descriptor = SUBJECT, **annotations: str) -> bytes:
    return artifact.artifact(kind, subject, [], annotations)


def entry(raw: bytes) -> dict[str, Any]:
    return artifact.described(artifact.descriptor_of(parse_document(raw)))


SPDX, OTHER, THIRD = (document(kind) for kind in ("application/spdx+json", "a/b", "c/d"))


def index(*documents: bytes, **more: Any) -> bytes:
    entries = [entry(each) for each in documents]
    return json.dumps({"schemaVersion": 2, "manifests": entries, **more}).encode()


def found(rig: Callable[..., Rig], server: Server, kind: str | None = None) -> list[str]:
    ref = parse_registry_reference(f"{server.host}/a/b:tag")
    listed = rig().client.list_referrers(ref, SUBJECT.digest, kind)
    return [each.digest for each in listed]


def digests(*documents: bytes) -> list[str]:
    return [Digest.of(each) for each in documents]


# -- asking --------------------------------------------------------------------------------------


def test_the_api_is_asked_with_the_type(server: Server, rig: Callable[..., Rig]) -> None:
    asked: list[str] = []

    def answer(seen: Seen) -> Answer:
        asked.append(seen.path.partition("?")[2])
        return Answer(200, index(SPDX, OTHER), INDEX)

    server.on(API, answer)
    assert found(rig, server) == digests(SPDX, OTHER)
    # What the registry did not leave out, is left out here.
    assert found(rig, server, "application/spdx+json") == digests(SPDX)
    assert asked == ["", "artifactType=application%2Fspdx%2Bjson"]


def test_pages_are_followed(server: Server, rig: Callable[..., Rig]) -> None:
    link = {"Link": f'<{API}?page=2>; rel="next"'}
    server.on(API, Answer(200, index(SPDX), INDEX | link))
    server.on(f"{API}?page=2", Answer(200, index(OTHER, SPDX), INDEX))
    assert found(rig, server) == digests(SPDX, OTHER)


@pytest.mark.parametrize(
    ("link", "error", "match"),
    [
        (f'<{API}?again>; rel="next"', NetworkError, "more than 100 pages"),
        ('<http://127.0.0.1:1/x>; rel="next"', NetworkError, "another host"),
    ],
)
def test_pages_have_an_end(
    server: Server, rig: Callable[..., Rig], link: str, error: type[Exception], match: str
) -> None:
    server.on(API, Answer(200, index(SPDX), INDEX | {"Link": link}))
    with pytest.raises(error, match=match):
        found(rig, server)


def test_a_list_has_an_end(
    server: Server, rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INDEX_ENTRIES_MAX", 3)
    link = {"Link": f'<{API}?again>; rel="next"'}
    server.on(API, Answer(200, index(SPDX, OTHER), INDEX | link))
    with pytest.raises(MalformedImage, match="more than 3"):
        found(rig, server)
    server.on(API, Answer(200, b" " * (limits.MANIFEST_MAX + 1), INDEX))
    with pytest.raises(MalformedImage):
        found(rig, server)


WITHOUT = {
    "not found": Answer(404, b"404 page not found"),
    "with an error": Answer(404, b'{"errors":[{"code":"NOT_FOUND"}]}'),
    "not allowed": Answer(405),
    "a page": Answer(200, b"<html>", {"Content-Type": "text/html"}),
    "some JSON": Answer(200, b"{}", {"Content-Type": "application/json"}),
    "a redirect to a page": Answer(303, b"", {"Location": "/login"}),
    "a redirect to nothing": Answer(303, b"", {"Location": "/nothing"}),
}


@pytest.mark.parametrize("answer", WITHOUT)
def test_without_the_api_there_is_a_tag(
    server: Server, rig: Callable[..., Rig], answer: str
) -> None:
    server.on(API, WITHOUT[answer])
    server.on("/login", Answer(200, b"<html>", {"Content-Type": "text/html"}))
    assert found(rig, server) == []
    server.on(LIST, Answer(200, index(SPDX, OTHER), INDEX))
    client = rig().client
    ref = parse_registry_reference(f"{server.host}/a/b:tag")
    for kind, expected in ((None, digests(SPDX, OTHER)), ("a/b", digests(OTHER))):
        assert [e.digest for e in client.list_referrers(ref, SUBJECT.digest, kind)] == expected
    # The second time it is known.
    asked = [path for path in server.paths() if path.startswith(API)]
    assert len(asked) == 2  # one for each client


def test_a_repository_that_is_not_there_says_nothing_of_its_host(
    server: Server, rig: Callable[..., Rig]
) -> None:
    unknown = Answer(404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}')
    server.on(API, unknown, Answer(200, index(SPDX), INDEX))
    client = rig().client
    ref = parse_registry_reference(f"{server.host}/a/b:tag")
    assert client.list_referrers(ref, SUBJECT.digest) == ()
    assert len(client.list_referrers(ref, SUBJECT.digest)) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(401), NotAuthorised),
        (Answer(403), NotAuthorised),
        (Answer(500), NetworkError),
    ],
)
def test_a_failure_is_no_empty_list(
    server: Server, rig: Callable[..., Rig], answer: Answer, error: type[Exception]
) -> None:
    server.on(API, answer)
    with pytest.raises(error):
        found(rig, server)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        SPDX,
        index(manifests=[{}]),
        index(manifests=[entry(SPDX) | {"artifactType": 5}]),
        index(manifests=[entry(SPDX) | {"size": -1}]),
        index(manifests=[entry(SPDX) | {"digest": "sha256:../../x"}]),
        index(manifests=[entry(SPDX) | {"annotations": []}]),
        index(manifests=None),
        index(subject=[]),
        index(subject={"mediaType": OCI_MANIFEST, "digest": "x", "size": 1}),
    ],
)
def test_a_tag_that_has_no_list(server: Server, rig: Callable[..., Rig], raw: bytes) -> None:
    server.on(API, Answer(404))
    server.on(LIST, Answer(200, raw, INDEX))
    with pytest.raises(MalformedImage):
        found(rig, server)


def test_what_is_listed_is_held_to_its_own_word() -> None:
    listed = parse_document(SPDX)
    artifact.require_subject(listed, SUBJECT.digest)
    with pytest.raises(MalformedImage, match="does not refer to"):
        artifact.require_subject(listed, Digest.of(b"other"))
    image = json.loads(SPDX)
    del image["subject"]
    with pytest.raises(MalformedImage, match="does not refer to"):
        artifact.require_subject(parse_document(json.dumps(image).encode()), SUBJECT.digest)


# -- adding --------------------------------------------------------------------------------------


class Listed:
    """A registry without the API: manifests, and the index under the tag."""

    def __init__(self, server: Server, current: bytes | None = None) -> None:
        self.current = current
        self.written: list[list[str]] = []
        self.meanwhile: list[Callable[[], None]] = []
        """Done after each index that is written."""
        server.on(LIST, self.answer)
        for each in (SPDX, OTHER, THIRD):
            server.on(f"/v2/a/b/manifests/{Digest.of(each)}", Answer(201))

    def answer(self, seen: Seen) -> Answer:
        if seen.method == "GET":
            return Answer(404) if self.current is None else Answer(200, self.current, INDEX)
        assert seen.headers["content-type"] == OCI_INDEX
        self.current = seen.body
        self.written.append(self.digests)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return Answer(201)

    @property
    def digests(self) -> list[str]:
        return [each["digest"] for each in json.loads(self.current or b"")["manifests"]]


@pytest.fixture
def pusher(server: Server) -> Iterator[Pusher]:
    options = NetworkOptions(tls_verify=False, timeouts=Timeouts(connect=5, idle=5))
    transport = Transport(options, sleep=lambda seconds: None, random=lambda: 0.5)
    transport.base_url = lambda host, meter, insecure: f"http://{host}"  # type: ignore[method-assign]
    made = Pusher(
        parse_registry_reference(f"{server.host}/a/b:tag"),
        options,
        meter=Meter(),
        credentials=CredentialStore(options, environ={"HOME": "/nowhere"}, uid=12345),
        transport=transport,
        registries=RegistriesConf(),
    )
    yield made
    made.close()


def test_a_registry_with_the_api_keeps_the_list_itself(server: Server, pusher: Pusher) -> None:
    server.on(
        f"/v2/a/b/manifests/{Digest.of(SPDX)}", Answer(201, b"", {"OCI-Subject": SUBJECT.digest})
    )
    support = Support()
    assert push(pusher, SPDX, OCI_MANIFEST, None, support) == Digest.of(SPDX)
    assert len(server.seen) == 1 and support.of(server.host) is True


@pytest.mark.parametrize("said", [{}, {"OCI-Subject": Digest.of(b"other")}])
def test_a_registry_without_it_gets_a_list(
    server: Server, pusher: Pusher, said: dict[str, str]
) -> None:
    listed = Listed(server)
    server.on(f"/v2/a/b/manifests/{Digest.of(SPDX)}", Answer(201, b"", said))
    push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert json.loads(listed.current or b"") == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": Digest.of(SPDX),
                "size": len(SPDX),
                "artifactType": "application/spdx+json",
            }
        ],
    }


def test_an_image_without_a_subject_is_in_no_list(server: Server, pusher: Pusher) -> None:
    image = json.loads(SPDX)
    del image["subject"]
    raw = json.dumps(image).encode()
    server.on("/v2/a/b/manifests/tag", Answer(201))
    push(pusher, raw, OCI_MANIFEST, "tag", Support())
    assert len(server.seen) == 1


def test_what_others_wrote_stays_as_they_wrote_it(server: Server, pusher: Pusher) -> None:
    theirs = entry(OTHER) | {"annotations": {"x": "y"}, "urls": ["http://x"], "data": "e30="}
    raw = json.dumps(
        {"schemaVersion": 2, "manifests": [theirs], "annotations": {"a": "b"}, "more": [1]}
    ).encode()
    listed = Listed(server, raw)
    push(pusher, SPDX, OCI_MANIFEST, None, Support())
    after = json.loads(listed.current or b"")
    assert after["manifests"] == [theirs, entry(SPDX)]
    assert (after["annotations"], after["more"]) == ({"a": "b"}, [1])


def test_what_is_listed_is_not_written_again(server: Server, pusher: Pusher) -> None:
    listed = Listed(server, index(OTHER, SPDX))
    push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert listed.written == []


def test_an_entry_that_another_writer_lost_is_put_back(server: Server, pusher: Pusher) -> None:
    listed = Listed(server, index(OTHER))

    def overwrite() -> None:
        listed.current = index(THIRD)  # who had read the list before OTHER was in it

    listed.meanwhile = [overwrite]
    push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert sorted(listed.digests) == sorted(digests(SPDX, OTHER, THIRD))
    assert len(listed.written) == 2


def test_a_writer_who_comes_during_the_pause_is_seen(server: Server, pusher: Pusher) -> None:
    listed = Listed(server)
    pauses = []

    def pause(seconds: float) -> None:
        if not pauses:
            listed.current = index(THIRD)
        pauses.append(seconds)

    pusher.transport.pause = pause  # type: ignore[method-assign]
    push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert sorted(listed.digests) == sorted(digests(SPDX, THIRD)) and len(pauses) == 2


def test_a_list_that_is_never_left_alone(
    server: Server, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REFERRERS_TRIES", 6)
    listed = Listed(server)

    def overwrite() -> None:
        listed.current = index(THIRD)
        listed.meanwhile = [overwrite]

    listed.meanwhile = [overwrite]
    with pytest.raises(NetworkError, match="others write it all the time"):
        push(pusher, SPDX, OCI_MANIFEST, None, Support())


def test_what_was_deleted_does_not_stand_in_the_way(server: Server, pusher: Pusher) -> None:
    """Some registries take no list of what they do not have."""
    listed = Listed(server, index(OTHER, THIRD))
    answer = listed.answer

    def strict(seen: Seen) -> Answer:
        if seen.method == "PUT" and Digest.of(OTHER) in seen.body.decode():
            return Answer(400, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}')
        return answer(seen)

    server.on(LIST, strict)
    server.on(f"/v2/a/b/manifests/{Digest.of(OTHER)}", Answer(404))
    push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert sorted(listed.digests) == sorted(digests(SPDX, THIRD))


def test_a_list_that_is_refused_for_another_reason(server: Server, pusher: Pusher) -> None:
    listed = Listed(server, index(OTHER))
    server.on(LIST, listed.answer, Answer(400))
    with pytest.raises(NetworkError, match="answered 400"):
        push(pusher, SPDX, OCI_MANIFEST, None, Support())


def test_a_tag_that_is_an_image_is_not_overwritten(server: Server, pusher: Pusher) -> None:
    listed = Listed(server, OTHER)
    with pytest.raises(MalformedImage, match="is no index"):
        push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert listed.written == []


def test_a_list_that_is_full(
    server: Server, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INDEX_ENTRIES_MAX", 2)
    listed = Listed(server, index(OTHER, THIRD))
    with pytest.raises(MalformedImage, match="3 entries, too many"):
        push(pusher, SPDX, OCI_MANIFEST, None, Support())
    assert listed.written == []


# -- documents -----------------------------------------------------------------------------------


def test_fallback_tags() -> None:
    assert f"sha256-{SUBJECT.digest.hex}" == TAG
    long = Digest.of(b"", "sha512")
    assert artifact.fallback_tag(long) == f"sha512-{long.hex[:64]}"


def test_an_artifact_is_the_same_each_time() -> None:
    blob = Descriptor("text/plain", Digest.of(b"x"), 1)
    first = artifact.artifact("a/b", SUBJECT, [blob], {"b": "1", "a": "2"})
    assert first == artifact.artifact("a/b", SUBJECT, [blob], {"a": "2", "b": "1"})
    parsed = parse_document(first)
    assert parsed.subject == SUBJECT and parsed.artifact_type == "a/b"
    found = json.loads(document("a/b"))
    assert found["config"] == found["layers"][0]
    assert found["config"]["mediaType"] == OCI_EMPTY


@pytest.mark.parametrize("kind", ["", "a", "a/", "a b/c", "a/b\n", "/b", "a/b/c"])
def test_a_type_is_a_media_type(kind: str) -> None:
    with pytest.raises(ValueError, match="media type"):
        document(kind)


def test_without_a_type_that_of_the_configuration_counts() -> None:
    old = json.loads(SPDX)
    del old["artifactType"]
    old["config"]["mediaType"] = "application/vnd.example.config"
    raw = json.dumps(old).encode()
    described = artifact.descriptor_of(parse_document(raw))
    assert described.artifact_type == "application/vnd.example.config"
