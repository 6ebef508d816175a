"""Which deployments stay, for tables of cases and for all orders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import Origin
from bridge.sysroot.retention import kept, must_stay
from bridge.sysroot.settings import DeploymentSettings
from bridge.sysroot.trial import Phase, Trial

NOW = 1_800_000_000
DAY = 86400


def deployment(
    letter: str,
    *,
    booted: bool = False,
    pinned: bool = False,
    stateroot: str = "default",
    days: int | None = 0,
) -> Deployment:
    origin = Origin.for_image("ostree-unverified-registry:example.org/os:1")
    if pinned:
        origin = origin.with_pinned(True)
    since = None if days is None else NOW - days * DAY
    return Deployment(stateroot, letter * 64, 0, "", origin=origin, booted=booted, since=since)


A = deployment("a", booted=True, days=9)
B, C, D = deployment("b", days=20), deployment("c", days=40), deployment("d", days=None)
PINNED = deployment("e", pinned=True, days=400)
OTHER = deployment("f", stateroot="other", days=400)


@pytest.mark.parametrize(
    ("settings", "deployments", "stays"),
    [
        (DeploymentSettings(), [A, B], [A]),
        (DeploymentSettings(), [B, A], [A]),
        (DeploymentSettings(3), [A, B, C], [A, B]),
        (DeploymentSettings(3), [B, A, C], [B, A]),
        (DeploymentSettings(9), [A, B, C, D], [A, B, C, D]),
        (DeploymentSettings(9, 30 * DAY), [A, B, C, D], [A, B, D]),
        (DeploymentSettings(9, 1), [A, B, C, D], [A, D]),
        (DeploymentSettings(2, 30 * DAY), [A, B, C, D], [A]),
        (DeploymentSettings(None, 30 * DAY), [A, B, C, D], [A, B, D]),
        (DeploymentSettings(None, 30 * DAY), [C, B, D, A], [B, D, A]),
        (DeploymentSettings(2), [A, PINNED, OTHER, B], [A, PINNED, OTHER]),
        (DeploymentSettings(3), [A, PINNED, OTHER, B, C], [A, PINNED, OTHER, B]),
        (DeploymentSettings(3), [], []),
    ],
)
def test_what_stays(
    settings: DeploymentSettings, deployments: list[Deployment], stays: list[Deployment]
) -> None:
    assert kept(deployments, "default", A, settings, NOW) == stays


def known(each: Deployment, state: Trial) -> Deployment:
    assert each.origin is not None
    return replace(each, origin=state.written_to(each.origin))


ON_TRIAL = known(A, Trial(Phase.TRIAL, 1))
GOOD = known(C, Trial(Phase.GOOD))
BAD = known(D, Trial(Phase.FAILED))


@pytest.mark.parametrize(
    ("deployments", "stays"),
    [
        ([ON_TRIAL, B, GOOD], [ON_TRIAL, GOOD]),
        ([GOOD, ON_TRIAL, B], [GOOD, ON_TRIAL]),
        ([ON_TRIAL, BAD, B], [ON_TRIAL, B]),
        ([ON_TRIAL, BAD], [ON_TRIAL]),
        ([A, B, GOOD], [A]),
        ([known(A, Trial(Phase.GOOD)), B, GOOD], [known(A, Trial(Phase.GOOD))]),
        (
            [ON_TRIAL, replace(GOOD, stateroot="other")],
            [ON_TRIAL, replace(GOOD, stateroot="other")],
        ),
    ],
)
def test_what_would_be_rolled_back_to_stays(
    deployments: list[Deployment], stays: list[Deployment]
) -> None:
    assert kept(deployments, "default", A, DeploymentSettings(), NOW) == stays


def test_what_is_kept_for_the_settings_alone_is_not_pinned() -> None:
    origin = Origin.for_image("ostree-unverified-registry:example.org/os:1").with_kept(True)
    each = Deployment("default", "9" * 64, 0, "", origin=origin)
    assert origin.pinned and "pinned=true" in origin.text, "libostree keeps it"
    assert not each.pinned
    assert kept([A, each], "default", A, DeploymentSettings(), NOW) == [A]
    assert not origin.with_kept(False).pinned
    assert Deployment("default", "a" * 64, 0, "", origin=origin.with_pinned(True)).pinned


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["default", "other"]), st.integers(0, 100)),
        max_size=8,
    ),
    st.integers(-1, 7),
    st.integers(-1, 7),
    st.none() | st.integers(2, 6),
    st.none() | st.integers(0, 100 * DAY),
)
def test_in_any_order(
    made: list[tuple[bool, str, int]], booted: int, merged: int, keep: int | None, age: int | None
) -> None:
    deployments = [
        deployment(
            "0123456789abcdef"[place],
            booted=place == booted,
            pinned=pinned,
            stateroot=stateroot,
            days=days,
        )
        for place, (pinned, stateroot, days) in enumerate(made)
    ]
    merge_from = deployments[merged] if 0 <= merged < len(deployments) else None
    settings = DeploymentSettings(keep, age)
    stays = kept(deployments, "default", merge_from, settings, NOW)
    assert stays == [each for each in deployments if each in stays], "in their order"
    for each in deployments:
        if must_stay(each, "default", merge_from):
            assert each in stays
    counted = [each for each in stays if each.stateroot == "default" and not each.pinned]
    needed = [each for each in counted if must_stay(each, "default", merge_from)]
    number = 2 if age is None and keep is None else keep
    if number is not None:
        assert 1 + len(counted) <= max(number, 1 + len(needed))
    if age is None and number is not None and len(stays) < len(deployments):
        assert 1 + len(counted) >= number, "no more goes than has to"
    if age is not None:
        for each in counted:
            assert each in needed or (each.since is not None and NOW - each.since <= age)
    if keep is None and age is not None:
        assert all(each in stays for each in deployments if NOW - (each.since or 0) <= age)
