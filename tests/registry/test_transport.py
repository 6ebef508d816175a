"""Retries, redirects, limits and TLS, against loopback servers."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge import limits
from bridge.errors import NetworkError, UsageError
from bridge.registry.message import Request, origin, redirected
from bridge.registry.meter import Meter, RateLimit
from bridge.registry.options import NetworkOptions, Timeouts
from bridge.registry.tls import cert_directory, tls_context
from bridge.registry.transport import Transport


def exchange(made: Any, url: str, *, insecure: bool = False, **headers: str) -> Any:
    request = Request("GET", url, headers, limit=100, insecure=insecure)
    return made.transport.exchange(request, made.meter)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_retried(server: Any, rig: Any, status: int) -> None:
    server.on("/x", server.Answer(status, b"wait"), server.Answer(200, b"here"))
    made = rig()
    assert exchange(made, f"http://{server.host}/x").body == b"here"
    assert (made.meter.requests, made.meter.retries, made.sleeps) == (2, 1, [0.375])
    assert made.meter.received_bytes == 8 == server.body_bytes


def test_retry_after_is_a_lower_bound(server: Any, rig: Any) -> None:
    wait = server.Answer(429, b"", {"Retry-After": "7"})
    server.on("/x", wait, wait, server.Answer(200, b"here"))
    made = rig()
    exchange(made, f"http://{server.host}/x").close()
    assert made.sleeps == [7.5, 7.5]


def test_a_wait_nobody_wants_is_reported(server: Any, rig: Any) -> None:
    server.on("/x", server.Answer(503, b"", {"Retry-After": "3600"}))
    made = rig()
    assert exchange(made, f"http://{server.host}/x").status == 503
    assert made.sleeps == []


def test_waits_end_after_five_minutes(server: Any, rig: Any) -> None:
    server.on("/x", server.Answer(503, b"", {"Retry-After": "59"}))
    made = rig(retry_times=1000)
    assert exchange(made, f"http://{server.host}/x").status == 503
    assert made.sleeps == [59.5] * 5 and sum(made.sleeps) < limits.RETRY_TOTAL_MAX


def test_tries_end(server: Any, rig: Any) -> None:
    server.on("/x", server.Answer(500, b"no"))
    made = rig(retry_times=2)
    assert exchange(made, f"http://{server.host}/x").status == 500
    assert made.sleeps == [0.375, 0.75] and made.meter.requests == 3


def test_a_refused_connection_is_retried_and_named(rig: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = rig(retry_times=1)
    with pytest.raises(NetworkError, match=rf"127.0.0.1:{port}: Connection refused \(2 tries\)"):
        exchange(made, f"http://127.0.0.1:{port}/x")
    assert (made.meter.requests, made.meter.retries) == (0, 1)


def test_silence_ends(server: Any, rig: Any) -> None:
    server.on("/x", server.Answer(200, b"abc", sent=0, stall=True))
    made = rig(retry_times=0)
    with pytest.raises(NetworkError, match=r"nothing came for 0.3 seconds"):
        exchange(made, f"http://{server.host}/x")


def test_a_trickle_is_a_stall(server: Any) -> None:
    ticks = iter(range(0, 100000, 20))
    server.on("/x", server.Answer(200, b"abcdef" * 10))
    options = NetworkOptions(timeouts=Timeouts(5, 30.0))
    transport = Transport(options, clock=lambda: float(next(ticks)))
    response = transport.exchange(Request("GET", f"http://{server.host}/x"), Meter())
    chunks = response.chunks()
    response._raw.raw.read1 = lambda amount, decode_content: b"a"
    with pytest.raises(NetworkError, match="only 2 bytes came in 40 seconds"):
        list(chunks)
    response.close()


# -- redirects ---------------------------------------------------------------------------------


def test_credentials_stay_with_their_origin(new_server: Any, rig: Any) -> None:
    first, second = new_server(), new_server()
    first.on("/x", first.Answer(307, b"gone", {"Location": "/y"}))
    first.on("/y", first.Answer(302, b"", {"Location": f"http://{second.host}/z"}))
    second.on("/z", first.Answer(302, b"", {"Location": f"http://{first.host}/back"}))
    first.on("/back", first.Answer(200, b"done"))
    made = rig()
    response = exchange(
        made, f"http://{first.host}/x", Authorization="Bearer s", Cookie="c", Range="bytes=1-"
    )
    assert response.body == b"done"
    assert first.paths() == ["/x", "/y", "/back"]
    assert first.authorizations() == ["Bearer s", "Bearer s", None]
    assert second.authorizations() == [None] and "cookie" not in second.seen[0].headers
    assert second.seen[0].headers["range"] == "bytes=1-"
    assert made.meter.received_bytes == 8 and made.meter.requests == 4


def test_redirects_end(server: Any, rig: Any) -> None:
    server.on("/x", server.Answer(302, b"", {"Location": "/x"}))
    made = rig()
    with pytest.raises(NetworkError, match="more than 10 redirects"):
        exchange(made, f"http://{server.host}/x")
    assert made.meter.requests == limits.REDIRECTS_MAX + 1


@pytest.mark.parametrize(
    "location",
    ["http://h/x", "ftp://h/x", "file:///etc/passwd", "https://u:p@h/x", "https://[x/"],
)
def test_redirects_that_are_refused(location: str) -> None:
    with pytest.raises(NetworkError):
        redirected(Request("GET", "https://h/x"), location)


def test_only_reads_are_redirected() -> None:
    with pytest.raises(NetworkError, match="POST"):
        redirected(Request("POST", "https://h/x"), "/y")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://h/y", True),
        ("https://h:443/y", True),
        ("https://H/y", True),
        ("https://h:444/y", False),
        ("https://h.evil/y", False),
        ("https://h@evil/y", None),
    ],
)
def test_what_an_origin_is(url: str, kept: bool | None) -> None:
    request = Request("GET", "https://h/x", {"AUTHORIZATION": "s", "Accept": "a"})
    if kept is None:
        with pytest.raises(NetworkError, match="credentials"):
            redirected(request, url)
        return
    headers = redirected(request, url).headers
    assert headers == ({"AUTHORIZATION": "s", "Accept": "a"} if kept else {"Accept": "a"})


def test_an_expired_signed_url_sends_us_back_to_the_registry(new_server: Any, rig: Any) -> None:
    registry, storage = new_server(), new_server()
    registry.on(
        "/blob",
        registry.Answer(307, b"", {"Location": f"http://{storage.host}/old"}),
        registry.Answer(307, b"", {"Location": f"http://{storage.host}/new"}),
    )
    storage.on("/old", storage.Answer(403, b"expired"))
    storage.on("/new", storage.Answer(200, b"data"))
    made = rig()
    assert exchange(made, f"http://{registry.host}/blob").body == b"data"
    assert made.meter.retries == 1


# -- environment -------------------------------------------------------------------------------


def test_netrc_is_not_read(
    server: Any, rig: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login thief password p\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server.on("/x", server.Answer(200, b""))
    made = rig()
    exchange(made, f"http://{server.host}/x").close()
    exchange(made, f"http://{server.host}/x", Authorization="Bearer mine").close()
    assert server.authorizations() == [None, "Bearer mine"]


def test_cookies_are_not_kept(server: Any, rig: Any) -> None:
    server.on("/x", server.Answer(200, b"", {"Set-Cookie": "a=b; Path=/"}))
    made = rig()
    for _ in range(2):
        exchange(made, f"http://{server.host}/x")
    assert "cookie" not in server.seen[1].headers


def test_proxies_of_the_environment_are_used(
    new_server: Any, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, direct = new_server(), new_server()
    monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    proxy.on("http://registry.example/x", proxy.Answer(200, b"by proxy"))
    direct.on("/x", direct.Answer(200, b"direct"))
    made = rig()
    assert exchange(made, "http://registry.example/x").body == b"by proxy"
    assert exchange(made, f"http://{direct.host}/x").body == b"direct"


# -- rate --------------------------------------------------------------------------------------


def test_rate_limit_spreads_the_bytes() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    rate = RateLimit(1000, lambda: now[0], sleep)
    for _ in range(20):
        rate.take(500)
    assert sum(slept) == pytest.approx(10, abs=RateLimit.BURST)
    now[0] += 3600  # an idle hour saves up no more than the burst
    slept.clear()
    rate.take(1000)
    assert slept == [pytest.approx(1 - RateLimit.BURST)]


def test_rate_limit_holds_for_error_bodies_too(server: Any) -> None:
    slept: list[float] = []
    rate = RateLimit(10, lambda: 0.0, slept.append)
    server.on("/x", server.Answer(404, b"x" * 100))
    transport = Transport(NetworkOptions(), rate=rate)
    transport.exchange(Request("GET", f"http://{server.host}/x"), Meter())
    assert max(slept) == pytest.approx(10)


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (directory / "ca.crt").write_bytes(made.public_bytes(pem))
    (directory / "server.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return directory


@pytest.fixture
def secure(server: Any, certificate: Path) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "ca.crt", certificate / "server.pem")
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    server.on("/x", server.Answer(200, b"secret"))
    return server


def test_an_unknown_authority_is_refused_at_once(secure: Any, rig: Any) -> None:
    made = rig()
    with pytest.raises(NetworkError, match=r"--cert-dir|--tls-verify=false"):
        exchange(made, f"https://{secure.host}/x")
    assert (made.meter.requests, made.sleeps, secure.seen) == (0, [], [])


def test_cert_dir_gives_the_authority(secure: Any, rig: Any, certificate: Path) -> None:
    made = rig(cert_dir=str(certificate))
    assert exchange(made, f"https://{secure.host}/x").body == b"secret"


def test_certs_d_gives_the_authority(
    secure: Any, rig: Any, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    directory = tmp_path / "containers/certs.d" / secure.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes((certificate / "ca.crt").read_bytes())
    made = rig()
    assert exchange(made, f"https://{secure.host}/x").body == b"secret"


def test_without_verification_any_certificate_will_do(secure: Any, rig: Any) -> None:
    made = rig(probe=True)
    base = made.transport.base_url(secure.host, made.meter, insecure=True)
    assert base == f"https://{secure.host}"
    assert exchange(made, f"{base}/x", insecure=True).body == b"secret"
    # That is said of each request: what is not insecure does not use the other's connection.
    with pytest.raises(NetworkError, match="certificate"):
        exchange(made, f"{base}/x")


def test_without_verification_plain_http_will_do(server: Any, rig: Any) -> None:
    made = rig(probe=True)
    for _ in range(2):
        base = made.transport.base_url(server.host, made.meter, insecure=True)
        assert base == f"http://{server.host}"
    assert made.meter.received_bytes == server.body_bytes == 0


def test_with_verification_plain_http_will_not_do(server: Any, rig: Any) -> None:
    made = rig(probe=True)
    base = made.transport.base_url(server.host, made.meter)
    with pytest.raises(NetworkError):
        exchange(made, f"{base}/x")
    assert server.seen == []


def test_https_is_not_left_by_a_redirect(
    secure: Any, new_server: Any, rig: Any, certificate: Path
) -> None:
    plain = new_server()
    secure.on("/x", secure.Answer(302, b"", {"Location": f"http://{plain.host}/x"}))
    made = rig(cert_dir=str(certificate))
    with pytest.raises(NetworkError, match="https to http"):
        exchange(made, f"https://{secure.host}/x")
    assert plain.seen == []


def test_unusable_certificates(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        cert_directory("h", NetworkOptions(cert_dir=str(tmp_path / "no")), {})
    (tmp_path / "a.crt").write_text("no certificate")
    with pytest.raises(UsageError, match=r"a\.crt"):
        tls_context("h", NetworkOptions(cert_dir=str(tmp_path)), {})
    (tmp_path / "a.crt").unlink()
    (tmp_path / "c.cert").write_text("x")
    with pytest.raises(UsageError, match=r"c\.cert"):
        tls_context("h", NetworkOptions(cert_dir=str(tmp_path)), {})


def test_origin_refuses_what_is_no_http_url() -> None:
    assert origin("HTTPS://[::1]:5000/x") == ("https", "::1", 5000)
    for url in ("", "h/x", "https:///x", "https://h:99999/", "gopher://h/"):
        with pytest.raises(NetworkError):
            origin(url)
