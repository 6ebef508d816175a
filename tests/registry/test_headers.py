"""Headers that registries send: ranges, links, redirects; read strictly and in linear time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import NetworkError
from bridge.registry import blob
from bridge.registry.message import Request, next_page, origin, redirected


def is_range(value: str, start: int, size: int, length: str | None = None) -> bool:
    headers = {"Content-Range": value} | ({} if length is None else {"Content-Length": length})
    return blob.is_range(SimpleNamespace(headers=headers), start, size)  # type: ignore[arg-type]


@given(st.integers(0, 2**62), st.integers(1, 2**62), st.booleans(), st.booleans())
def test_the_range_that_was_asked_for(start: int, more: int, total: bool, length: bool) -> None:
    size = start + more
    value = f"bytes {start}-{size - 1}/{size if total else '*'}"
    assert is_range(value, start, size, str(more) if length else None)
    assert not is_range(value, start, size, str(more + 1))
    assert not is_range(value, start + 1, size)
    assert not is_range(value, start, size + 1)


@given(st.text("bytes 0123456789-/*\u0663", max_size=24))
def test_no_other_text_is_a_range(value: str) -> None:
    assert is_range(value, 1, 10) == (
        value.isascii()
        and value.strip().startswith("bytes ")
        and [part.lstrip("0") for part in value.strip()[6:].replace("/", "-").split("-")]
        in (["1", "9", "10"], ["1", "9", "*"])
        and value.count("/") == 1
        and value.index("-") < value.index("/")
    )


@pytest.mark.parametrize(
    "value", ["<" * 2_000_000, "<>" * 500_000, "<a>" + " " * 2_000_000, "<a>;" * 500_000]
)
def test_a_link_header_of_any_length_is_searched_in_one_go(value: str) -> None:
    assert next_page(value) is None
    assert next_page(value + '<b>; rel="next"') == "b"


@pytest.mark.parametrize(
    "url",
    [
        "https://h\\:5", "https://h:5000\\x", 'https://"', "http://\0", "http://\x80",
        "https://b\u00fccher.example", "https://h%00", "https://a b", "https://[v1.x]", "https://h;x",
    ],
)  # fmt: skip
def test_a_host_that_readers_might_disagree_on_is_refused(url: str) -> None:
    for refuse in (origin, lambda url: redirected(Request("GET", "https://h:5000/"), url)):
        with pytest.raises(NetworkError) as caught:
            refuse(url)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://H.example", "h.example", 443),
        ("http://my_cache:5000/x", "my_cache", 5000),
        ("https://[::1]:5000", "::1", 5000),
        ("https://[::ffff:127.0.0.1]", "::ffff:127.0.0.1", 443),
        ("https://xn--bcher-kva.example/b\u00fccher", "xn--bcher-kva.example", 443),
        ("https://127.0.0.1./", "127.0.0.1.", 443),
    ],
)
def test_hosts(url: str, host: str, port: int) -> None:
    assert origin(url) == (url.partition(":")[0], host, port)
