"""The client against a registry that lies, stalls, breaks off and redirects."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from bridge import limits
from bridge.errors import MalformedImage, NetworkError, NotAuthorised, NotFound, VerificationFailed
from bridge.oci.digest import Digest
from bridge.oci.model import DOCKER_LIST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from bridge.oci.reference import RegistryReference, parse_registry_reference
from bridge.registry.message import next_page
from bridge.registry.mirrors import endpoint

MANIFEST = b'{ "schemaVersion": 2,  "odd":"spacing kept" }\n'
BLOB = bytes(range(256)) * 1200  # 307,200 bytes: more than one buffer
TAGGED = "/v2/a/b/manifests/1"


def descriptor(data: bytes) -> Descriptor:
    return Descriptor(OCI_CONFIG, Digest.of(data), len(data))


def reference(server: Any, tail: str = "a/b:1") -> RegistryReference:
    return parse_registry_reference(f"{server.host}/{tail}")


def blob_path(data: bytes) -> str:
    return f"/v2/a/b/blobs/{Digest.of(data)}"


def collect(client: Any, server: Any, data: bytes = BLOB) -> bytes:
    return b"".join(client.iter_blob(reference(server), descriptor(data)))


# -- manifests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, DOCKER_LIST])
def test_manifest_bytes_stay_as_they_were_served(server: Any, rig: Any, media_type: str) -> None:
    server.on(TAGGED, server.Answer(200, MANIFEST, {"Content-Type": f"{media_type}; charset=x"}))
    got = rig().client.get_manifest(reference(server))
    assert got == (MANIFEST, media_type, Digest.of(MANIFEST))
    accept = server.seen[0].headers["accept"]
    assert OCI_MANIFEST in accept and OCI_INDEX in accept and DOCKER_LIST in accept
    assert server.seen[0].headers["accept-encoding"] == "identity"
    assert server.seen[0].headers["user-agent"].startswith("bootc-py/")


def test_manifest_by_digest_must_have_it(server: Any, rig: Any) -> None:
    digest = Digest.of(MANIFEST)
    pinned = reference(server).with_digest(digest)
    server.on(f"/v2/a/b/manifests/{digest}", server.Answer(200, MANIFEST))
    assert rig().client.get_manifest(pinned).digest == digest
    # Another document, under a header that swears it is the right one.
    lie = server.Answer(200, b"{}", {"Docker-Content-Digest": digest})
    server.on(f"/v2/a/b/manifests/{digest}", lie)
    with pytest.raises(VerificationFailed, match="not sha256"):
        rig().client.get_manifest(pinned)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_manifest_by_tag_must_agree_with_its_header(server: Any, rig: Any, algorithm: str) -> None:
    good = Digest.of(MANIFEST, algorithm)
    server.on(
        TAGGED,
        server.Answer(200, MANIFEST, {"Docker-Content-Digest": good}),
        server.Answer(200, MANIFEST + b" ", {"Docker-Content-Digest": good}),
        server.Answer(200, MANIFEST, {"Docker-Content-Digest": "sha256:../../x"}),
    )
    client = rig().client
    assert client.get_manifest(reference(server)).digest == Digest.of(MANIFEST)
    for _ in range(2):
        with pytest.raises(VerificationFailed):
            client.get_manifest(reference(server))


@pytest.mark.parametrize("kind", ["v1+json", "v1+prettyjws"])
def test_schema_1_is_refused(server: Any, rig: Any, kind: str) -> None:
    media_type = f"application/vnd.docker.distribution.manifest.{kind}"
    server.on(TAGGED, server.Answer(200, b"{}", {"Content-Type": media_type}))
    with pytest.raises(MalformedImage, match="schema 1"):
        rig().client.get_manifest(reference(server))


def test_manifest_is_bounded(server: Any, rig: Any) -> None:
    huge = b" " * (limits.MANIFEST_MAX + 100)
    server.on(TAGGED, server.Answer(200, huge), server.Answer(200, huge, announced=False))
    made = rig()
    for tries in (1, 2):
        with pytest.raises(MalformedImage, match="more than 4194304 bytes"):
            made.client.get_manifest(reference(server))
        assert made.meter.received_bytes <= tries * (limits.MANIFEST_MAX + 1)
        assert (made.meter.requests, made.meter.retries) == (tries, 0)


def test_a_manifest_that_breaks_off_is_asked_for_again(server: Any, rig: Any) -> None:
    server.on(TAGGED, server.Answer(200, MANIFEST, sent=7), server.Answer(200, MANIFEST))
    made = rig()
    assert made.client.get_manifest(reference(server)).raw == MANIFEST
    assert made.meter.received_bytes == len(MANIFEST) + 7 == server.body_bytes
    assert (made.meter.requests, made.meter.retries) == (2, 1)


def test_head_manifest(server: Any, rig: Any) -> None:
    headers = {"Content-Type": OCI_INDEX, "Docker-Content-Digest": Digest.of(MANIFEST)}
    server.on(TAGGED, server.Answer(200, MANIFEST, headers))
    made = rig()
    head = made.client.head_manifest(reference(server))
    assert head == (OCI_INDEX, Digest.of(MANIFEST), len(MANIFEST))
    assert (server.seen[0].method, made.meter.received_bytes) == ("HEAD", 0)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, NotFound, ["a/b:1", "404", "MANIFEST_UNKNOWN: no such tag"]),
        (401, NotAuthorised, ["/a/b", "401", "no credentials", "--creds", ".docker/config.json"]),
        (403, NotAuthorised, ["/a/b", "403", "no credentials", "--authfile"]),
        (418, NetworkError, ["a/b:1", "418"]),
    ],
)
def test_errors_are_not_retried_and_say_what_the_registry_said(
    server: Any, rig: Any, status: int, error: type[Exception], words: list[str]
) -> None:
    said = {
        "errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such tag\n\x1b[31m" + "x" * 999}]
    }
    server.on(TAGGED, server.Answer(status, json.dumps(said).encode()))
    made = rig()
    with pytest.raises(error) as caught:
        made.client.get_manifest(reference(server))
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text and "\x1b" not in text and len(text) < 900
    assert (made.meter.requests, made.meter.retries, made.sleeps) == (1, 0, [])
    assert made.meter.received_bytes == server.body_bytes


def test_a_long_wait_is_told(server: Any, rig: Any) -> None:
    server.on(TAGGED, server.Answer(429, b"", {"Retry-After": "3600"}))
    with pytest.raises(NetworkError, match=r"429; try again later.*'3600'"):
        rig().client.get_manifest(reference(server))


def test_refused_credentials_are_named_by_their_source_not_their_value(
    server: Any, rig: Any
) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    server.on(TAGGED, server.Answer(401, b"no", challenge))
    with pytest.raises(NotAuthorised) as caught:
        rig(creds="ann:s3cret").client.get_manifest(reference(server))
    assert "'ann' from --creds" in str(caught.value) and "s3cret" not in str(caught.value)
    assert server.authorizations() == [None, "Basic YW5uOnMzY3JldA=="]


# -- blobs -------------------------------------------------------------------------------------


def test_blob_is_streamed_in_bounded_chunks_and_counted(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB))
    made = rig()
    mine = made.meter.child()
    with made.endpoint.open_blob(
        endpoint(reference(server)), descriptor(BLOB), meter=mine
    ) as stream:
        chunks = list(stream)
    assert stream.start == 0 and b"".join(chunks) == BLOB
    assert max(map(len, chunks)) <= limits.BLOB_BUFFER
    assert (mine.received_bytes, mine.requests) == (len(BLOB), 1)
    assert made.meter.received_bytes == len(BLOB)
    assert "range" not in server.seen[0].headers


def test_wrong_bytes_are_refused(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, b"!" + BLOB[1:]))
    with pytest.raises(VerificationFailed):
        rig().client.read_blob(reference(server), descriptor(BLOB))


@pytest.mark.parametrize("announced", [True, False])
def test_an_overlong_blob_is_refused_without_being_taken_in(
    server: Any, rig: Any, announced: bool
) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB * 4, announced=announced))
    made = rig()
    with pytest.raises(VerificationFailed):
        collect(made.client, server)
    assert made.meter.received_bytes <= len(BLOB) + 1


def test_a_blob_announced_short_is_refused(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB[:-1]))
    with pytest.raises(VerificationFailed, match=f"{len(BLOB) - 1} bytes"):
        collect(rig().client, server)


def test_a_missing_blob_is_not_found(server: Any, rig: Any) -> None:
    with pytest.raises(NotFound, match="blob sha256"):
        rig().endpoint.open_blob(endpoint(reference(server)), descriptor(BLOB))


def test_a_broken_body_is_resumed_where_it_broke(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB, sent=200_000), server.ranged(BLOB))
    made = rig()
    assert collect(made.client, server) == BLOB
    assert server.seen[1].headers["range"] == "bytes=200000-"
    assert made.meter.received_bytes == len(BLOB) == server.body_bytes
    assert (made.meter.requests, made.meter.retries, len(made.sleeps)) == (2, 1, 1)


def test_a_stalled_body_is_resumed_where_it_stalled(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB, sent=1000, stall=True), server.ranged(BLOB))
    made = rig()
    assert collect(made.client, server) == BLOB
    assert server.seen[1].headers["range"] == "bytes=1000-"
    assert made.meter.received_bytes == len(BLOB)


def test_a_registry_without_ranges_costs_the_whole_blob_again(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB, sent=200_000), server.Answer(200, BLOB))
    made = rig()
    assert collect(made.client, server) == BLOB
    assert made.meter.received_bytes == len(BLOB) + 200_000 == server.body_bytes


@pytest.mark.parametrize(
    ("status", "where"),
    [
        (206, "bytes 999-307199/307200"),
        (206, "bytes 1001-307199/307200"),
        (206, "bytes 1000-307198/307200"),
        (206, "bytes 1000-307199/307201"),
        (206, "bytes 1000-99999999999999999999/*"),
        (206, "garbage"),
        (206, ""),
        (416, "bytes */307200"),
        (400, ""),
        (403, ""),
        (405, ""),
        (501, ""),
    ],
)
def test_a_wrong_range_is_never_used(server: Any, rig: Any, status: int, where: str) -> None:
    bad = server.Answer(status, BLOB[1000:], {"Content-Range": where} if where else {})
    server.on(blob_path(BLOB), bad, server.Answer(200, BLOB))
    with rig().endpoint.open_blob(
        endpoint(reference(server)), descriptor(BLOB), start=1000
    ) as stream:
        assert stream.start == 0
        assert b"".join(stream) == BLOB
    assert "range" not in server.seen[1].headers


def test_parts_are_no_range(server: Any, rig: Any) -> None:
    headers = {
        "Content-Range": "bytes 1000-307199/307200",
        "Content-Type": "multipart/byteranges; boundary=x",
    }
    server.on(blob_path(BLOB), server.Answer(206, BLOB[1000:], headers), server.Answer(200, BLOB))
    made = rig()
    with made.endpoint.open_blob(
        endpoint(reference(server)), descriptor(BLOB), start=1000
    ) as stream:
        assert (stream.start, b"".join(stream)) == (0, BLOB)
    assert made.meter.received_bytes == server.body_bytes  # what was thrown away, too


def test_a_refusal_is_a_refusal_without_a_range_too(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(403, b"no"))
    made = rig()
    with pytest.raises(NotAuthorised, match="403"):
        made.endpoint.open_blob(endpoint(reference(server)), descriptor(BLOB), start=1000)
    assert made.meter.requests == 2


def test_the_tries_of_a_blob_are_counted_together(server: Any, rig: Any) -> None:
    """Whether there was no answer or only the beginning of one."""
    cut = server.Answer(200, BLOB, sent=10)
    server.on(blob_path(BLOB), cut, server.Answer(503), cut, server.Answer(503))
    made = rig()
    with pytest.raises(NetworkError):
        collect(made.client, server)
    assert made.meter.requests == 1 + limits.RETRIES
    assert made.sleeps == sorted(made.sleeps) and len(made.sleeps) == limits.RETRIES


def test_a_large_answer_of_a_token_server_is_no_malformed_image(
    new_server: Any, server: Any, rig: Any
) -> None:
    tokens = new_server()
    tokens.on("/token", tokens.Answer(200, b" " * (limits.TOKEN_MAX + 1)))
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{tokens.host}/token"'}
    server.on(TAGGED, server.Answer(401, b"", challenge))
    with pytest.raises(NetworkError, match=f"token server of {server.host}: .*1048576 bytes"):
        rig().client.get_manifest(reference(server))


def test_a_good_range_is_used(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.ranged(BLOB))
    with rig().endpoint.open_blob(
        endpoint(reference(server)), descriptor(BLOB), start=1000
    ) as stream:
        assert (stream.start, b"".join(stream)) == (1000, BLOB[1000:])


@pytest.mark.parametrize("start", [0, 1000, len(BLOB) - 4])
def test_a_few_bytes_of_a_blob(server: Any, rig: Any, start: int) -> None:
    server.on(blob_path(BLOB), server.ranged(BLOB))
    made = rig()
    found = made.client.read_range(reference(server), descriptor(BLOB), start, 4)
    assert found == BLOB[start : start + 4]
    assert server.seen[0].headers["range"] == f"bytes={start}-{start + 3}"
    assert (made.meter.requests, made.meter.received_bytes) == (1, 4)


@pytest.mark.parametrize(
    ("status", "where"),
    [
        (200, ""),
        (206, ""),
        (206, "bytes 1000-1003/307201"),
        (206, "bytes 1000-1004/307200"),
        (206, "bytes 0-3/307200"),
        (416, "bytes */307200"),
        (400, ""),
    ],
)
def test_a_few_bytes_that_are_others_are_none(
    server: Any, rig: Any, status: int, where: str
) -> None:
    headers = {"Content-Range": where} if where else {}
    server.on(blob_path(BLOB), server.Answer(status, BLOB, headers))
    made = rig()
    assert made.client.read_range(reference(server), descriptor(BLOB), 1000, 4) is None
    assert made.meter.requests == 1
    if status == 200:
        assert made.meter.received_bytes == 0
    # Once is enough.
    assert made.client.read_range(reference(server), descriptor(BLOB), 1000, 4) is None
    assert made.meter.requests == 1


def test_a_few_bytes_of_a_blob_that_is_missing(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(404))
    with pytest.raises(NotFound):
        rig().client.read_range(reference(server), descriptor(BLOB), 1000, 4)


def test_a_body_that_always_breaks_ends_in_an_error(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB, sent=0))
    made = rig()
    with pytest.raises(NetworkError, match=server.host):
        collect(made.client, server)
    assert made.meter.requests == 1 + limits.RETRIES
    assert made.sleeps == sorted(made.sleeps) and len(made.sleeps) == limits.RETRIES


def test_content_encoding_is_ignored_and_the_wire_bytes_are_hashed(server: Any, rig: Any) -> None:
    server.on(blob_path(BLOB), server.Answer(200, BLOB, {"Content-Encoding": "gzip"}))
    assert rig().client.read_blob(reference(server), descriptor(BLOB)) == BLOB


def test_an_empty_blob(server: Any, rig: Any) -> None:
    server.on(blob_path(b""), server.Answer(200, b""))
    assert rig().client.read_blob(reference(server), descriptor(b"")) == b""


def test_a_small_blob_is_not_read_beyond_its_limit(server: Any, rig: Any) -> None:
    with pytest.raises(MalformedImage, match="limit"):
        rig().client.read_blob(reference(server), descriptor(BLOB), limit=10)
    assert server.seen == []


def test_several_blobs_at_once(server: Any, rig: Any) -> None:
    blobs = [bytes([n]) * 100_000 for n in range(8)]
    for data in blobs:
        server.on(blob_path(data), server.Answer(200, data))
    made, got = rig(), {}

    def fetch(data: bytes) -> None:
        got[data[0]] = made.client.read_blob(reference(server), descriptor(data))

    threads = [threading.Thread(target=fetch, args=(data,)) for data in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[n] for n in range(8)] == blobs
    assert (made.meter.received_bytes, made.meter.requests) == (800_000, 8)


# -- tags --------------------------------------------------------------------------------------


def test_tags_of_all_pages(server: Any, rig: Any) -> None:
    link = {"Link": '</v2/a/b/tags/list?n=2&last=y>; rel="next"'}
    server.on("/v2/a/b/tags/list?n=1000", server.Answer(200, b'{"tags": ["x", "y"]}', link))
    server.on("/v2/a/b/tags/list?n=2&last=y", server.Answer(200, b'{"tags": ["z"]}'))
    assert rig().client.list_tags(reference(server)) == ["x", "y", "z"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"tags": 3}', b'{"tags": "ab"}', b'{"tags": {"a": 1}}', b"{}", b"\xff"]
)
def test_what_is_no_list_of_tags(server: Any, rig: Any, body: bytes) -> None:
    server.on("/v2/a/b/tags/list", server.Answer(200, body))
    with pytest.raises(NetworkError, match="list of tags"):
        rig().client.list_tags(reference(server))


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ('</x?last=a>; rel="next"', "/x?last=a"),
        ("</x>; rel=next", "/x"),
        ('</p>; rel="prev", </x>; rel="next"', "/x"),
        ('</x>; title="a, b; c"; REL="last next"', "/x"),
        ("</x>;rel=NEXT", "/x"),
        ('</x>; rel="nextish"', None),
        ("</x>; norel=next", None),
        ("</x>", None),
        ("", None),
        ("<" * 1000, None),
    ],
)
def test_the_next_page(header: str, address: str | None) -> None:
    assert next_page(header) == address


def test_tags_come_as_their_pages_do(server: Any, rig: Any) -> None:
    link = {"Link": '<list?last=y>; rel="next"'}
    server.on("/v2/a/b/tags/list?n=1000", server.Answer(200, b'{"tags": ["x", "y"]}', link))
    server.on("/v2/a/b/tags/list?last=y", server.Answer(200, b'{"tags": ["y", "-", "z"]}'))
    made = rig()
    tags = made.client.tags(reference(server))
    assert [next(tags), next(tags)] == ["x", "y"]
    assert made.meter.requests == 1
    assert list(tags) == ["z"]  # each once, and what can be no tag not at all
    assert made.meter.requests == 2


def test_a_registry_that_refuses_to_be_told_a_page_size(server: Any, rig: Any) -> None:
    error = b'{"errors": [{"code": "PAGINATION_NUMBER_INVALID"}]}'
    server.on("/v2/a/b/tags/list?n=1000", server.Answer(400, error))
    server.on("/v2/a/b/tags/list", server.Answer(200, b'{"tags": ["x"]}'))
    assert rig().client.list_tags(reference(server)) == ["x"]


def test_tags_without_end_and_on_other_hosts(
    server: Any, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAG_PAGES_MAX", 5)
    for page in range(9):
        link = {"Link": f'</v2/a/b/tags/list?p={page + 1}>; rel="next"'}
        path = f"/v2/a/b/tags/list?p={page}" if page else "/v2/a/b/tags/list"
        server.on(path, server.Answer(200, b'{"tags": []}', link))
    made = rig()
    with pytest.raises(NetworkError, match="5 pages"):
        made.client.list_tags(reference(server))
    assert made.meter.requests == 5
    link = {"Link": '</v2/a/b/tags/list?p=1>; rel="next"'}
    server.on("/v2/a/b/tags/list?p=1", server.Answer(200, b'{"tags": []}', link))
    with pytest.raises(NetworkError, match="was there before"):
        made.client.list_tags(reference(server))
    monkeypatch.setattr(limits, "TAGS_MAX", 1)
    server.on("/v2/a/b/tags/list", server.Answer(200, b'{"tags": ["a", "b"]}'))
    with pytest.raises(NetworkError, match="more than 1"):
        made.client.list_tags(reference(server))
    link = {"Link": '<http://other.example/v2/>; rel="next"'}
    server.on("/v2/a/b/tags/list", server.Answer(200, b'{"tags": []}', link))
    with pytest.raises(NetworkError, match="another host"):
        made.client.list_tags(reference(server))
