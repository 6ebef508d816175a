from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.registry.challenge import Challenge, parse_challenges

C = Challenge


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        (" , ,", []),
        ("Basic", [C("basic")]),
        ('Basic realm="x"', [C("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
            'scope="repository:library/alpine:pull,push"',
            [
                C(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/alpine:pull,push",
                    },
                )
            ],
        ),
        (
            "Bearer realm=https://h/t, service=r",
            [C("bearer", {"realm": "https://h/t", "service": "r"})],
        ),
        (
            'BASIC Realm="a b", bearer REALM = "c" , error="x"',
            [C("basic", {"realm": "a b"}), C("bearer", {"realm": "c", "error": "x"})],
        ),
        ('Basic, Bearer realm="c"', [C("basic"), C("bearer", {"realm": "c"})]),
        ('Negotiate a87421==, Basic realm="x"', [C("negotiate"), C("basic", {"realm": "x"})]),
        ("Negotiate abc", [C("negotiate")]),
        (r'Basic realm="a\"b\\c, d=\"e"', [C("basic", {"realm": 'a"b\\c, d="e'})]),
        ('Basic realm="x", realm="y"', [C("basic", {"realm": "x"})]),
        ('Basic realm="x", realm="open', [C("basic", {"realm": "x"})]),
        ('Basic realm=""', [C("basic", {"realm": ""})]),
        ('"nonsense" Basic', []),
        ("realm=x", []),
    ],
)
def test_challenges(value: str, expected: list[Challenge]) -> None:
    assert parse_challenges(value) == expected


names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
challenges = st.lists(
    st.builds(Challenge, names, st.dictionaries(names, texts, min_size=1, max_size=4)), max_size=4
)


@given(challenges, st.sampled_from([",", ", ", " ,\t"]))
def test_what_is_written_is_read(wanted: list[Challenge], comma: str) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = comma.join(
        f"{c.scheme} " + comma.join(f"{k}={quoted(v)}" for k, v in c.parameters.items())
        for c in wanted
    )
    assert parse_challenges(written) == wanted


@given(st.text(max_size=200) | st.text('Bb"=, \\\t', max_size=60))
def test_any_text_is_survived(value: str) -> None:
    for challenge in parse_challenges(value):
        assert challenge.scheme == challenge.scheme.lower() != ""
