"""Rules without a network: ranges and redirects, for any text."""

from __future__ import annotations

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from bridge.errors import NetworkError
from bridge.registry.message import Request, origin, parse_content_range, redirected

numbers = st.integers(0, 10**19 - 1)


@given(numbers, numbers, st.none() | numbers)
def test_content_ranges(first: int, last: int, size: int | None) -> None:
    right = first <= last and (size is None or last < size)
    read = parse_content_range(f"bytes {first}-{last}/{'*' if size is None else size}")
    assert read == ((first, last, size) if right else None)


@given(st.text(max_size=40) | st.from_regex(r"bytes .*[0-9]+.?-.?[0-9]+.?/.*"))
def test_any_content_range_is_survived(value: str) -> None:
    if read := parse_content_range(value):
        first, last, size = read
        assert 0 <= first <= last and (size is None or last < size)


@pytest.mark.parametrize(
    "value",
    ["", "bytes", "bytes 0-1", "bytes 0-1/", "bytes */10", "items 0-1/2", "bytes 0-1/2, 4-5/9",
     "bytes -1-1/2", "bytes +0-1/2", "bytes 0-1/1_0", "bytes 0x0-1/2", "bytes ٠-1/2",
     "bytes 0-1/2\n", "bytes  0-1/2", "Bytes 0-1/2", "bytes 0-2/2", "bytes 1-0/2"],
)  # fmt: skip
def test_what_is_no_content_range(value: str) -> None:
    assert parse_content_range(value) is None


urls = st.text("ahtps:/\\@?#[]%.1 \t\n\x00é﹫:&-_2e", max_size=30)
hosts = st.sampled_from(
    ["r.example", "r.example:443", "R.EXAMPLE", "r.example:444", "r.example.", "x"]
)
built = st.builds(lambda host, tail: f"https://{host}{tail}", hosts, urls)


@given(urls | built | st.text(max_size=20))
@example("https://r.example\\@evil/")
@example("https://r.example\\.evil/")
@example("https://evil#@r.example/")
@example("//r.example@evil/")
@example("https://r.example%2fevil/")
@example("https:/\\evil")
@example("\\\\evil/x")
def test_credentials_go_to_their_origin_only(location: str) -> None:
    """As what really sends the request reads the URL."""
    request = Request("GET", "https://r.example/v2/x", {"Authorization": "s", "Range": "r"})
    try:
        to = redirected(request, location)
    except NetworkError:
        return
    assert to.headers["Range"] == "r"
    scheme, host, port = origin(to.url)
    assert scheme == "https"
    kept = "Authorization" in to.headers
    assert kept == ((host, port) == ("r.example", 443))
    try:
        sent = parse_url(requests.Request("GET", to.url).prepare().url or "")
    except requests.RequestException:
        return
    if kept:
        assert (sent.scheme, sent.host, sent.port or 443) == ("https", "r.example", 443)
        assert sent.auth is None


def test_a_redirect_names_who_sent_it() -> None:
    with pytest.raises(NetworkError, match=r"r\.example:5000 redirects where nobody may go"):
        redirected(Request("GET", "https://r.example:5000/x"), "gopher://h/")
