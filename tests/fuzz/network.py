"""What registries and token servers say, and the files that say how to reach them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import tempfile
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

from bridge.errors import NetworkError, UsageError
from bridge.oci.reference import is_tag, parse_reference, parse_registry_reference
from bridge.registry import blob, client, registriesconf
from bridge.registry.auth import describe
from bridge.registry.authfile import Credentials, CredentialStore
from bridge.registry.challenge import Challenge, parse_challenges
from bridge.registry.message import Request, next_page, origin, redirected
from bridge.registry.options import NetworkOptions
from bridge.registry.registriesconf import RegistriesConf
from bridge.registry.retry import parse_retry_after
from bridge.registry.shortname import expand
from bridge.registry.token import Authorization, Scope, parse_token, token_request

from .harness import Target
from .images import json_mutated

NOW = 1_700_000_000.0


def header(data: bytes) -> str:
    """Return what http.client makes of a header's bytes."""
    return data.decode("latin-1")


@dataclass
class Reply:
    """An answer that was not sent."""

    status: int = 206
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    foreign: bool = False


# -- headers ---------------------------------------------------------------------------------


def _challenges(data: bytes) -> list[Challenge]:
    return parse_challenges(header(data))


def _challenges_come_back(_data: bytes, found: list[Challenge]) -> None:
    def quoted(text: str) -> str:
        return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

    written = ", ".join(
        f"{each.scheme} " + ", ".join(f"{k}={quoted(v)}" for k, v in each.parameters.items())
        for each in found
    )
    if "\n" not in written:
        assert parse_challenges(written) == found
    assert all(each.scheme and each.scheme == each.scheme.lower() for each in found)


def _token_request(data: bytes) -> Request:
    """Answer a challenge whose realm is `data`, with a password and with an identity token."""
    challenge = Challenge("bearer", {"realm": header(data), "service": "s", "scope": "x"})
    scope = Scope("h", "a/b")
    token_request(challenge, scope, Credentials(identity_token="t"), secure=False)
    token_request(challenge, scope, None, secure=False)
    return token_request(challenge, scope, Credentials("u", "p"), secure=True)


def _password_stays_safe(data: bytes, found: Request) -> None:
    assert origin(found.url) == origin(header(data))
    assert found.url.startswith("https://")
    assert ("scope", "repository:a/b:pull") in parse_qsl(urlsplit(found.url).query)
    _can_be_sent(found)


_BEFORE = Request("GET", "https://h:5000/v2/a/blobs/x?y", {"authorization": "secret", "Range": "z"})


def _redirected(data: bytes) -> Request:
    return redirected(_BEFORE, header(data))


def _secrets_stay_home(_data: bytes, found: Request) -> None:
    assert found.url.startswith("https://")
    assert ("authorization" in found.headers) == (origin(found.url) == ("https", "h", 5000))
    assert found.headers["Range"] == "z"
    _can_be_sent(found)


def _can_be_sent(request: Request) -> None:
    """Where the transport connects to is where we think; it may refuse, in requests' own words."""
    with contextlib.suppress(requests.exceptions.RequestException):
        prepared = requests.Request(request.method, request.url, dict(request.headers)).prepare()
        assert prepared.url is not None
        assert origin(prepared.url)[0::2] == origin(request.url)[0::2]
        host, sent = origin(request.url)[1], origin(prepared.url)[1]
        assert not host.isascii() or "%" in host or host == sent


def _retry_after(data: bytes) -> float | None:
    return parse_retry_after(header(data), NOW)


def _not_in_the_past(data: bytes, found: float | None) -> None:
    assert found is None or 0 <= found <= 10**12
    if data.isdigit() and len(data) <= 12:
        assert found == int(data)


def _range(data: bytes) -> bool:
    """Take `data` for the Content-Range of bytes 100 to 999."""
    value, _, length = header(data).partition("\0")
    headers = {"Content-Range": value} | ({"Content-Length": length} if length else {})
    return blob.is_range(Reply(headers=headers), 100, 1000)  # type: ignore[arg-type]


def _only_that_range(data: bytes, found: bool) -> None:
    value, _, length = header(data).partition("\0")
    exact = value.strip() in ("bytes 100-999/1000", "bytes 100-999/*")
    zeros = re.sub(r"(?<![0-9])0+(?=[0-9])", "", value.strip())
    assert found <= (zeros in ("bytes 100-999/1000", "bytes 100-999/*"))
    if exact and length in ("", "900"):
        assert found


def _next_page(data: bytes) -> str | None:
    return next_page(header(data))


# -- bodies ----------------------------------------------------------------------------------


def _token(data: bytes) -> Authorization:
    return parse_token(data, NOW, "h")


def _token_is_a_header(_data: bytes, found: Authorization) -> None:
    assert found.value.startswith("Bearer ") and found.value.isascii()
    assert found.value.isprintable()
    assert found.expires == found.expires  # not a NaN, with which nothing compares


def _described(data: bytes) -> str:
    return describe(Reply(status=403, body=data))


def _one_line(_data: bytes, found: str) -> None:
    assert found.isprintable() and len(found) < 300


class _Registry:
    """A transport whose every answer is the same page."""

    def __init__(self, body: bytes) -> None:
        self._reply = Reply(200, {}, body)
        self._reply.url = "https://h/v2/a/tags/list"  # type: ignore[attr-defined]

    def base_url(self, host: str, _meter: Any, **_more: object) -> str:
        return f"https://{host}"

    def exchange(self, _request: Request, _meter: Any, _backoff: Any) -> Reply:
        return self._reply


def _tags(data: bytes) -> list[str]:
    registry: Any = _Registry(data)
    made = client.Client(transport=registry, credentials=CredentialStore(_NOBODY, environ={}))
    return made.list_tags(parse_registry_reference("h/a"))


def _tags_are_those_of_the_list(data: bytes, found: list[str]) -> None:
    listed = json.loads(data)["tags"] or []
    assert isinstance(listed, list)
    texts = [each for each in listed if isinstance(each, str)]
    assert found == [each for each in dict.fromkeys(texts) if is_tag(each)]


# -- files -----------------------------------------------------------------------------------

_NOBODY = NetworkOptions(authfile="/nonexistent/auth.json")


def _authfile(data: bytes) -> list[Credentials | None]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        store = CredentialStore(
            NetworkOptions(authfile=file.name), environ={"PATH": "/nonexistent"}
        )
        try:
            found = [store.find(host, "a/b") for host in ("quay.io", "docker.io", "h:5000")]
        except UsageError as error:
            raise UsageError(str(error).replace(file.name, "")) from error
        return [
            each and Credentials(each.username, each.password, each.identity_token)
            for each in found
        ]


def _credentials_can_be_sent(_data: bytes, found: list[Credentials | None]) -> None:
    for each in filter(None, found):
        assert each.basic.isascii() and each.basic.isprintable()
        challenge = Challenge("bearer", {"realm": "https://h/t"})
        token_request(challenge, Scope("h", "a"), each, secure=True)


def _registries_conf(data: bytes) -> tuple[str, RegistriesConf]:
    try:
        conf = registriesconf.parse(data.decode(), "registries.conf")
    except UnicodeDecodeError:
        raise UsageError("not text") from None
    return expand("fedora/httpd:1", conf), conf


def _reference_or_refused(_data: bytes, found: tuple[str, RegistriesConf]) -> None:
    name, conf = found
    with contextlib.suppress(UsageError):  # a host may be too long for a name
        parse_reference(name)
    for host in ("quay.io/a", "docker.io/library/a"):
        table = conf.find(host)
        assert table is None or table.rest(host) is not None
    assert conf.merged(conf) == conf


_AUTHFILES = (
    b'{"auths": {"quay.io/a/b": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "dTpw",'
    b' "identitytoken": "t"}, "h:5000": {"username": "u", "password": "p"}}}',
    b'{"credHelpers": {"quay.io": "x"}, "credsStore": "y", "auths": {}}',
)
_TOKENS = (
    b'{"token": "abc", "expires_in": 300, "issued_at": "2023-11-14T22:13:20.5Z"}',
    b'{"access_token": "abc", "refresh_token": "x"}',
)


def _numbers(data: bytes, chance: random.Random) -> bytes:
    """Put odd lifetimes into an answer, or damage it as JSON."""
    if chance.random() < 0.5:
        return json_mutated(data, chance)
    number = chance.choice((b"1" * 400, b"1e999", b"-1e999", b"NaN", b"-5", b'"7"', b"1e-300"))
    return re.sub(rb'"expires_in": [^,}]*', b'"expires_in": ' + number, data)


TARGETS = [
    Target(
        "challenge",
        lambda: [
            b'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            b'scope="repository:library/alpine:pull"',
            b'Negotiate a87421==, Basic realm="a\\"b\\\\", Digest qop=auth , nonce = x',
        ],
        _challenges,
        (),
        _challenges_come_back,
        (b'"', b"\\", b",", b"=", b" ", b"Basic ", b"realm=", b"==", b"\t"),
    ),
    Target(
        "realm",
        lambda: [b"https://auth.docker.io/token", b"https://h:5000/t?service=x&a=#f", b"http://h/"],
        _token_request,
        (NetworkError,),
        _password_stays_safe,
        (b"https://", b"http:", b"//", b"@", b"[::1]", b"%", b"?", b"#", b"&", b";", b":0", b"\\"),
    ),
    Target(
        "redirect",
        lambda: [
            b"https://cdn.example/x?sig=y",
            b"/v2/other",
            b"//h:5000/z",
            b"?q",
            b"https://H:5000",
        ],
        _redirected,
        (NetworkError,),
        _secrets_stay_home,
        (
            b"https://",
            b"http:",
            b"//",
            b"@",
            b"[::1]",
            b"%00",
            b"?",
            b"#",
            b":443",
            b":0",
            b"\\",
            b"h:5000",
            b"..",
            b"\xa0",
            b"\xad",
            b"\t",
            b"javascript:",
        ),
    ),
    Target(
        "retry-after",
        lambda: [b"120", b"Tue, 14 Nov 2023 22:13:50 GMT", b"Tuesday, 14-Nov-23 22:13:50 GMT"],
        _retry_after,
        (),
        _not_in_the_past,
        (b"GMT", b"+9999", b"-0000", b",", b":", b"99", b"Jan", b"Tue", b"2023", b"("),
    ),
    Target(
        "content-range",
        lambda: [b"bytes 100-999/1000", b"bytes 100-999/*", b"bytes 100-999/1000\x00900"],
        _range,
        (),
        _only_that_range,
        (b"bytes ", b"-", b"/", b"*", b"0", b"\xb2"),
    ),
    Target(
        "link",
        lambda: [b'</v2/a/tags/list?n=2&last=b>; rel="next"', b"<a>; rel=prev, <b> ;rel=next"],
        _next_page,
        (),
        words=(b"<", b">", b";", b"rel=", b'"', b"next", b"<" * 65536, b"<>" * 32768, b" " * 65536),
    ),
    Target("token", lambda: _TOKENS, _token, (NetworkError,), _token_is_a_header, mutate=_numbers),
    Target(
        "error-body",
        lambda: [b'{"errors": [{"code": "DENIED", "message": "no", "detail": {}}]}'],
        _described,
        (),
        _one_line,
        mutate=json_mutated,
    ),
    Target(
        "tags",
        lambda: [b'{"name": "a", "tags": ["x", "y"]}', b'{"tags": null}'],
        _tags,
        (NetworkError,),
        _tags_are_those_of_the_list,
        mutate=json_mutated,
    ),
    Target(
        "authfile",
        lambda: _AUTHFILES,
        lambda data: _authfile(data),
        (UsageError,),
        _credentials_can_be_sent,
        mutate=json_mutated,
    ),
    Target(
        "registries-conf",
        lambda: [
            b'unqualified-search-registries = ["docker.io"]\n'
            b'[aliases]\n"fedora/httpd" = "quay.io/x"\n',
            b'unqualified-search-registries = ["a.io", "b.io"]\nshort-name-mode = "enforcing"\n',
            b'unqualified-search-registries = ["a.io"]\n[[registry]]\nprefix = "quay.io/a"\n'
            b'location = "h:5000"\ninsecure = true\n[[registry.mirror]]\nlocation = "m"\n'
            b'pull-from-mirror = "tag-only"\n[[registry]]\nprefix = "*.io"\nblocked = true\n',
        ],
        _registries_conf,
        (UsageError,),
        _reference_or_refused,
        (
            b"[",
            b"]",
            b"{",
            b'"',
            b"=",
            b"aliases",
            b"\\ud800",
            b"\n",
            b"'''",
            b"[" * 2000,
            b"a." * 2000,
        ),
    ),
]
