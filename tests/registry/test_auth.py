"""The authentication flow without a network, and its promises against loopback servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import NetworkError, NotAuthorised
from bridge.oci.digest import Digest
from bridge.oci.reference import parse_registry_reference
from bridge.registry.auth import Authenticator
from bridge.registry.authfile import Credentials
from bridge.registry.challenge import Challenge
from bridge.registry.message import Request
from bridge.registry.token import Scope, TokenCache, parse_token, token_request

SCOPE = Scope("h", "a/b")
GET = Request("GET", "https://h/v2/a/b/manifests/1")
BEARER = {"WWW-Authenticate": 'Bearer realm="https://auth.h/token?x=1",service="s"'}


@dataclass
class Fake:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    foreign: bool = False


@dataclass
class Store:
    credentials: Credentials | None = None
    files: tuple[()] = ()

    def find(self, host: str, repository: str, named: bool) -> Credentials | None:
        return self.credentials


def token(value: str, **more: object) -> Fake:
    return Fake(200, body=json.dumps({"token": value, **more}).encode())


def authenticator(credentials: Credentials | None = None, now: list[float] | None = None) -> Any:
    clock = now or [1000.0]
    return Authenticator(Store(credentials), now=lambda: clock[0])  # type: ignore[arg-type]


def drive(auth: Any, replies: list[Fake], scope: Scope = SCOPE) -> tuple[Fake, list[Request]]:
    """Feed a flow; return its answer and the requests it made."""
    flow, sent = auth.flow(GET, scope), []
    try:
        request = next(flow)
        for reply in replies:
            sent.append(request)
            request = flow.send(reply)
    except StopIteration as done:
        return done.value, sent
    raise AssertionError(f"one more request: {request}")


def headers(sent: list[Request]) -> list[str | None]:
    return [request.headers.get("Authorization") for request in sent]


def test_nothing_asked_nothing_sent() -> None:
    reply, sent = drive(authenticator(Credentials("u", "p")), [Fake(200)])
    assert reply.status == 200 and sent == [GET]


@pytest.mark.parametrize("insecure", [False, True])
def test_a_token_server_is_as_insecure_as_its_registry(insecure: bool) -> None:
    challenge = Fake(401, {"WWW-Authenticate": 'Bearer realm="http://auth.h/token"'})
    flow = authenticator().flow(replace(GET, insecure=insecure), SCOPE)
    next(flow)
    if insecure:
        asked = flow.send(challenge)
        assert asked.url.startswith("http://auth.h/token?") and asked.insecure
        assert flow.send(token("t")).insecure
    else:
        with pytest.raises(NetworkError, match="plain HTTP"):
            flow.send(challenge)


def test_a_token_is_fetched_once_and_kept() -> None:
    auth = authenticator()
    reply, sent = drive(auth, [Fake(401, BEARER), token("t"), Fake(200)])
    assert reply.status == 200 and headers(sent) == [None, None, "Bearer t"]
    url = urlsplit(sent[1].url)
    assert (url.scheme, url.netloc, url.path) == ("https", "auth.h", "/token")
    assert parse_qs(url.query) == {"x": ["1"], "service": ["s"], "scope": ["repository:a/b:pull"]}
    assert headers(drive(auth, [Fake(200)])[1]) == ["Bearer t"]


def test_no_token_serves_another_repository_host_or_action() -> None:
    auth = authenticator()
    drive(auth, [Fake(401, BEARER), token("t"), Fake(200)])
    for other in (Scope("h", "a/c"), Scope("i", "a/b"), Scope("h", "a/b", "pull,push")):
        assert headers(drive(auth, [Fake(200)], other)[1]) == [None]


def test_an_expired_token_is_renewed_before_it_is_used() -> None:
    now = [1000.0]
    auth = authenticator(now=now)
    drive(auth, [Fake(401, BEARER), token("t", expires_in=300), Fake(200)])
    now[0] += 289
    assert headers(drive(auth, [Fake(200)])[1]) == ["Bearer t"]
    now[0] += 2
    _, sent = drive(auth, [Fake(401, BEARER), token("u"), Fake(200)])
    assert headers(sent) == [None, None, "Bearer u"]


def test_a_refused_token_is_renewed_once() -> None:
    auth = authenticator()
    drive(auth, [Fake(401, BEARER), token("t"), Fake(200)])
    reply, sent = drive(auth, [Fake(401, BEARER), token("u"), Fake(200)])
    assert reply.status == 200 and headers(sent) == ["Bearer t", None, "Bearer u"]
    reply, sent = drive(auth, [Fake(401, BEARER), token("v"), Fake(401, BEARER)])
    assert reply.status == 401 and headers(sent) == ["Bearer u", None, "Bearer v"]
    assert headers(drive(auth, [Fake(200)])[1]) == [None], "a refused token was kept"


def test_a_token_that_another_thread_renewed_is_used() -> None:
    auth = authenticator()
    drive(auth, [Fake(401, BEARER), token("old"), Fake(200)])
    slow = auth.flow(GET, SCOPE)
    assert next(slow).headers["Authorization"] == "Bearer old"
    drive(auth, [Fake(401, BEARER), token("new"), Fake(200)])
    assert slow.send(Fake(401, BEARER)).headers["Authorization"] == "Bearer new"
    slow.close()


def test_a_flow_that_is_given_up_lets_the_others_go_on() -> None:
    auth = authenticator()
    flow = auth.flow(GET, SCOPE)
    next(flow)
    flow.send(Fake(401, BEARER))  # it now waits for the token's reply, with the lock
    flow.close()
    assert drive(auth, [Fake(401, BEARER), token("t"), Fake(200)])[0].status == 200


def test_basic() -> None:
    auth = authenticator(Credentials("u", "p"))
    challenge = {"WWW-Authenticate": "Basic realm=x"}
    _, sent = drive(auth, [Fake(401, challenge), Fake(200)])
    assert headers(sent) == [None, "Basic dTpw"]
    assert headers(drive(auth, [Fake(200)])[1]) == ["Basic dTpw"]
    reply, sent = drive(authenticator(), [Fake(401, challenge)])
    assert reply.status == 401 and len(sent) == 1


def test_credentials_go_to_the_token_server() -> None:
    _, sent = drive(
        authenticator(Credentials("u", "p")), [Fake(401, BEARER), token("t"), Fake(200)]
    )
    assert headers(sent) == [None, "Basic dTpw", "Bearer t"]


def test_an_identity_token_is_posted() -> None:
    auth = authenticator(Credentials(identity_token="refresh"))
    answer = Fake(200, body=b'{"access_token": "t"}')
    _, sent = drive(auth, [Fake(401, BEARER), answer, Fake(200)])
    assert (sent[1].method, sent[1].url) == ("POST", "https://auth.h/token?x=1")
    assert parse_qs((sent[1].body or b"").decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh"],
        "client_id": ["bootc-py"],
        "service": ["s"],
        "scope": ["repository:a/b:pull"],
    }
    assert headers(sent)[2] == "Bearer t"


def test_another_origins_challenge_is_never_answered() -> None:
    auth = authenticator(Credentials("u", "p"))
    reply, sent = drive(auth, [Fake(401, BEARER, foreign=True)])
    assert reply.status == 401 and len(sent) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_server_that_refuses(status: int) -> None:
    said = b'{"errors": [{"code": "DENIED", "message": "bad password"}]}'
    with pytest.raises(NotAuthorised, match=r"h/a/b.*auth\.h.*DENIED: bad password.*'u' from f"):
        drive(
            authenticator(Credentials("u", "p", source="f")),
            [Fake(401, BEARER), Fake(status, body=said)],
        )


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b"\xff"]
)
def test_answers_that_are_no_token(body: bytes) -> None:
    with pytest.raises(NetworkError, match=r"auth\.h"):
        drive(authenticator(), [Fake(401, BEARER), Fake(200, body=body)])


@pytest.mark.parametrize("realm", ["http://auth.h/t", "", "ftp://auth.h/", "https://u:p@auth.h/"])
def test_realms_that_get_no_credentials(realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    with pytest.raises(NetworkError):
        drive(authenticator(Credentials("u", "p")), [Fake(401, challenge)])


def test_a_plain_realm_is_fine_for_a_plain_registry() -> None:
    challenge = Challenge("bearer", {"realm": "http://auth.h/t"})
    request = token_request(challenge, SCOPE, Credentials("u", "p"), secure=False)
    assert request.headers == {"Authorization": "Basic dTpw"}


def test_a_scope_that_the_registry_asks_for_is_added() -> None:
    challenge = Challenge("bearer", {"realm": "https://a/t", "scope": "repository:x:pull"})
    query = parse_qs(urlsplit(token_request(challenge, SCOPE, None, secure=True).url).query)
    assert query == {"scope": ["repository:a/b:pull", "repository:x:pull"]}


@pytest.mark.parametrize(
    ("answer", "lifetime"),
    [
        ({}, 54),
        ({"expires_in": 300}, 290),
        ({"expires_in": "300"}, 290),
        ({"expires_in": 10}, 9),
        ({"expires_in": -5}, 0),
        ({"expires_in": 300, "issued_at": "2023-11-14T22:11:40Z"}, 190),
        ({"expires_in": 300, "issued_at": "2023-11-14T21:11:40Z"}, 290),  # clocks an hour apart
        ({"expires_in": 300, "issued_at": "2023-11-14T23:11:40Z"}, 290),
        ({"expires_in": 300, "issued_at": "yesterday"}, 290),
    ],
)
def test_how_long_a_token_is_used(answer: dict[str, object], lifetime: float) -> None:
    now = 1_700_000_000.0
    parsed = parse_token(json.dumps({"token": "t", **answer}).encode(), now, "s")
    assert parsed.expires - now == pytest.approx(lifetime)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1" + "0" * 400, "9" * 5000])
def test_a_lifetime_that_is_no_number_is_no_token(number: str) -> None:
    with pytest.raises(NetworkError, match="no token"):
        parse_token(f'{{"token": "t", "expires_in": {number}}}'.encode(), 0.0, "s")


@pytest.mark.parametrize(("number", "expires"), [("1e999", float("inf")), ("-1e999", 5.0)])
def test_a_lifetime_beyond_all_bounds(number: str, expires: float) -> None:
    raw = f'{{"token": "t", "expires_in": {number}}}'.encode()
    assert parse_token(raw, 5.0, "s").expires == expires


@given(st.binary(max_size=100))
def test_any_token_answer_is_survived(raw: bytes) -> None:
    with pytest.raises(NetworkError):
        parse_token(raw, 0.0, "s")


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@given(odd, odd, odd)
@example(10**400, None, "t")
@example(1, "0001-01-01", "t")
@example(1, "9999-12-31T23:59:59-23:59", "t")
def test_any_members_of_a_token_answer_are_survived(
    lifetime: object, issued: object, token: object
) -> None:
    raw = json.dumps({"token": token, "expires_in": lifetime, "issued_at": issued}).encode()
    try:
        parsed = parse_token(raw, 1_700_000_000.0, "s")
    except NetworkError:
        return
    assert parsed.value == f"Bearer {token}" and parsed.value.isprintable()


def test_secrets_do_not_show() -> None:
    shown = repr(Credentials("u", "hunter2", "hunter2")) + repr(
        parse_token(b'{"token":"hunter2"}', 0, "")
    )
    assert "hunter2" not in shown


def test_dropping_spares_a_newer_value() -> None:
    cache = TokenCache()
    cache.put(SCOPE, parse_token(b'{"token":"new"}', 0, ""))
    cache.drop(SCOPE, "Bearer old")
    assert cache.get(SCOPE, 0) == "Bearer new"


# -- over the wire -----------------------------------------------------------------------------

MANIFEST = b'{"schemaVersion": 2}'


class TokenRegistry:
    """A registry that wants a token which its own /token gives out, one at a time."""

    def __init__(self, server: Any) -> None:
        self.server, self.issued, self.valid = server, 0, ""
        server.on("/token", self.issue)

    def issue(self, seen: Any) -> Any:
        self.issued += 1
        self.valid = f"Bearer t{self.issued}"
        body = json.dumps({"token": f"t{self.issued}", "expires_in": 300}).encode()
        return self.server.Answer(200, body)

    def guard(self, body: bytes) -> Any:
        def serve(seen: Any) -> Any:
            if seen.headers.get("authorization") == self.valid:
                return self.server.Answer(200, body)
            where = f'Bearer realm="http://{self.server.host}/token",service="x"'
            return self.server.Answer(401, b"{}", {"WWW-Authenticate": where})

        return serve


def test_a_token_that_ends_in_the_middle_of_a_pull(server: Any, rig: Any) -> None:
    registry = TokenRegistry(server)
    server.on("/v2/a/b/manifests/1", registry.guard(MANIFEST))
    made, ref = rig(), parse_registry_reference(f"{server.host}/a/b:1")
    made.client.get_manifest(ref)
    registry.valid = "Bearer something else"  # the registry has forgotten ours
    assert made.client.get_manifest(ref).raw == MANIFEST
    assert registry.issued == 2
    assert server.authorizations() == [None, None, "Bearer t1", "Bearer t1", None, "Bearer t2"]
    assert made.meter.received_bytes == server.body_bytes
    assert made.meter.requests == 6 and made.meter.retries == 0


def test_many_threads_fetch_one_token(server: Any, rig: Any) -> None:
    registry = TokenRegistry(server)
    server.on("/v2/a/b/manifests/1", registry.guard(MANIFEST))
    made, ref, got = rig(), parse_registry_reference(f"{server.host}/a/b:1"), []
    threads = [
        threading.Thread(target=lambda: got.append(made.client.get_manifest(ref).digest))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [Digest.of(MANIFEST)] * 8 and registry.issued == 1


def test_a_token_is_never_shown_to_the_storage_host(new_server: Any, rig: Any) -> None:
    first, storage = new_server(), new_server()
    registry = TokenRegistry(first)
    moved = first.Answer(307, b"", {"Location": f"http://{storage.host}/data"})

    def serve(seen: Any) -> Any:
        allowed = registry.guard(b"")(seen)
        return moved if allowed.status == 200 else allowed

    first.on("/v2/a/b/manifests/1", serve)
    asking = storage.Answer(401, b"", {"WWW-Authenticate": 'Basic realm="give me"'})
    storage.on("/data", asking)
    made = rig(creds="u:p")
    with pytest.raises(NetworkError, match="answered 401"):
        made.client.get_manifest(parse_registry_reference(f"{first.host}/a/b:1"))
    assert set(storage.authorizations()) == {None}
