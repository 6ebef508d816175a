"""Boot links and the names of deployment directories."""

from __future__ import annotations

import pytest

from bridge.errors import BridgeError
from bridge.sysroot import bls
from bridge.sysroot.deployment import BootLink, Deployment, parse_name

CHECKSUM = "ab" * 32


def test_boot_link_round_trip() -> None:
    text = "/ostree/boot.1/default/" + "cd" * 32 + "/10"
    link = BootLink.parse(text)
    assert link == BootLink(1, "default", "cd" * 32, 10)
    assert str(link) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ostree/boot.2/default/abc/0",
        "/ostree/boot.1/../abc/0",
        "/ostree/boot.1/default/../0",
        "/ostree/boot.1/default/abc/x",
        "ostree/boot.1/default/abc/0",
        "/ostree/boot.1/default/abc/0/more",
        "/ostree/boot.1/default\0/abc/0",
        "/ostree/boot.1/default/abc/" + "9" * 5000,
    ],
)
def test_what_is_no_boot_link(text: str) -> None:
    with pytest.raises(BridgeError, match="no boot link"):
        BootLink.parse(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{CHECKSUM}.0", (CHECKSUM, 0)),
        (f"{CHECKSUM}.12", (CHECKSUM, 12)),
        (f"{CHECKSUM}.0.origin", None),
        (f"{CHECKSUM[:-1]}.0", None),
        (CHECKSUM, None),
        (f"{CHECKSUM}.{'9' * 5000}", None),
    ],
)
def test_names(name: str, expected: tuple[str, int] | None) -> None:
    assert parse_name(name) == expected


def test_arguments_are_those_of_the_entry_without_ostree() -> None:
    entry = bls.parse("options rw ostree=/ostree/boot.1/default/abc/0 quiet\n")
    assert Deployment("default", CHECKSUM, 0, "abc", entry).kargs == ("rw", "quiet")
    assert Deployment("default", CHECKSUM, 0, "abc").kargs == ()
