"""Who is told what: credentials, tokens and redirects, with a log of every request of everyone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import misbehaving as bad
from rig import store
from rig.answer import Exchange
from rig.certificates import Authority
from rig.command import PLAIN_HTTP, pull, report
from rig.credentials import Credentials
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import run_registry
from rig.small import medium
from rig.tokens import TokenServer, run_token_server
from test_failures import check_clean, fail

from bridge import limits
from tools.images.layout import Layout

SECRET = Credentials("user", "pass:word")
CREDS = f"--creds={SECRET.user}:{SECRET.password}"
QUICK = ("--retry-times=1", "--idle-timeout=2")


@dataclass(frozen=True)
class Bench:
    """A guarded registry and its token server, each behind a proxy, and a storage that is open."""

    proxy: CountingProxy
    storage: CountingProxy
    image: Layout
    tokens: TokenServer | None = None
    token_proxy: CountingProxy | None = None

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/a/b:v1"

    @property
    def layer(self) -> str:
        digest: str = self.image.layers[1]["digest"]
        return digest

    def to_storage(self, exchange: Exchange) -> str:
        """A URL for what was asked for, with a signature that no other request gets."""
        return f"http://{self.storage.host}{exchange.path}?signature={len(self.proxy.log)}"

    @property
    def body_bytes(self) -> int:
        servers = (self.proxy, self.storage, self.token_proxy)
        return sum(server.body_bytes for server in servers if server)

    @property
    def requests(self) -> int:
        servers = (self.proxy, self.storage, self.token_proxy)
        return sum(server.requests for server in servers if server)


KINDS = ("htpasswd", "token")


@contextmanager
def run_bench(kind: str, work: Path) -> Iterator[Bench]:
    image = medium(work / "image")
    with ExitStack() as stack:
        place = work / "storage"
        opened = stack.enter_context(run_registry(place))
        push(image, opened, "a/b", "v1")
        tokens = token_proxy = None
        if kind == "token":
            tokens = stack.enter_context(run_token_server(work / "tokens", SECRET))
            token_proxy = stack.enter_context(run_proxy(tokens.port))
            tokens.port = token_proxy.port
        basic = SECRET if kind == "htpasswd" else None
        guarded = stack.enter_context(run_registry(place, basic=basic, tokens=tokens))
        proxy = stack.enter_context(run_proxy(guarded.port))
        storage = stack.enter_context(run_proxy(opened.port))
        yield Bench(proxy, storage, image, tokens, token_proxy)


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with run_bench(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def with_tokens(tmp_path: Path) -> Iterator[Bench]:
    with run_bench("token", tmp_path) as running:
        yield running


def check_counts(bench: Bench, document: dict[str, Any]) -> None:
    transfer = document["transfer"]
    assert transfer["receivedBytes"] == bench.body_bytes
    assert transfer["requests"] == bench.requests


# -- credentials stay with their origin --------------------------------------------------------


def test_a_storage_gets_no_credentials(bench: Bench, tmp_path: Path) -> None:
    """Blobs are somewhere else, by way of another host, and one of them breaks off there."""
    bench.proxy.spoil("/blobs/", bad.redirects(bench.to_storage), always=True)
    bench.storage.spoil(
        bench.layer,
        bad.redirects(
            lambda exchange: f"http://localhost:{bench.storage.port}/v2/a/b/blobs/{bench.layer}"
        ),
    )
    bench.storage.spoil(bench.layer, bad.cut(300_000))
    document = pull(bench.name, tmp_path / "repo", CREDS)
    assert bench.storage.requests == 5
    assert [each.authorization for each in bench.storage.log] == [None] * 5
    assert all(each.authorization for each in bench.proxy.asked("/blobs/"))
    check_counts(bench, document)
    store.fsck(tmp_path / "repo")


def test_a_storage_that_asks_for_credentials_gets_none(bench: Bench, tmp_path: Path) -> None:
    bench.proxy.spoil("/blobs/", bad.redirects(bench.to_storage), always=True)
    realm = bench.tokens.realm if bench.tokens else f"http://{bench.storage.host}/token"
    challenge = f'Basic realm="x", Bearer realm="{realm}",service="s"'
    bench.storage.spoil("", bad.challenges(challenge), always=True)
    line = fail(5, bench.name, "--repo", tmp_path / "repo", PLAIN_HTTP, CREDS, *QUICK)
    assert "127.0.0.1" in line and "401" in line
    assert {each.authorization for each in bench.storage.log} == {None}
    assert not bench.storage.asked("/token")
    if bench.tokens:
        assert len(bench.tokens.requests) == 1
    check_clean(tmp_path / "repo")


def test_a_signed_url_that_has_run_out(bench: Bench, tmp_path: Path) -> None:
    """The rest is fetched by a new URL, which only the registry can give."""
    bench.proxy.spoil(bench.layer, bad.redirects(bench.to_storage), always=True)
    bench.storage.spoil(bench.layer, bad.cut(300_000), bad.answers(403, b"<Code>AccessDenied"))
    document = pull(bench.name, tmp_path / "repo", CREDS)
    log = bench.storage.log
    assert [(each.range, each.status) for each in log] == [
        (None, 200),
        ("bytes=300000-", 403),
        ("bytes=300000-", 206),
    ]
    assert len({each.path for each in log}) == 3
    check_counts(bench, document)
    store.fsck(tmp_path / "repo")


def test_urls_of_a_descriptor_are_not_contacted(bench: Bench, tmp_path: Path) -> None:
    """A foreign layer is what the registry has under its digest, or nothing."""
    trap = f"http://{bench.storage.host}/v2/a/b/blobs/{bench.layer}"

    def foreign(media_type: str) -> bytes:
        document = json.loads(bench.image.blob(bench.image.digest).read_bytes())
        document["layers"][1] |= {"urls": [trap], "mediaType": media_type}
        return json.dumps(document).encode()

    kind = bench.image.manifest["mediaType"]
    raw = foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    bench.proxy.spoil("/manifests/", bad.document(raw, kind), bad.document(raw, kind))
    pull(bench.name, tmp_path / "repo", CREDS)
    bench.proxy.spoil("/manifests/", bad.document(raw, kind))
    bench.proxy.spoil(bench.layer, bad.answers(404))
    line = fail(4, bench.name, "--repo", tmp_path / "other", PLAIN_HTTP, CREDS)
    assert bench.layer in line
    assert bench.storage.requests == 0


# -- tokens ------------------------------------------------------------------------------------


def test_a_token_that_runs_out(with_tokens: Bench, tmp_path: Path) -> None:
    """In the middle of a pull, and in the middle of a blob: each costs one new token."""
    bench = with_tokens
    assert bench.tokens
    challenge = f'Bearer realm="{bench.tokens.realm}",service="{bench.tokens.service}"'
    refused = bad.challenges(f'{challenge},error="invalid_token"')
    bench.proxy.spoil(bench.layer, refused, bad.cut(300_000), refused)
    document = pull(bench.name, tmp_path / "repo", CREDS)
    log = bench.proxy.asked(bench.layer)
    assert [(each.status, each.range) for each in log] == [
        (401, None),
        (200, None),
        (401, "bytes=300000-"),
        (206, "bytes=300000-"),
    ]
    assert len(bench.tokens.requests) == 3
    tokens = [each.authorization for each in log]
    assert tokens[0] != tokens[1] == tokens[2] != tokens[3]
    check_counts(bench, document)


@pytest.mark.parametrize("part", ("/manifests/", "/blobs/"))
def test_a_token_that_is_never_good(bench: Bench, tmp_path: Path, part: str) -> None:
    challenge = 'Basic realm="registry"'
    if bench.tokens:
        challenge = f'Bearer realm="{bench.tokens.realm}",service="{bench.tokens.service}"'
    bench.proxy.spoil(part, bad.challenges(challenge), always=True)
    line = fail(3, bench.name, "--repo", tmp_path / "repo", PLAIN_HTTP, CREDS)
    assert bench.proxy.host in line and "'user' from --creds" in line
    for path in {each.path for each in bench.proxy.asked(part)}:
        assert len(bench.proxy.asked(path)) <= 3
    check_clean(tmp_path / "repo")


def token(document: bytes) -> Any:
    return bad.answers(200, document)


SERVERS = {
    # What the token server does to every request, the exit code, and words of the error.
    "401": (bad.answers(401, b"{}"), 3, "token server"),
    "403": (bad.answers(403, b"{}"), 3, "token server"),
    "500": (bad.answers(500), 5, "500"),
    "in a minute": (bad.busy(429, "61"), 5, "429"),
    "silence": (bad.stalls_in_headers, 5, "nothing came"),
    "reset": (bad.resets_at_once, 5, "reset"),
    "cut": (bad.cut(20), 5, "(2 tries)"),
    "no JSON": (token(b"<html>"), 5, "no token"),
    "no object": (token(b'["token"]'), 5, "no token"),
    "no token": (token(b"{}"), 5, "without a token"),
    "a header in it": (token(b'{"token": "x\\r\\nX-Evil: 1"}'), 5, "without a token"),
    "nested": (token(b"[" * 500_000), 5, "no token"),
    "too large": (token(b" " * (limits.TOKEN_MAX + 1)), 5, "more than 1048576 bytes"),
    "without end": (bad.together(bad.longer(None), bad.chunked), 5, "more than 1048576 bytes"),
    "for longer than there are numbers": (
        token(b'{"token": "x", "expires_in": 1' + b"0" * 400 + b"}"),
        5,
        "no token",
    ),
    "for no number of seconds": (token(b'{"token": "x", "expires_in": NaN}'), 5, "no token"),
    "to a file": (bad.redirects("file:///etc/passwd"), 5, "not an http"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_token_server_that_fails(tmp_path: Path, server: str, guarded: Bench) -> None:
    assert guarded.token_proxy
    fault, code, words = SERVERS[server]
    guarded.token_proxy.spoil("/token", fault, always=True)
    line = fail(code, guarded.name, "--repo", tmp_path / "repo", PLAIN_HTTP, CREDS, *QUICK)
    assert words in line and "127.0.0.1" in line and SECRET.password not in line
    assert guarded.token_proxy.requests <= 2
    check_clean(tmp_path / "repo")


LIFETIMES = (b"1e999", b"-5", b"0", b"0.001", b'"60"', b"null")


@pytest.mark.parametrize("lifetime", LIFETIMES)
def test_odd_lifetimes_of_good_tokens(tmp_path: Path, lifetime: bytes, guarded: Bench) -> None:
    assert guarded.token_proxy

    def changed(exchange: Exchange, answer: Any) -> Any:
        document = json.loads(answer.data())
        raw = json.dumps({"token": document["token"]}).encode()
        answer.send_data(raw[:-1] + b', "expires_in": ' + lifetime + b"}")
        return answer

    guarded.token_proxy.spoil("/token", changed, always=True)
    document = pull(guarded.name, tmp_path / "repo", CREDS)
    check_counts(guarded, document)


@pytest.fixture(scope="module")
def token_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with run_bench("token", tmp_path_factory.mktemp("tokens")) as running:
        yield running


@pytest.fixture
def guarded(token_bench: Bench) -> Iterator[Bench]:
    """The bench of the whole module, as if new."""
    yield token_bench
    for server in (token_bench.proxy, token_bench.storage, token_bench.token_proxy):
        assert server
        server.forgive()
        server.reset()


# -- with TLS verified -------------------------------------------------------------------------


@dataclass(frozen=True)
class Encrypted:
    """A guarded registry that speaks TLS, and a plain server beside it."""

    proxy: CountingProxy
    plain: CountingProxy
    other: CountingProxy
    image: Layout
    certificates: Path

    @property
    def options(self) -> tuple[str, ...]:
        return (f"--cert-dir={self.certificates}", CREDS, *QUICK)

    @property
    def name(self) -> str:
        return f"{self.proxy.host}/a/b:v1"


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Encrypted]:
    authority = Authority.create(tmp_path / "ca")
    image = medium(tmp_path / "image")
    identity = authority.issue("registry")
    certificates = tmp_path / "certs"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(authority.identity.certificate_file.read_bytes())
    with ExitStack() as stack:
        registry = stack.enter_context(run_registry(tmp_path / "storage", basic=SECRET))
        push(image, registry, "a/b", "v1")
        opened = stack.enter_context(run_registry(tmp_path / "storage"))
        proxy = stack.enter_context(run_proxy(registry.port, identity))
        other = stack.enter_context(run_proxy(opened.port, identity))
        plain = stack.enter_context(run_proxy(opened.port))
        yield Encrypted(proxy, plain, other, image, certificates)


def test_https_does_not_lead_to_http(encrypted: Encrypted, tmp_path: Path) -> None:
    for part in ("/manifests/", "/blobs/"):
        where = lambda exchange: f"http://{encrypted.plain.host}{exchange.path}"  # noqa: E731
        encrypted.proxy.spoil(part, bad.redirects(where), always=True)
        line = fail(5, encrypted.name, "--repo", tmp_path / "repo", *encrypted.options)
        assert "from https to http" in line and encrypted.proxy.host in line
        check_clean(tmp_path / "repo")
        encrypted.proxy.forgive()
    assert encrypted.plain.requests == 0


def test_https_leads_to_https_without_credentials(encrypted: Encrypted, tmp_path: Path) -> None:
    where = lambda exchange: f"https://{encrypted.other.host}{exchange.path}"  # noqa: E731
    encrypted.proxy.spoil("/blobs/", bad.redirects(where), always=True)
    encrypted.other.spoil(encrypted.image.manifest["config"]["digest"], bad.cut(100))
    encrypted.other.spoil(encrypted.image.layers[1]["digest"], bad.resets(300_000))
    document = report(
        "image", "pull", encrypted.name, "--repo", tmp_path / "repo", *encrypted.options
    )
    assert encrypted.other.requests == 5
    assert {each.authorization for each in encrypted.other.log} == {None}
    sent = encrypted.proxy.body_bytes + encrypted.other.body_bytes
    assert document["transfer"]["receivedBytes"] == sent


def test_no_password_in_the_clear(encrypted: Encrypted, tmp_path: Path) -> None:
    realm = f"http://{encrypted.plain.host}/token"
    challenge = f'Bearer realm="{realm}",service="s"'
    encrypted.proxy.spoil("", bad.challenges(challenge), always=True)
    line = fail(5, encrypted.name, "--repo", tmp_path / "repo", *encrypted.options)
    assert "plain HTTP" in line and encrypted.proxy.host in line
    assert encrypted.plain.requests == 0
    # Nor by way of a token server that can be trusted.
    realm = f"https://{encrypted.other.host}/token"
    encrypted.proxy.forgive()
    encrypted.proxy.spoil("", bad.challenges(f'Bearer realm="{realm}",service="s"'), always=True)
    encrypted.other.spoil("/token", bad.redirects(f"http://{encrypted.plain.host}/token"))
    line = fail(5, encrypted.name, "--repo", tmp_path / "repo", *encrypted.options)
    assert "from https to http" in line
    assert encrypted.plain.requests == 0


# -- one name, one image -----------------------------------------------------------------------


def test_a_tag_that_moves_in_the_middle(tmp_path: Path) -> None:
    """What is pulled is one image, the first that the tag named whole."""
    old, new = medium(tmp_path / "old"), medium(tmp_path / "new", version="2")
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        push(new, registry, "a/b", "v1")
        push(old, registry, "a/b", "v1")
        moved = bad.document(new.blob(new.digest).read_bytes(), new.manifest["mediaType"])
        proxy.spoil("/manifests/", bad.nothing, moved)
        name = f"{proxy.host}/a/b:v1"
        document = pull(name, tmp_path / "repo")
        assert document["image"]["manifestDigest"] == old.digest
        assert len(proxy.asked("/manifests/")) == 1
        proxy.reset()
        document = pull(name, tmp_path / "repo")
        assert document["image"]["manifestDigest"] == new.digest
        proxy.spoil("/manifests/", bad.cut(100), moved)
        document = pull(name, tmp_path / "other")
        assert document["image"]["manifestDigest"] == new.digest


def test_another_document_under_a_digest(tmp_path: Path) -> None:
    """Good in itself, and announced under the digest that was asked for."""
    wanted, other = medium(tmp_path / "wanted"), medium(tmp_path / "other", version="2")
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        push(wanted, registry, "a/b", "v1")
        push(other, registry, "a/b", "v2")
        raw, kind = other.blob(other.digest).read_bytes(), other.manifest["mediaType"]
        proxy.spoil("/manifests/", bad.document(raw, kind, wanted.digest))
        name = f"{proxy.host}/a/b@{wanted.digest}"
        assert wanted.digest in fail(6, name, "--repo", tmp_path / "repo", PLAIN_HTTP)
        check_clean(tmp_path / "repo")
        # The same below an index, which was right.
        entry = {"mediaType": kind, "digest": wanted.digest, "size": len(raw)}
        index = {"schemaVersion": 2, "manifests": [entry]}
        oci_index = "application/vnd.oci.image.index.v1+json"
        index["mediaType"] = oci_index
        lie = bad.document(raw, kind, wanted.digest)
        proxy.spoil("/manifests/", bad.document(json.dumps(index).encode(), oci_index), lie)
        line = fail(6, f"{proxy.host}/a/b:v1", "--repo", tmp_path / "repo", PLAIN_HTTP)
        assert wanted.digest in line
        check_clean(tmp_path / "repo")
        assert proxy.blob_requests == 0
        pull(name, tmp_path / "repo")
