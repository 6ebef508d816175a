"""Versions in the order of dpkg and rpm."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.packages.versions import compare

# Each list ascends.
DEB = [
    ["0~~", "0~", "0", "0a", "1"],
    ["1.0~rc1-1", "1.0-1~bpo1", "1.0-1", "1.0-1+b1", "1.0-1+deb12u1", "1.0-2", "1.0.1-1"],
    ["1.2.3", "1.2.10", "1.10", "1:0.1", "2:0"],
    ["6.1.0-56", "6.1.0-57", "6.12.0"],
    ["1.0", "1.0+b", "1.0.a"],
    ["a", "b", "+", "."],
    ["3.0.20-1~deb12u2", "3.0.22-1~deb12u2"],
]
RPM = [
    ["1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0.1-1"],
    ["1.0a-1", "1.0.1-1", "1.0.10-1", "1.1-1", "1:0-1"],
    ["2.0-1.fc41", "2.0-1.fc42", "2.0-2.fc41"],
    ["1.a", "1.1"],
    ["20230311", "20230312"],
]
EQUAL = [
    ("deb", "1.0", "1.00"),
    ("deb", "1.0", "1.0-0"),
    ("deb", "0:1.0-1", "1.0-1"),
    ("deb", "", ""),
    ("rpm", "1.0-1", "1_0-1"),
    ("rpm", "0:1-1", "1-1"),
    ("rpm", "1.05", "1.5"),
]


@pytest.mark.parametrize(
    ("kind", "versions"), [*(("deb", each) for each in DEB), *(("rpm", each) for each in RPM)]
)
def test_versions_ascend(kind: str, versions: list[str]) -> None:
    for (at, one), (after, other) in itertools.product(enumerate(versions), repeat=2):
        assert compare(kind, one, other) == (at > after) - (at < after), (one, other)


@pytest.mark.parametrize(("kind", "one", "other"), EQUAL)
def test_versions_that_are_as_good_as_equal(kind: str, one: str, other: str) -> None:
    assert compare(kind, one, other) == compare(kind, other, one) == 0


@given(st.sampled_from(["deb", "rpm"]), st.text(), st.text())
def test_any_text_has_an_order(kind: str, one: str, other: str) -> None:
    assert compare(kind, one, other) == -compare(kind, other, one)
    assert compare(kind, one, one) == 0


def test_dpkg_has_the_same_order() -> None:
    dpkg = shutil.which("dpkg")
    assert dpkg is not None, "these tests are run on Debian"
    versions = sorted({each for versions in DEB for each in versions if each[0].isdigit()})
    for one, other in itertools.combinations(versions, 2):
        word = ("eq", "gt", "lt")[compare("deb", one, other)]
        subprocess.run([dpkg, "--compare-versions", one, word, other], check=True)
