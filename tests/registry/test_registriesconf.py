"""registries.conf: what a text says, and which table a name has."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.registry.registriesconf import (
    Location,
    PullFrom,
    RegistriesConf,
    Registry,
    parse,
)


def conf(text: str) -> RegistriesConf:
    return parse(text, "x.conf")


def only(text: str) -> Registry:
    (found,) = conf(text).registries.values()
    return found


# -- what it says ------------------------------------------------------------------------------


def test_everything_at_once() -> None:
    found = conf(
        """
        unqualified-search-registries = ["quay.io", "localhost:5000"]
        short-name-mode = "permissive"
        credential-helpers = ["containers-auth.json", "pass"]
        additional-layer-store-auth-helper = "ignored"
        [[registry]]
        prefix = "example.com/foo/"
        location = "Internal.example/bar"
        insecure = true
        comment = "unknown keys are passed over"
        [[registry.mirror]]
        location = "m1.example:5000/"
        [[registry.mirror]]
        location = "m2.example/x"
        insecure = true
        pull-from-mirror = "tag-only"
        [[registry]]
        location = "blocked.example"
        blocked = true
        [aliases]
        web = "reg.example/web"
        gone = ""
        """
    )
    assert found == RegistriesConf(
        {
            "example.com/foo": Registry(
                "example.com/foo",
                Location("internal.example/bar", insecure=True),
                (
                    Location("m1.example:5000"),
                    Location("m2.example/x", True, PullFrom.TAG_ONLY),
                ),
                path="x.conf",
            ),
            "blocked.example": Registry(
                "blocked.example", Location("blocked.example"), blocked=True, path="x.conf"
            ),
        },
        ("quay.io", "localhost:5000"),
        {"web": "reg.example/web", "gone": ""},
        "permissive",
        ("containers-auth.json", "pass"),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "registry = []", "[aliases]", "[registries]"])
def test_nothing_is_said(text: str) -> None:
    assert conf(text) == RegistriesConf()


@pytest.mark.parametrize(
    "text",
    [
        '[[registry]]\nlocation="a.io"\nBlocked=true',
        '[[Registry]]\nLocation="a.io"\nBLOCKED=true',
        '[[registry]]\nPrefix="A.io"\nlocation="A.io"\nblocked=true',
    ],
)
def test_case_does_not_open_a_door(text: str) -> None:
    assert only(text).prefix == "a.io" and only(text).blocked


def test_the_first_of_two_tables_with_one_prefix_counts() -> None:
    found = only(
        '[[registry]]\nprefix="a.io"\nlocation="b.io"\n[[registry]]\nprefix="a.io"\nlocation="c.io"'
    )
    assert found.primary.location == "b.io"


@pytest.mark.parametrize(
    ("table", "mirror", "pull_from"),
    [
        ("", "", PullFrom.ALL),
        ("", 'pull-from-mirror=""', PullFrom.ALL),
        ("", 'pull-from-mirror="all"', PullFrom.ALL),
        ("", 'pull-from-mirror="digest-only"', PullFrom.DIGEST_ONLY),
        ("", 'pull-from-mirror="tag-only"', PullFrom.TAG_ONLY),
        ("mirror-by-digest-only=true", "", PullFrom.DIGEST_ONLY),
        ("mirror-by-digest-only=false", 'pull-from-mirror="tag-only"', PullFrom.TAG_ONLY),
    ],
)
def test_pull_from_mirror(table: str, mirror: str, pull_from: PullFrom) -> None:
    found = only(
        f'[[registry]]\nlocation="a.io"\n{table}\n[[registry.mirror]]\nlocation="m.io"\n{mirror}'
    )
    assert found.mirrors == (Location("m.io", pull_from=pull_from),)


# -- what it must not say ----------------------------------------------------------------------

MALFORMED = {
    "no TOML": ("x = ", "x.conf"),
    "not even text": ("\0", "x.conf"),
    "too deep": ("x = " + "[" * 5000, "x.conf"),
    "search is a text": ('unqualified-search-registries="a.io"', "unqualified-search-registries"),
    "search holds a number": ("unqualified-search-registries=[3]", "unqualified-search-registries"),
    "search has a path": ('unqualified-search-registries=["a.io/b"]', "'a.io/b'"),
    "search is a URL": ('unqualified-search-registries=["https://a.io"]', "https"),
    "search is empty text": ('unqualified-search-registries=[""]', "unqualified-search-registries"),
    "mode": ('short-name-mode="ask"', "short-name-mode"),
    "helpers": ("credential-helpers=[1]", "credential-helpers"),
    "one table": ('[registry]\nlocation="a.io"', "registry"),
    "a list of texts": ('registry=["a.io"]', "registry"),
    "no place": ("[[registry]]\nblocked=true", r"registry\[1\].location"),
    "prefix without location": ('[[registry]]\nprefix="a.io"', r"registry\[1\].location"),
    "location is a number": ("[[registry]]\nlocation=5", r"registry\[1\].location: 5"),
    "location is a URL": ('[[registry]]\nlocation="https://a.io"', "without a scheme"),
    "prefix is a URL": ('[[registry]]\nlocation="a.io"\nprefix="http://b"', r"\[1\].prefix"),
    "blocked is a text": ('[[registry]]\nlocation="a.io"\nblocked="yes"', r"\[1\].blocked"),
    "insecure is a number": ('[[registry]]\nlocation="a.io"\ninsecure=1', r"\[1\].insecure"),
    "wildcard with a path": ('[[registry]]\nprefix="*.a.io/b"\nlocation="c.io"', r"\*\.HOST"),
    "wildcard with a port": ('[[registry]]\nprefix="*.a.io:5"\nlocation="c.io"', r"\*\.HOST"),
    "mirror without location": (
        '[[registry]]\nlocation="a.io"\n[[registry.mirror]]\ninsecure=true',
        r"registry\[1\].mirror\[1\].location",
    ),
    "mirror of a table": ('[[registry]]\nlocation="a.io"\nmirror={location="b"}', "mirror"),
    "pull-from-mirror of the registry": (
        '[[registry]]\nlocation="a.io"\npull-from-mirror="all"',
        "belongs to a mirror",
    ),
    "pull-from-mirror twice": (
        '[[registry]]\nlocation="a.io"\nmirror-by-digest-only=true\n'
        '[[registry.mirror]]\nlocation="m.io"\npull-from-mirror="all"',
        "mirror-by-digest-only",
    ),
    "pull-from-mirror": (
        '[[registry]]\nlocation="a.io"\n'
        '[[registry.mirror]]\nlocation="m.io"\npull-from-mirror="never"',
        "'never'",
    ),
    "blocked in one place": (
        '[[registry]]\nlocation="a.io"\nblocked=true\n'
        '[[registry]]\nprefix="b.io"\nlocation="a.io"\n',
        "blocked",
    ),
    "insecure in one place": (
        '[[registry]]\nlocation="a.io"\n'
        '[[registry]]\nprefix="b.io"\nlocation="a.io"\ninsecure=true',
        "insecure",
    ),
    "aliases": ("aliases=1", "aliases"),
    "alias of a number": ("[aliases]\na=1", "aliases.a"),
    "alias of a registry": ('[aliases]\n"a.io/b"="c.io/d"', "a.io/b"),
    "alias of a tag": ('[aliases]\n"a:1"="c.io/d"', "a:1"),
    "alias in upper case": ('[aliases]\nA="c.io/d"', "'A'"),
    "alias to a short name": ('[aliases]\na="d"', "'d'"),
    "alias to a tag": ('[aliases]\na="c.io/d:1"', "c.io/d:1"),
    "alias to a digest": (f'[aliases]\na="c.io/d@sha256:{"a" * 64}"', "c.io/d@"),
    "version 1, search": ('[registries.search]\nregistries=["a.io"]', "version 1"),
    "version 1, insecure": ("[registries.insecure]\nregistries=[]", "version 1"),
    "version 1, block": ('[registries.block]\nregistries=["a.io"]', "version 1"),
    "version 1 with version 2": (
        '[[registry]]\nlocation="a.io"\n[registries.block]\nregistries=["a.io"]',
        "version 1",
    ),
}


@pytest.mark.parametrize(("text", "named"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        conf(text)
    assert str(caught.value).startswith("x.conf: ") and "\n" not in str(caught.value)


_KEYS = [
    "registry",
    "prefix",
    "location",
    "insecure",
    "blocked",
    "mirror",
    "mirror-by-digest-only",
    "pull-from-mirror",
    "unqualified-search-registries",
    "short-name-mode",
    "credential-helpers",
    "aliases",
    "registries",
    "search",
]
_LEAVES = st.one_of(
    st.booleans(), st.integers(), st.sampled_from(["", "a.io", "*.b.io", "c.io/d", "all"])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES))
def test_any_document_is_understood_or_refused(document: dict[str, object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", lambda text: document)
        try:
            found = conf("")
        except UsageError as error:
            assert str(error).startswith("x.conf: ")
        else:
            for name in ("a.io/x:1", "x.b.io/y:1", "c.io/d/e:1"):
                table = found.find(name)
                assert table is None or table.rest(name) is not None


# -- which table a name has --------------------------------------------------------------------

DIGEST = f"sha256:{'a' * 64}"
MATCHES = [
    ("a.io", "a.io/x:1", "/x:1"),
    ("a.io", "a.io:5000/x:1", ":5000/x:1"),  # as containers/image has it
    ("a.io", "a.iox/x:1", None),
    ("a.io", "x.a.io/x:1", None),
    ("a.io", "b.io/a.io/x:1", None),
    ("a.io:5000", "a.io:5000/x:1", "/x:1"),
    ("a.io:5000", "a.io:50001/x:1", None),
    ("a.io:5000", "a.io/x:1", None),
    ("a.io/n", "a.io/n/x:1", "/x:1"),
    ("a.io/n", "a.io/nn/x:1", None),
    ("a.io/n/x", "a.io/n/x:1", ":1"),
    ("a.io/n/x", f"a.io/n/x@{DIGEST}", f"@{DIGEST}"),
    ("a.io/n/x", "a.io/n/x-y:1", None),
    ("a.io/n/x:1", "a.io/n/x:1", ""),
    ("a.io/n/x:1", "a.io/n/x:12", None),
    (f"a.io/x@{DIGEST}", f"a.io/x@{DIGEST}", ""),
    (f"a.io/x@{DIGEST}", "a.io/x:1", None),
    ("*.a.io", "b.a.io/x:1", "/x:1"),
    ("*.a.io", "c.b.a.io/x:1", "/x:1"),
    ("*.a.io", "b.a.io:5000/x:1", ":5000/x:1"),
    ("*.a.io", "a.io/x:1", None),
    ("*.a.io", "ba.io/x:1", None),
    ("*.a.io", "b.a.io.evil/x:1", None),
    ("*.a.io", "evil.io/b.a.io/x:1", None),
    ("*.a.io", "[::1]:5000/x:1", None),
]


@pytest.mark.parametrize(("prefix", "name", "rest"), MATCHES)
def test_a_prefix_ends_where_a_part_ends(prefix: str, name: str, rest: str | None) -> None:
    assert Registry(prefix, Location("")).rest(name) == rest


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("a.io/n/x:1", "a.io/n/x:1"),
        ("a.io/n/x:2", "a.io/n/x"),
        ("a.io/n/y:1", "a.io/n"),
        ("a.io/m/y:1", "a.io"),
        ("b.a.io/y:1", "*.a.io"),
        ("bb.a.io/y:1", "bb.a.io"),
        ("c.a.io/y:1", "*.a.io"),  # as long as its own: the first in the alphabet
        ("other.io/y:1", None),
    ],
)
def test_the_longest_prefix_counts(name: str, prefix: str | None) -> None:
    prefixes = ["c.a.io", "a.io", "a.io/n/x", "a.io/n", "a.io/n/x:1", "*.a.io", "bb.a.io"]
    tables = "".join(f'[[registry]]\nprefix="{each}"\nlocation="l.io"\n' for each in prefixes)
    found = conf(tables).find(name)
    assert (found and found.prefix) == prefix


# -- one after the other -----------------------------------------------------------------------


def test_a_later_file_replaces_settings_and_whole_tables() -> None:
    first = parse(
        """
        unqualified-search-registries = ["a.io"]
        short-name-mode = "enforcing"
        credential-helpers = ["pass"]
        [[registry]]
        location = "a.io"
        blocked = true
        [[registry]]
        location = "b.io"
        [[registry.mirror]]
        location = "m.io"
        [aliases]
        one = "a.io/one"
        two = "a.io/two"
        """,
        "first",
    )
    later = parse('[[registry]]\nlocation="b.io"\n[aliases]\ntwo = "b.io/two"', "later")
    both = first.merged(later)
    assert (both.search, both.short_name_mode) == (("a.io",), "enforcing")
    assert both.credential_helpers == ("pass",)
    assert both.aliases == {"one": "a.io/one", "two": "b.io/two"}
    assert both.registries["a.io"].blocked
    assert both.registries["b.io"] == Registry("b.io", Location("b.io"), path="later")
    emptied = both.merged(parse("unqualified-search-registries=[]\ncredential-helpers=[]", "e"))
    assert (emptied.search, emptied.credential_helpers) == ((), ())
    assert first.merged(RegistriesConf()) == RegistriesConf().merged(first) == first
