"""Which tags and repositories are wanted of those that there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync import select, semver
from bridge.sync.config import patterns
from bridge.sync.model import Names, TagSet
from bridge.sync.select import Choice, digest_tag_of

HEX = "0123456789abcdef" * 4
DIGEST_TAG = f"sha256-{HEX}"
TAGS = ["latest", "1.0", "1.1-rc1", "1.1", "2.0", f"{DIGEST_TAG}.sig", DIGEST_TAG, "10.0", "edge"]
NOW = datetime(2026, 1, 31, tzinfo=UTC)


def tags(
    names: str = "",
    allow: str = "",
    deny: str = "",
    semver_range: str = "",
    newest: int | None = None,
    younger_than: float | None = None,
    digest_tags: bool = False,
) -> TagSet:
    return TagSet(
        Names(
            tuple(names.split()),
            tuple(map(patterns.whole, allow.split())),
            tuple(map(patterns.whole, deny.split())),
        ),
        (semver.parse_range(semver_range),) if semver_range else (),
        newest,
        younger_than,
        digest_tags,
    )


ORDINARY = "latest 1.0 1.1-rc1 1.1 2.0 10.0 edge"


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([tags()], ORDINARY),
        ([tags(digest_tags=True)], " ".join(TAGS)),
        ([], ""),
        ([tags(names="2.0 1.0")], "1.0 2.0"),
        ([tags(names="2.0 gone")], "2.0 gone"),
        ([tags(names=DIGEST_TAG)], DIGEST_TAG),
        ([tags(names="2.0 1.0", deny="1.*")], "2.0"),
        ([tags(names="2.0 1.0", allow="1.*")], "1.0"),
        ([tags(allow=r"[0-9.]+")], "1.0 1.1 2.0 10.0"),
        ([tags(allow="1.0 2.0")], "1.0 2.0"),
        ([tags(deny=".*-rc.*")], "latest 1.0 1.1 2.0 10.0 edge"),
        ([tags(allow="1.*", deny="1.1.*")], "1.0 10.0"),
        ([tags(allow="1", deny="1")], ""),
        ([tags(semver_range=">=1.1")], "1.1 2.0 10.0"),
        ([tags(semver_range=">=1.1-0")], "1.1-rc1 1.1 2.0 10.0"),
        ([tags(newest=2)], "2.0 10.0"),
        ([tags(newest=100)], ORDINARY),
        ([tags(newest=2, deny=r"10\.0")], "1.1 2.0"),
        ([tags(newest=2, semver_range="1")], "1.0 1.1"),
        ([tags(allow="[a-z]+", newest=1)], "latest"),
        ([tags(allow="latest"), tags(semver_range=">=2")], "latest 2.0 10.0"),
        ([tags(allow="2.0"), tags(allow="2.0")], "2.0"),
        ([tags(allow="2.0"), tags(deny=".*")], "2.0"),
        ([tags(younger_than=60)], ORDINARY),
    ],
)
def test_tags_that_are_wanted(sets: list[TagSet], expected: str) -> None:
    assert select.wanted(TAGS, sets) == expected.split()


def test_every_tag_is_wanted_once() -> None:
    assert select.wanted(["a", "b", "a"], [tags(), tags(allow="a")]) == ["a", "b"]


def test_the_age_of_a_tag_is_asked_for_where_no_set_wants_it_anyway() -> None:
    sets = [
        tags(allow="1.*", younger_than=60),
        tags(allow="1.0"),
        tags(allow="1.1", younger_than=90),
    ]
    assert select.choose(TAGS, sets) == [
        Choice("1.0"),
        Choice("1.1-rc1", 60),
        Choice("1.1", 90),
        Choice("10.0", 60),
    ]


def test_images_that_are_young_enough() -> None:
    day = timedelta(days=1)
    choices = [
        Choice("always"),
        Choice("young", 86400),
        Choice("just", 86400),
        Choice("old", 86400),
        Choice("unknown", 86400),
        Choice("missing", 86400),
        Choice("tomorrow", 86400),
        Choice("ages", 1e18),
    ]
    created = [
        ("always", NOW - 1000 * day),
        ("young", NOW - day / 2),
        ("just", NOW - day),
        ("old", NOW - 2 * day),
        ("unknown", None),
        ("tomorrow", NOW + day),
        ("ages", datetime(1970, 1, 1, tzinfo=UTC)),
    ]
    found = select.young(choices, created, NOW)
    assert found == ["always", "young", "unknown", "missing", "tomorrow", "ages"]


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([tags(names="a b"), tags(names="b c")], ("a", "b", "c")),
        ([tags(names="a"), tags(allow="b")], None),
        ([tags()], None),
        ([], ()),
    ],
)
def test_whether_a_list_is_needed(sets: list[TagSet], expected: object) -> None:
    assert select.named(sets) == expected


@pytest.mark.parametrize(
    ("tag", "digest"),
    [
        (DIGEST_TAG, f"sha256:{HEX}"),
        (f"{DIGEST_TAG}.sig", f"sha256:{HEX}"),
        (f"{DIGEST_TAG}.att", f"sha256:{HEX}"),
        (f"{DIGEST_TAG}.sbom", f"sha256:{HEX}"),
        (f"{DIGEST_TAG}-meta", f"sha256:{HEX}"),
        (f"sha512-{HEX}{HEX}", f"sha512:{HEX}{HEX}"),
        ("latest", None),
        ("sha256-", None),
        (f"sha256-{HEX[:-1]}", None),
        (f"sha256-{HEX}0", None),
        (f"sha256-{HEX.upper()}", None),
        (f"sha512-{HEX}", None),
        (f"x{DIGEST_TAG}", None),
        (f"sha256:{HEX}", None),
    ],
)
def test_tags_that_name_a_digest(tag: str, digest: str | None) -> None:
    assert digest_tag_of(tag) == digest


def test_digest_tags_by_their_digest() -> None:
    assert select.digest_tags(TAGS) == {f"sha256:{HEX}": [f"{DIGEST_TAG}.sig", DIGEST_TAG]}


CATALOG = ["os/fedora", "os/debian", "os", "osx/a", "apps/a", "apps/b"]


@pytest.mark.parametrize(
    ("which", "below", "expected"),
    [
        (Names(), "", "os/fedora os/debian os osx/a apps/a apps/b"),
        (Names(), "os", "fedora debian"),
        (Names(), "os/", "fedora debian"),
        (Names(), "nothing", ""),
        (Names(("x", "fedora")), "os", "x fedora"),
        (Names(allow=(patterns.whole("os/.*"),)), "", "os/fedora os/debian"),
        (Names(allow=(patterns.whole("fed.*"),)), "os", "fedora"),
        (Names(deny=(patterns.whole(".*a"),)), "", "os/debian os apps/b"),
        (
            Names(allow=(patterns.whole("os.*"),), deny=(patterns.whole("osx/.*"),)),
            "",
            "os/fedora os/debian os",
        ),
    ],
)
def test_repositories(which: Names, below: str, expected: str) -> None:
    assert select.repositories(CATALOG, which, below) == expected.split()


texts = st.text("ab12.-", min_size=1, max_size=5)
expressions = st.sampled_from(["a.*", ".*b", "[0-9.]+", "1.*", ".*", "x", ".*-.*"])


@st.composite
def tag_sets(draw: st.DrawFn) -> TagSet:
    compiled = st.lists(expressions.map(patterns.whole), max_size=2).map(tuple)
    return TagSet(
        Names((), draw(compiled), draw(compiled)),
        newest=draw(st.none() | st.integers(1, 5)),
    )


@given(st.lists(texts, max_size=12), st.lists(tag_sets(), max_size=3))
def test_what_holds_of_any_choice(listed: list[str], sets: list[TagSet]) -> None:
    found = select.wanted(listed, sets)
    assert len(set(found)) == len(found)
    assert set(found) <= set(listed)
    assert set(found) == {tag for each in sets for tag in select.wanted(listed, [each])}
    for each in sets:
        alone = select.wanted(listed, [each])
        assert not [tag for tag in alone if any(deny(tag) for deny in each.which.deny)]
        if each.newest is not None:
            assert len(alone) <= each.newest
            without = select.wanted(listed, [TagSet(each.which)])
            assert set(alone) <= set(without)
            assert len(alone) == min(each.newest, len(without))
    # The order of a registry's list changes nothing but the order.
    assert set(select.wanted(list(reversed(listed)), sets)) == set(found)
