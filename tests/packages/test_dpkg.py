"""dpkg's database, as images have it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contents.contents import Contents
from bridge.contents.directory import of_directory
from bridge.errors import MalformedImage
from bridge.packages import debian_changelog, dpkg
from bridge.packages.installed import installed
from bridge.packages.package import Package

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc (2.36-9)
Version: 2.36-9+deb12u4
Conffiles:
 /etc/ld.so.conf 1234
Description: a library
 with a long text
 .
 Package: no field

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: all

Package: bash
Status: install ok unpacked
Architecture: all
Version: 5:1
"""
CHANGELOG = b"""\
bash (5:1) stable; urgency=medium

  * Something -- not an end <a@b>  Thu, 23 Feb 2023 12:22:49 +0000

 -- Some One <some@one.example>  Thu, 23 Feb 2023 12:22:49 +0000

bash (5:0) unstable; urgency=medium

 -- Some One <some@one.example>  not a date at all, is it
 -- Some One <some@one.example>  Fri, 01 Jan 2021 01:00:00 +0100
"""


def root(tmp_path: Path, files: Mapping[str, str | bytes], *links: tuple[str, str]) -> Contents:
    top = tmp_path / "root"
    for name, data in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    for name, target in links:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).symlink_to(target)
    return of_directory(os.open(top, os.O_RDONLY))


def test_packages_with_what_they_own(tmp_path: Path) -> None:
    contents = root(
        tmp_path,
        {
            "usr/lib/sysimage/dpkg/status": STATUS,
            "usr/lib/sysimage/dpkg/info/libc6:amd64.list": "/.\n/lib\n/lib/libc.so.6\n/etc\n",
            "usr/lib/sysimage/dpkg/info/bash.list": "/.\n/bin/sh\n/bin/bash\n/bin/bash\n",
            "usr/lib/sysimage/dpkg/diversions": "/bin/sh\n/bin/sh.distrib\ndash\n",
            "usr/share/doc/bash/changelog.Debian.gz": gzip.compress(CHANGELOG),
            "usr/lib/libc.so.6": b"libc",
            "usr/bin/bash": b"bash",
        },
        ("lib", "usr/lib"),
        ("bin", "/usr/bin"),
        ("var/lib/dpkg", "../../usr/lib/sysimage/dpkg"),
    )
    assert installed(contents) == [
        Package("deb", "bash", "5:1", "all", "bash",
                ("usr/bin/sh.distrib", "usr/bin/bash"), (1677154969, 1609459200)),
        Package("deb", "libc6", "2.36-9+deb12u4", "amd64", "glibc",
                ("lib", "usr/lib/libc.so.6", "etc")),
    ]  # fmt: skip


def test_an_image_without_dpkg_that_has_its_paragraphs(tmp_path: Path) -> None:
    contents = root(
        tmp_path,
        {
            "var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
            "var/lib/dpkg/status.d/tzdata.md5sums": "0123  usr/share/zoneinfo/UTC\n",
        },
    )
    assert installed(contents) == [
        Package("deb", "tzdata", "2024a", "all", "tzdata", ("usr/share/zoneinfo/UTC",))
    ]


def test_no_database_is_no_package(tmp_path: Path) -> None:
    assert installed(root(tmp_path, {"etc/passwd": ""})) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("status", "Package: a\nStatus: install ok installed\n", "without Version"),
        ("status", "Status: install ok installed\nVersion: 1\n", "without Package"),
        ("diversions", "/a\n/b\n", "ends in the middle"),
    ],
)
def test_a_damaged_database_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(MalformedImage, match=message):
        installed(root(tmp_path, {f"var/lib/dpkg/{name}": text}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n \n", []),
        ("A: 1\nb:2\n c\n\nA: 3", [{"a": "1", "b": "2\nc"}, {"a": "3"}]),
        (" folded without a field\nA: 1\n", [{"a": "1"}]),
        ("no field\n folded\nA: 1\n", [{"a": "1"}]),
        (": x\nA: 1: 2\n", [{"a": "1: 2"}]),
    ],
)
def test_paragraphs(text: str, expected: list[dict[str, str]]) -> None:
    assert list(dpkg.paragraphs(text)) == expected


FIELD = st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True)
VALUE = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?", fullmatch=True)


@given(st.lists(st.dictionaries(FIELD, VALUE, min_size=1), max_size=4))
def test_paragraphs_that_were_written_are_read(written: list[dict[str, str]]) -> None:
    text = "\n".join("".join(f"{k}: {v}\n" for k, v in each.items()) for each in written)
    assert list(dpkg.paragraphs(text)) == written


@given(st.text())
def test_no_text_is_too_strange_for_paragraphs(text: str) -> None:
    for each in dpkg.paragraphs(text):
        assert all(each)


@pytest.mark.parametrize(
    "data",
    [b"", b"no gzip", gzip.compress(CHANGELOG, mtime=0)[:40], gzip.compress(b"\xff" * 9, mtime=0)],
)
def test_a_changelog_that_cannot_be_read_has_no_times(tmp_path: Path, data: bytes) -> None:
    contents = root(tmp_path, {"usr/share/doc/x/changelog.gz": data})
    assert debian_changelog.times(contents, "x") == ()


def test_of_a_changelog_only_its_beginning_is_read(tmp_path: Path) -> None:
    many = CHANGELOG * 1000
    contents = root(tmp_path, {"usr/share/doc/x/changelog.gz": gzip.compress(many)})
    found = debian_changelog.times(contents, "x")
    assert found == debian_changelog.parse(many[: 64 * 1024])
    assert 200 < len(found) < 2000
