"""Endpoints: which ones a reference has, and how the client goes along them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bridge import limits
from bridge.errors import (
    Blocked,
    MalformedImage,
    NetworkError,
    NotAuthorised,
    NotFound,
    UsageError,
    VerificationFailed,
)
from bridge.oci.digest import Digest
from bridge.oci.model import OCI_CONFIG, OCI_MANIFEST, Descriptor
from bridge.oci.reference import RegistryReference, parse_registry_reference
from bridge.registry.mirrors import endpoints, only_endpoint
from bridge.registry.registriesconf import RegistriesConf, parse

DIGEST = f"sha256:{'a' * 64}"
CONF = parse(
    f"""
    [[registry]]
    location = "plain.io"
    insecure = true
    [[registry]]
    prefix = "moved.io/old"
    location = "new.io/a/b"
    [[registry]]
    location = "mirrored.io"
    [[registry.mirror]]
    location = "m1.io:5000/x"
    insecure = true
    [[registry.mirror]]
    location = "m2.io"
    pull-from-mirror = "digest-only"
    [[registry.mirror]]
    location = "m3.io"
    pull-from-mirror = "tag-only"
    [[registry]]
    location = "pinned.io"
    mirror-by-digest-only = true
    [[registry.mirror]]
    location = "m1.io"
    [[registry]]
    prefix = "*.wild.io"
    [[registry.mirror]]
    location = "m1.io/wild"
    [[registry]]
    prefix = "*.moved.io"
    location = "new.io"
    [[registry]]
    prefix = "tags.io/x:1"
    location = "tags.io/y:2"
    [[registry]]
    location = "docker.io"
    [[registry.mirror]]
    location = "hub.io"
    [[registry]]
    location = "blocked.io"
    blocked = true
    [[registry]]
    location = "never.io"
    blocked = true
    [[registry.mirror]]
    location = "m1.io"
    [[registry.mirror]]
    location = "blocked.io"
    [[registry.mirror]]
    location = "m2.io/never"
    pull-from-mirror = "digest-only"
    [[registry]]
    location = "nowhere.io"
    blocked = true
    [[registry.mirror]]
    location = "blocked.io"
    [[registry.mirror]]
    location = "m2.io"
    pull-from-mirror = "digest-only"
    [[registry]]
    location = "plain.io/bad"
    blocked = true
    [[registry]]
    location = "plain.io/bad/good"
    [[registry]]
    location = "plain.io/x:bad"
    blocked = true
    [[registry]]
    prefix = "into.io"
    location = "blocked.io/x"
    [[registry]]
    location = "half.io"
    [[registry.mirror]]
    location = "blocked.io"
    [[registry.mirror]]
    location = "m1.io"
    [[registry]]
    prefix = "lost.io/x:1"
    location = "lost.io/y"
    [[registry]]
    prefix = "swapped.io/x@{DIGEST}"
    location = "swapped.io/x@sha256:{"b" * 64}"
    [[registry]]
    prefix = "short.io"
    location = "docker.io"
    [[registry]]
    prefix = "upper.io"
    location = "new.io/UPPER"
    """,
    "x.conf",
)

PLACES = [
    ("other.io/x:1", ["other.io/x:1"]),
    ("plain.io/x:1", ["plain.io/x:1 insecure"]),
    ("moved.io/old/x:1", ["new.io/a/b/x:1 foreign"]),
    ("moved.io/older/x:1", ["moved.io/older/x:1"]),
    (
        "mirrored.io/x:1",
        ["m1.io:5000/x/x:1 insecure foreign", "m3.io/x:1 foreign", "mirrored.io/x:1"],
    ),
    (
        f"mirrored.io/x@{DIGEST}",
        [
            f"m1.io:5000/x/x@{DIGEST} insecure foreign",
            f"m2.io/x@{DIGEST} foreign",
            f"mirrored.io/x@{DIGEST}",
        ],
    ),
    # With a digest the tag only informs.
    (f"pinned.io/x:1@{DIGEST}", [f"m1.io/x@{DIGEST} foreign", f"pinned.io/x@{DIGEST}"]),
    ("pinned.io/x:1", ["pinned.io/x:1"]),
    ("a.b.wild.io/x:1", ["m1.io/wild/x:1 foreign", "a.b.wild.io/x:1"]),
    ("a.moved.io/x:1", ["new.io/x:1 foreign"]),
    ("tags.io/x:1", ["tags.io/y:2"]),
    ("tags.io/x:2", ["tags.io/x:2"]),
    ("alpine", ["hub.io/library/alpine:latest foreign", "docker.io/library/alpine:latest"]),
    ("plain.io/bad/good/x:1", ["plain.io/bad/good/x:1"]),
    ("plain.io/x:good", ["plain.io/x:good insecure"]),
    ("half.io/x:1", ["m1.io/x:1 foreign", "half.io/x:1"]),
]


def shown(conf: RegistriesConf, name: str, tls_verify: bool | None = None) -> list[str]:
    return [
        f"{each}{' insecure' * each.insecure}{' foreign' * (not each.named)}"
        for each in endpoints(parse_registry_reference(name), conf, tls_verify)
    ]


@pytest.mark.parametrize(("name", "places"), PLACES)
def test_endpoints(name: str, places: list[str]) -> None:
    assert shown(CONF, name) == places


@pytest.mark.parametrize("name", ["other.io/x:1", "mirrored.io/x:1", "plain.io/x:1"])
def test_the_command_line_wins(name: str) -> None:
    assert not any("insecure" in each for each in shown(CONF, name, True))
    assert all("insecure" in each for each in shown(CONF, name, False))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("blocked.io/x:1", "'blocked.io'"),
        (f"blocked.io/x@{DIGEST}", "'blocked.io'"),
        ("blocked.io:5000/x:1", "'blocked.io'"),
        ("plain.io/bad/x:1", "'plain.io/bad'"),
        ("plain.io/bad:1", "'plain.io/bad'"),
        ("plain.io/x:bad", "'plain.io/x:bad'"),
        ("into.io/y:1", "'blocked.io'"),
        ("nowhere.io/y:1", "'nowhere.io'"),
    ],
)
def test_blocked(name: str, table: str) -> None:
    with pytest.raises(Blocked, match=rf"{table} is forbidden.*x\.conf") as caught:
        endpoints(parse_registry_reference(name), CONF)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("never.io/x:1", ["m1.io/x:1"]),
        (f"never.io/x@{DIGEST}", [f"m1.io/x@{DIGEST}", f"m2.io/never/x@{DIGEST}"]),
        (f"nowhere.io/x@{DIGEST}", [f"m2.io/x@{DIGEST}"]),
    ],
)
def test_what_is_blocked_is_had_from_its_mirrors_alone(name: str, places: list[str]) -> None:
    found = endpoints(parse_registry_reference(name), CONF)
    assert [str(each) for each in found] == places


@pytest.mark.parametrize(
    "name",
    ["lost.io/x:1", f"swapped.io/x@{DIGEST}", "short.io/a:1", "upper.io/x:1", "a.wild.io:5/x:1"],
)
def test_a_location_must_make_the_whole_name_of_that_image(name: str) -> None:
    with pytest.raises(UsageError, match=r"^x\.conf: location"):
        endpoints(parse_registry_reference(name), CONF)


def test_what_is_no_image_is_not_mirrored() -> None:
    for name in ("mirrored.io/x:1", "moved.io/old/x:1", "plain.io/x:1"):
        ref = parse_registry_reference(name)
        at = only_endpoint(ref, CONF)
        assert (str(at), at.insecure, at.named) == (name, name.startswith("plain"), True)
        assert only_endpoint(ref, CONF, False).insecure
        assert not only_endpoint(ref, CONF, True).insecure
    with pytest.raises(Blocked):
        only_endpoint(parse_registry_reference("blocked.io/x:1"), CONF)


# -- the client --------------------------------------------------------------------------------

MANIFEST = b'{"schemaVersion": 2}'
BLOB = bytes(range(256)) * 1200
LAYER = Descriptor(OCI_CONFIG, Digest.of(BLOB), len(BLOB))
REF = parse_registry_reference("image.example/a/b:1")
PINNED = REF.with_digest(Digest.of(MANIFEST))
TAGGED = "/v2/a/b/manifests/1"
BY_DIGEST = f"/v2/a/b/manifests/{Digest.of(MANIFEST)}"
BLOB_PATH = f"/v2/a/b/blobs/{LAYER.digest}"


@dataclass
class Pair:
    """A mirror and the primary location of `image.example`, and a client that knows of both."""

    mirror: Any
    primary: Any
    made: Any

    @property
    def client(self) -> Any:
        return self.made.client

    def blob(self, start: int = 0) -> bytes:
        return b"".join(self.client.iter_blob(REF, LAYER, start))

    def counted(self) -> bool:
        """Tell whether all bytes were counted, over both."""
        sent: int = self.mirror.body_bytes + self.primary.body_bytes
        return bool(self.made.meter.received_bytes == sent)


@pytest.fixture
def pair(new_server: Any, rig: Any) -> Callable[..., Pair]:
    def make(mirror_says: str = "", **given: object) -> Pair:
        mirror, primary = new_server(), new_server()
        conf = parse(
            f"""
            [[registry]]
            prefix = "image.example"
            location = "{primary.host}"
            [[registry.mirror]]
            location = "{mirror.host}"
            {mirror_says}
            """,
            "x.conf",
        )
        for server in (mirror, primary):
            good = server.Answer(200, MANIFEST, {"Content-Type": OCI_MANIFEST})
            server.on(TAGGED, good)
            server.on(BY_DIGEST, good)
            server.on(BLOB_PATH, server.ranged(BLOB))
        return Pair(mirror, primary, rig(registries=conf, **given))

    return make


def test_the_mirror_serves_all_of_it(pair: Any) -> None:
    it = pair()
    assert it.client.get_manifest(REF).raw == MANIFEST
    assert it.client.get_manifest(REF, instance=Digest.of(MANIFEST)).raw == MANIFEST
    assert it.blob() == BLOB and it.client.read_blob(REF, LAYER) == BLOB
    assert it.client.head_manifest(REF).media_type == OCI_MANIFEST
    assert it.mirror.paths() == [TAGGED, BY_DIGEST, BLOB_PATH, BLOB_PATH, TAGGED]
    assert it.primary.seen == [] and it.counted()
    assert it.made.told == [f"{REF} comes from the mirror {it.mirror.host}/a/b"]


FAILURES = {
    "not found": (lambda Answer: Answer(404), NotFound),
    "not authorised": (lambda Answer: Answer(401), NotAuthorised),
    "forbidden": (lambda Answer: Answer(403), NotAuthorised),
    "broken": (lambda Answer: Answer(500), NetworkError),
    "busy for hours": (lambda Answer: Answer(429, b"", {"Retry-After": "9999"}), NetworkError),
    "cut off": (lambda Answer: Answer(200, MANIFEST, sent=3), NetworkError),
    "stalled": (lambda Answer: Answer(200, MANIFEST, sent=3, stall=True), NetworkError),
    "other bytes than its header says": (
        lambda Answer: Answer(200, b"{}", {"Docker-Content-Digest": DIGEST}),
        VerificationFailed,
    ),
    "too large": (lambda Answer: Answer(200, b" " * (limits.MANIFEST_MAX + 1)), MalformedImage),
}


@pytest.mark.parametrize(("answer", "kind"), FAILURES.values(), ids=FAILURES)
def test_a_manifest_that_the_mirror_does_not_give(pair: Any, answer: Any, kind: Any) -> None:
    it = pair(retry_times=1)
    it.mirror.on(TAGGED, answer(it.mirror.Answer))
    assert it.client.get_manifest(REF).raw == MANIFEST
    assert it.primary.paths() == [TAGGED] and it.counted()
    (told,) = it.made.told
    assert told.startswith(f"mirror {it.mirror.host}/a/b: ")
    assert told.endswith(f"; going on with {it.primary.host}/a/b")
    # Whoever had the manifest is asked for the rest.
    before = len(it.mirror.seen)
    assert it.blob() == BLOB
    assert len(it.mirror.seen) == before and it.primary.paths() == [TAGGED, BLOB_PATH]


@pytest.mark.parametrize(("answer", "kind"), FAILURES.values(), ids=FAILURES)
def test_a_manifest_that_nobody_gives(pair: Any, answer: Any, kind: Any) -> None:
    """The error is the primary's, in kind and words; the mirror's is mentioned."""
    it = pair(retry_times=0)
    it.mirror.on(TAGGED, it.mirror.Answer(403, b'{"errors": [{"code": "DENIED"}]}'))
    it.primary.on(TAGGED, answer(it.primary.Answer))
    with pytest.raises(kind) as caught:
        it.client.get_manifest(REF)
    text, _, others = str(caught.value).partition("; before that, ")
    assert it.primary.host in text and it.mirror.host not in text
    assert others.startswith(f"mirror {it.mirror.host}/a/b: ") and "DENIED" in others
    assert caught.value.exit_code == kind.exit_code and "\n" not in str(caught.value)


def test_a_mirror_that_is_not_there(pair: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
    it = pair(f'[[registry.mirror]]\nlocation = "{nowhere}"')
    it.mirror.on(TAGGED, it.mirror.Answer(404))
    assert it.client.get_manifest(REF).raw == MANIFEST
    assert [told.partition(": ")[0] for told in it.made.told] == [
        f"mirror {it.mirror.host}/a/b",
        f"mirror {nowhere}/a/b",
    ]
    assert "Connection refused (4 tries)" in it.made.told[1]


def test_by_digest_wrong_bytes_of_a_mirror_are_passed_over(pair: Any) -> None:
    it = pair()
    it.mirror.on(BY_DIGEST, it.mirror.Answer(200, b'{"schemaVersion": 3}'))
    assert it.client.get_manifest(PINNED).raw == MANIFEST
    it.primary.on(BY_DIGEST, it.primary.Answer(200, b"{}"))
    with pytest.raises(VerificationFailed, match="not sha256"):
        it.client.get_manifest(PINNED)


def test_by_tag_a_mirror_says_what_the_tag_is(pair: Any) -> None:
    it = pair()
    it.mirror.on(TAGGED, it.mirror.Answer(200, b'{"old": 1}'))
    assert it.client.get_manifest(REF).raw == b'{"old": 1}'
    assert it.primary.seen == []


@pytest.mark.parametrize(("only", "by_tag"), [("digest-only", False), ("tag-only", True)])
def test_a_mirror_for_some_references(pair: Any, only: str, by_tag: bool) -> None:
    """The user's reference decides, for instances and blobs too."""
    for ref, uses in ((REF, by_tag), (PINNED, not by_tag)):
        it = pair(f'pull-from-mirror = "{only}"')
        it.client.get_manifest(ref)
        it.client.get_manifest(ref, instance=Digest.of(MANIFEST))
        assert b"".join(it.client.iter_blob(ref, LAYER)) == BLOB
        assert (len(it.mirror.seen), len(it.primary.seen)) == ((3, 0) if uses else (0, 3))


def test_blocked_is_no_request(pair: Any, rig: Any, server: Any) -> None:
    conf = parse(f'[[registry]]\nlocation = "{server.host}"\nblocked = true', "x.conf")
    ref = parse_registry_reference(f"{server.host}/a/b:1")
    client = rig(registries=conf).client
    for ask in (
        lambda: client.get_manifest(ref),
        lambda: client.head_manifest(ref),
        lambda: client.list_tags(ref),
        lambda: client.read_blob(ref, LAYER),
    ):
        with pytest.raises(Blocked):
            ask()
    assert server.seen == []


def test_tags_are_asked_for_where_the_name_says(rig: Any, new_server: Any) -> None:
    mirror, primary = new_server(), new_server()
    primary.on("/v2/a/b/tags/list", primary.Answer(200, b'{"tags": ["x"]}'))
    conf = parse(
        f'[[registry]]\nlocation="{primary.host}"\n[[registry.mirror]]\nlocation="{mirror.host}"',
        "x.conf",
    )
    ref = parse_registry_reference(f"{primary.host}/a/b:1")
    assert rig(registries=conf).client.list_tags(ref) == ["x"]
    assert mirror.seen == []


# -- blobs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize("sent", [0, 1, 1000, 200_000, len(BLOB) - 1])
def test_a_blob_goes_on_elsewhere_where_it_broke(pair: Any, sent: int, stall: bool) -> None:
    it = pair(retry_times=1)
    it.client.get_manifest(REF)
    cut = it.mirror.Answer(200, BLOB, sent=sent, stall=stall)
    it.mirror.on(BLOB_PATH, cut, it.mirror.Answer(503))
    assert it.blob() == BLOB
    assert it.primary.paths() == [BLOB_PATH]
    assert it.primary.seen[0].headers.get("range") == (f"bytes={sent}-" if sent else None)
    assert it.made.meter.received_bytes == len(MANIFEST) + len(BLOB) and it.counted()
    # What cannot be reached is not asked for the next blob, and told of once.
    assert it.blob() == BLOB and it.blob(start=1000) == BLOB[1000:]
    assert len(it.primary.seen) == 3 and len(it.made.told) == 2


def test_the_mirror_is_tried_again_before_it_is_left(pair: Any) -> None:
    it = pair(retry_times=2)
    cut = it.mirror.Answer(200, BLOB, sent=1000)
    it.mirror.on(BLOB_PATH, cut, it.mirror.ranged(BLOB))
    assert it.blob() == BLOB
    assert it.primary.seen == [] and it.made.told == []


def test_a_blob_that_the_mirror_does_not_have(pair: Any) -> None:
    """It stays the first to be asked: it may have the others."""
    it = pair()
    it.mirror.on(BLOB_PATH, it.mirror.Answer(404))
    for _ in range(2):
        assert it.blob() == BLOB
    assert len(it.mirror.seen) == len(it.primary.seen) == len(it.made.told) == 2


def test_a_blob_that_nobody_has(pair: Any) -> None:
    it = pair()
    for server in (it.mirror, it.primary):
        server.on(BLOB_PATH, server.Answer(404))
    with pytest.raises(NotFound, match=f"{it.primary.host}.*before that, mirror {it.mirror.host}"):
        it.blob()


@pytest.mark.parametrize("size", [len(BLOB) - 1, len(BLOB) + 1])
def test_a_mirror_with_another_size(pair: Any, size: int) -> None:
    it = pair()
    it.mirror.on(BLOB_PATH, it.mirror.Answer(200, (BLOB * 2)[:size]))
    assert it.blob() == BLOB


def test_an_overlong_body_of_a_mirror(pair: Any) -> None:
    it = pair()
    it.mirror.on(BLOB_PATH, it.mirror.Answer(200, BLOB + b"!", announced=False))
    assert it.blob() == BLOB


def test_wrong_bytes_are_asked_for_elsewhere(pair: Any) -> None:
    it = pair()
    it.mirror.on(BLOB_PATH, it.mirror.Answer(200, b"!" + BLOB[1:]))
    assert it.client.read_blob(REF, LAYER) == BLOB
    assert len(it.mirror.seen) == len(it.primary.seen) == 1
    assert it.made.told[0].startswith(f"mirror {it.mirror.host}/a/b: wrong bytes for blob sha256:")
    # For this client it stays so.
    assert it.client.read_blob(REF, LAYER) == BLOB
    assert len(it.mirror.seen) == 1


def test_wrong_bytes_of_two_halves(pair: Any) -> None:
    """Whose fault it is cannot be told: all of it is read where the first part is not from."""
    it = pair(retry_times=0)
    it.mirror.on(BLOB_PATH, it.mirror.Answer(200, b"!" + BLOB[1:], sent=1000))
    assert it.client.read_blob(REF, LAYER) == BLOB
    assert [seen.headers.get("range") for seen in it.primary.seen] == ["bytes=1000-", None]


def test_wrong_bytes_everywhere_end(pair: Any) -> None:
    it = pair()
    for server in (it.mirror, it.primary):
        server.on(BLOB_PATH, server.Answer(200, b"!" + BLOB[1:]))
    with pytest.raises(VerificationFailed, match="content has"):
        it.client.read_blob(REF, LAYER)
    assert len(it.mirror.seen) == len(it.primary.seen) == 1


# -- credentials -------------------------------------------------------------------------------


def wanting(server: Any, path: str, answer: Any) -> None:
    """Have the server give `answer` to whoever says who they are."""
    challenge = server.Answer(401, b"who?", {"WWW-Authenticate": 'Basic realm="x"'})
    server.on(path, lambda seen: answer if "authorization" in seen.headers else challenge)


def test_creds_are_for_the_host_that_the_user_named(new_server: Any, rig: Any) -> None:
    mirror, primary = new_server(), new_server()
    conf = parse(
        f'[[registry]]\nlocation="{primary.host}"\n[[registry.mirror]]\nlocation="{mirror.host}"',
        "x.conf",
    )
    for server in (mirror, primary):
        wanting(server, TAGGED, server.Answer(200, MANIFEST))
    ref = RegistryReference(primary.host, "a/b", "1")
    made = rig(registries=conf, creds="user:secret")
    assert made.client.get_manifest(ref).raw == MANIFEST
    assert mirror.authorizations() == [None]
    assert primary.authorizations() == [None, "Basic dXNlcjpzZWNyZXQ="]
    assert "no credentials for it" in made.told[0]


def test_a_remap_to_another_host_does_not_get_creds_either(pair: Any) -> None:
    it = pair(creds="user:secret")
    for server in (it.mirror, it.primary):
        wanting(server, TAGGED, server.Answer(200, MANIFEST))
    with pytest.raises(NotAuthorised):
        it.client.get_manifest(REF)
    assert it.mirror.authorizations() == it.primary.authorizations() == [None]


def test_credentials_of_a_file_are_those_of_the_endpoint(pair: Any, tmp_path: Any) -> None:
    it = pair(authfile=str(tmp_path / "auth.json"))
    (tmp_path / "auth.json").write_text(
        f'{{"auths": {{"{it.mirror.host}": {{"auth": "bWlycm9yOm0="}},'
        f'"{it.primary.host}/a": {{"auth": "cHJpbWFyeTpw"}},'
        '"image.example": {"auth": "bm9ib2R5Om4="}}}'
    )
    for server in (it.mirror, it.primary):
        wanting(server, TAGGED, server.Answer(404))
    with pytest.raises(NotFound):
        it.client.get_manifest(REF)
    assert it.mirror.authorizations() == [None, "Basic bWlycm9yOm0="]
    assert it.primary.authorizations() == [None, "Basic cHJpbWFyeTpw"]


def test_a_configuration_that_is_wrong_is_not_passed_over(pair: Any, tmp_path: Any) -> None:
    """Somebody has to mend it, and would not hear of it."""
    (tmp_path / "auth.json").write_text("{")
    it = pair(authfile=str(tmp_path / "auth.json"))
    wanting(it.mirror, TAGGED, it.mirror.Answer(200, MANIFEST))
    with pytest.raises(UsageError, match=r"auth\.json"):
        it.client.get_manifest(REF)
    assert it.primary.seen == []
