"""Versions and ranges, in the two dialects."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UsageError
from bridge.sync import regsync_ranges, semver, versions

numbers = st.integers(0, 30)
identifiers = st.one_of(
    st.integers(0, 20).map(str), st.sampled_from(["alpha", "beta", "rc", "rc1", "rc11", "x-y", "-"])
)
pres = st.lists(identifiers, max_size=3).map(".".join)


@st.composite
def version_texts(draw: st.DrawFn) -> str:
    pre = draw(pres)
    build = draw(pres)
    base = ".".join(str(draw(numbers)) for _ in range(3))
    return base + (f"-{pre}" if pre else "") + (f"+{build}" if build else "")


ORDERED = [
    "0.0.0-0",
    "0.0.0",
    "0.0.1",
    "0.1.0",
    "1.0.0-1",
    "1.0.0-2",
    "1.0.0-10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
    "18446744073709551615.0.0",
]


def test_versions_have_the_order_of_the_specification() -> None:
    found = [semver.strict(text) for text in ORDERED]
    assert None not in found
    assert sorted(reversed(found)) == found  # type: ignore[type-var]
    assert [str(each) for each in found] == ORDERED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v1.2.3", semver.Version(1, 2, 3)),
        ("1", semver.Version(1)),
        ("1.2", semver.Version(1, 2)),
        ("01.02.03", semver.Version(1, 2, 3)),
        ("1.2-rc.1+b.5", semver.Version(1, 2, 0, "rc.1", "b.5")),
        ("20240101", semver.Version(20240101)),
        ("3.12-alpine", semver.Version(3, 12, 0, "alpine")),
    ],
)
def test_tags_that_are_versions(text: str, expected: semver.Version) -> None:
    assert semver.loose(text) == expected
    assert str(semver.loose(text)) == str(expected)
    assert semver.strict(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "1.2.3.4",
        "1.",
        ".1",
        "1..2",
        "1.x",
        "V1.0.0",
        "1.2.3-",
        "1.2.3-a..b",
        "1.2.3-01",
        "1.2.3-a_b",
        "1.2.3+",
        "1.2.3 ",
        "1.2.3\n",
        "٣.1.2",
        "18446744073709551616",
        "1" * 300,
        "-1",
        "+1",
    ],
)
def test_tags_that_are_none(text: str) -> None:
    assert semver.loose(text) is None
    assert semver.strict(text) is None
    assert not semver.parse_range("*")(text)


RANGES = [
    # expression, tags in it, tags not in it
    (">= 3.12.0", "3.12.0 3.12 v3.13 4 10.0.0", "3.11.9 3.12.0-rc1 4.0.0-alpha latest"),
    ("3.x", "3 3.0.1 3.99.99", "2.9.9 4.0.0 3.1.0-rc1"),
    ("3", "3.0.0 3.9", "4 2"),
    ("3.1", "3.1.0 3.1.9", "3.2 3.0"),
    ("=3.1.2", "3.1.2 v3.1.2 3.1.2+build", "3.1.3 3.1.2-rc"),
    ("*", "0.0.0 9.9.9", "1.0.0-rc1 latest"),
    ("*-0", "1.0.0-rc1 9.9.9", "latest"),
    ("!=4.1", "4.2.0 5.0.0 3.0.0", "4.1.0 4.1.9 5.0.0-rc1"),
    ("!=4", "5.0.0 3.9.9", "4.0.0 4.9.9"),
    ("!=4.1.2", "4.1.3 4.1", "4.1.2"),
    (">1.1", "1.2.0 2.0.0", "1.1.0 1.1.9 1.0"),
    (">1", "2.0.0", "1.9.9 1.0.0"),
    (">0.0.0-0", "0.0.0-alpha 0.0.1", "0.0.0-0"),
    ("<1.1", "1.0.9 0.9", "1.1.0 1.1.1 1.0.0-rc1"),
    ("<=1.1", "1.1.9 1.0", "1.2.0 2"),
    ("<=1", "1.9.9 0.1", "2.0.0"),
    ("=<2.0.0", "2.0.0 1", "2.0.1"),
    ("=>2.0.0", "2.0.0 3", "1.9.9"),
    ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2 2.2.3"),
    ("~1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
    ("~>1", "1.0.0 1.9.9", "2.0.0 0.9"),
    ("~0.0.0", "0.0.0 1.2.3", "0.0.0-rc"),
    ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.4-beta.2", "1.2.3-beta.1 1.3.4-beta.2"),
    ("^1.2.3", "1.2.3 1.9.9", "2.0.0 1.2.2"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2 1.2.3"),
    ("^0.0.3", "0.0.3", "0.0.4 0.0.2 0.1.3"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0 1.0.4"),
    ("^0", "0.0.0 0.9.9", "1.0.0"),
    ("^1.2.0-alpha.0", "1.2.1-alpha.1 1.2.0", "2.0.0 1.2.0-0"),
    (">1.1, <2", "1.2.0 1.9", "1.1.1 2.0.0"),
    (">1.1 <2", "1.2.0 1.9", "1.1.1 2.0.0"),
    (">=1.1, <2, !=1.2.3 || > 3", "1.2.2 4.0.0", "1.2.3 3.1.2 2.5"),
    ("1.2 - 1.4.5", "1.2.0 1.4.5", "1.4.6 1.1.9"),
    ("2.3.4 - 4.5", "2.3.4 4.5.9", "2.3.3 4.6.0"),
    (" >=  1.2  ", "1.2.0", "1.1"),
    ("1.X || 3.*", "1.5 3.5", "2.5"),
]


@pytest.mark.parametrize(("expression", "inside", "outside"), RANGES, ids=lambda text: text[:30])
def test_ranges_as_skopeo_has_them(expression: str, inside: str, outside: str) -> None:
    found = semver.parse_range(expression)
    assert [tag for tag in inside.split() if not found(tag)] == []
    assert [tag for tag in outside.split() if found(tag)] == []
    assert found.expression == expression


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "foo",
        ">= bar",
        "BAR >= 1.2.3",
        "1.2.3.4",
        "1.0 ||",
        "|| 1.0",
        "1.0 || || 2",
        ">= 1.0,",
        ", 1.0",
        ">= 1.0 ,, < 2",
        "12.3.34~ 1.2.3",
        ">> 1.0",
        ">",
        "1.2.3-beta.01",
        "xx",
        "1.2.xx",
        "1-",
        "99999999999999999999",
        ">=1.0<2.0",
        "1 - ",
        "1.0" * 2000,
    ],
)
def test_what_is_no_range_is_refused(expression: str) -> None:
    with pytest.raises(UsageError):
        semver.parse_range(expression)


@given(version_texts(), version_texts(), version_texts())
def test_the_order_is_one(one: str, two: str, three: str) -> None:
    a, b, c = (semver.loose(text) for text in (one, two, three))
    if a is None or b is None or c is None:
        return
    assert (a < b) + (b < a) + (a == b) == 1
    if a < b and b < c:
        assert a < c
    assert semver.loose(str(a)) == a
    assert semver.parse_range(f">={one}").has(a)
    assert semver.parse_range(f"={one} || >{one} || <{one}").has(a)
    assert not semver.parse_range(f">{one}").has(a)


@given(version_texts(), version_texts())
def test_comparisons_of_ranges_are_the_order(one: str, two: str) -> None:
    a, b = semver.loose(one), semver.loose(two)
    if a is None or b is None:
        return
    # With `-0` in the group, versions before a release count, too.
    assert semver.parse_range(f">={two} >=0.0.0-0").has(a) == (a >= b)
    assert semver.parse_range(f"<{two} >=0.0.0-0").has(a) == (a < b)


REGSYNC = [
    (">=1.0.0 <2.0.0", "1.0.0 1.9.9 v1.5 2.0.0-rc1", "0.9 2.0.0 latest"),
    ("^1.2.3", "1.2.3 1.9 1.2.3.4", "2.0.0 1.2.2"),
    ("^0.2.3", "0.2.5", "0.3.0"),
    ("^0.0.3", "0.0.3", "0.0.4"),
    ("^0.0.0", "0.0.0", "0.0.1"),
    ("~1.2.3", "1.2.9", "1.3.0"),
    ("~1", "1.0.5", "1.1.0"),
    ("1.2.3", "1.2.3 v1.2.3 1.2.3+x", "1.2.4 1.2.3-rc"),
    ("1.2", "1.2.0 1.2", "1.2.1"),
    (">=1.0.0-rc2", "1.0.0-rc11 1.0.0 1.0.0-rc2", "1.0.0-rc1 1.0.0-beta"),
    (">10.0.17763", "10.0.17763.2114", "10.0.17763.0 10.0.17762.9"),
    ("<=2 >1", "2 1.5", "1 2.0.1"),
    (">=v1.0", "1.0", "0.9"),
]


@pytest.mark.parametrize(("expression", "inside", "outside"), REGSYNC, ids=lambda text: text[:30])
def test_ranges_as_regsync_has_them(expression: str, inside: str, outside: str) -> None:
    found = regsync_ranges.parse_range(expression)
    assert [tag for tag in inside.split() if not found(tag)] == []
    assert [tag for tag in outside.split() if found(tag)] == []


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        ">=abc",
        "invalid range",
        ">= 1.0",
        "1.x",
        "*",
        ">=1.0 || <2",
        "!=1.0",
        "^",
        ">=",
        "1..2",
        "1.0,",
    ],
)
def test_what_is_no_range_for_regsync(expression: str) -> None:
    with pytest.raises(UsageError):
        regsync_ranges.parse_range(expression)


@given(version_texts(), version_texts())
def test_regsyncs_order_has_two_sides(one: str, two: str) -> None:
    a, b = regsync_ranges.parse(one), regsync_ranges.parse(two)
    assert a is not None and b is not None
    assert a.compare(b) == -b.compare(a)
    assert a.compare(a) == 0


def test_the_order_of_tags() -> None:
    names = "edge jammy-20231231 jammy-20240101 latest nightly-9 nightly-10"
    some = "0 0.1 1.0-alpha 1.0-rc2 1.0-rc11 1.0 v1.0 1.0.0 1.0.1 1.2 1.10 v2 3.12-alpine 3.12"
    more = "10.0.17763.2114 10.0.17763.2115 41.20250101.0 20240101"
    order = f"{names} {some} {more}".split()
    for step in range(1, len(order)):
        assert versions.key(order[step - 1]) < versions.key(order[step]), order[step]
    assert sorted(reversed(order), key=versions.key) == order
    assert versions.key("1" + "0" * 5000) > versions.key("9" * 5000)
    assert versions.key("a-1" + "0" * 5000) > versions.key("a-" + "9" * 5000)


@given(
    st.lists(version_texts(), max_size=8), st.lists(st.text("abz019.-v", min_size=1, max_size=8))
)
def test_all_tags_can_be_sorted(some: list[str], others: list[str]) -> None:
    tags = list(dict.fromkeys(some + others))
    ordered = sorted(tags, key=versions.key)
    assert ordered == sorted(reversed(tags), key=versions.key)
    assert len({versions.key(tag) for tag in tags}) == len(tags)


@given(st.lists(st.tuples(numbers, numbers, numbers), unique=True, max_size=8))
def test_releases_have_their_semantic_order(triples: list[tuple[int, int, int]]) -> None:
    tags = [".".join(map(str, each)) for each in triples]
    by_version = functools.partial(sorted, key=lambda tag: semver.loose(tag))
    assert sorted(tags, key=versions.key) == by_version(tags)
