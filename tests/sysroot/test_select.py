"""Naming deployments."""

from __future__ import annotations

import pytest

from bridge.errors import NotFound, UsageError
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.image_metadata import ImageMetadata
from bridge.sysroot.origin import Origin
from bridge.sysroot.pin import pin
from bridge.sysroot.select import select
from bridge.sysroot.sysroot import State, Sysroot

from .conftest import Fake

A, B = "a" * 64, "ab" + "c" * 62
DIGESTS = {A: "sha256:" + "1" * 64, B: "sha256:12" + "3" * 62}
STATE = State(
    0,
    0,
    (
        Deployment("default", A, 1, "", index=0),
        Deployment("default", A, 0, "", index=1),
        Deployment(
            "default", B, 0, "", index=2, origin=Origin("").with_pinned(True).with_name("before")
        ),
    ),
)


def lookup(checksum: str) -> ImageMetadata | None:
    return ImageMetadata(DIGESTS[checksum], "amd64")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("0", 0),
        ("2", 2),
        ("before", 2),
        (A, 0),
        (f"{A}.0", 1),
        (B[:8], 2),
        (DIGESTS[B], 2),
        ("1233", 2),
        ("sha256:1111", 0),
    ],
)
def test_one_is_found(text: str, index: int) -> None:
    assert select(STATE, text, lookup).index == index


@pytest.mark.parametrize("text", ["3", "after", "ffff", "sha256:4444", "", f"{A}.7", "../x"])
def test_none_is_found(text: str) -> None:
    with pytest.raises(NotFound):
        select(STATE, text, lookup)


def test_too_little_is_said() -> None:
    both = State(0, 0, (STATE.deployments[0], STATE.deployments[2]))
    same = {A: "sha256:" + "1" * 64, B: "sha256:1111" + "3" * 60}
    with pytest.raises(UsageError, match="several"):
        select(both, "1111", lambda each: ImageMetadata(same[each], "amd64"))


@pytest.mark.parametrize("name", ["", "a" * 64, "abc", "1x", "a b", "x\n", "-x", "é"])
def test_names_that_could_be_something_else(fake: Fake, sysroot: Sysroot, name: str) -> None:
    fake.entry(A, 1)
    found = sysroot.load().deployments[0]
    with pytest.raises(UsageError):
        pin(sysroot, found, name=name)
    assert not sysroot.load().deployments[0].pinned


def test_a_pin_has_a_name_and_loses_it(fake: Fake, sysroot: Sysroot) -> None:
    fake.entry(A, 1)
    pin(sysroot, sysroot.load().deployments[0], name="known-good")
    found = sysroot.load().deployments[0]
    assert found.pinned and found.origin is not None and found.origin.name == "known-good"
    pin(sysroot, found, False)
    found = sysroot.load().deployments[0]
    assert not found.pinned and found.origin is not None and found.origin.name is None
