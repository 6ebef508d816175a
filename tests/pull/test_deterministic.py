"""One content has one checksum: however it was archived, packed, and wherever it is kept."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from support.crafted.blocks import archive, base256, header, pax
from support.images import directory, file, hardlink, image, symlink, whiteout, write_layout

from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.pull.pull import pull

ME = {"uid": os.geteuid(), "gid": os.getegid()}
LOWER = [
    directory("./", **ME),
    directory("usr/", **ME),
    directory("usr/lib/", 0o750, **ME),
    file("usr/lib/a", "a" * 5000, 0o4755, **ME),
    file(f"usr/lib/{'n' * 120}/long", "long", **ME),
    symlink("lib", "usr/lib", **ME),
    symlink("far", "t" * 90, **ME),
    file("etc/gone", "x", **ME),
    file("etc/kept", "ü", 0o600, **ME),
]
UPPER = [file("lib/b", "b", **ME), whiteout("etc/gone"), hardlink("usr/lib/c", "usr/lib/a")]
FORMS = ("ustar", "gnu", "pax")
MODES = ("bare", "bare-user", "archive")
PACKINGS = ("gzip", "zstd", "none")


def checksum(path: Path, mode: str, *layers: bytes, compression: str = "none") -> str:
    made = image(*layers, compression=compression)
    path.mkdir(exist_ok=True)
    with Repository.create(path / "repo", mode) as repo:
        reference = parse_reference(f"oci:{write_layout(path / 'layout', made)}")
        return pull(repo, reference).content_checksum


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("expected")
    return checksum(path, "bare-user", archive(LOWER), archive(UPPER))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_dialect_mode_and_packing_change_nothing(
    tmp_path: Path, expected: str, form: str, mode: str, packing: str
) -> None:
    layers = archive(LOWER, form), archive(UPPER, form)
    assert checksum(tmp_path, mode, *layers, compression=packing) == expected


_XATTRS = [(b"SCHILY.xattr.user." + name, b"value of " + name) for name in (b"a", b"B", b"z", b"M")]
SAME_FILE: dict[str, bytes] = {
    f"xattrs in the order {''.join(key[-1:].decode() for key, _ in order)}": pax(*order)
    + header(b"f", size=0)
    for order in itertools.islice(itertools.permutations(_XATTRS), 0, 24, 5)
} | {
    "another time": pax(*_XATTRS, (b"mtime", b"1234567890.5")) + header(b"f"),
    "a time in the header": pax(*_XATTRS) + header(b"f", mtime=b"14000000000\0"),
    "names of owners": pax(*_XATTRS, (b"uname", b"daemon"), (b"gname", b"adm")) + header(b"f"),
    "numbers in base 256": pax(*_XATTRS) + header(b"f", uid=base256(0, 8), size=base256(0, 12)),
    "records that mean nothing": pax((b"comment", b"x"), *_XATTRS, (b"a.b", b"c")) + header(b"f"),
    "a path in pax": pax(*_XATTRS, (b"path", b"./f")) + header(b"elsewhere"),
    "an entry before it": header(b"f", mode=b"0004777\0") + pax(*_XATTRS) + header(b"f"),
}


def test_what_means_the_same_is_the_same(tmp_path: Path) -> None:
    found = {
        name: checksum(tmp_path / str(number), "bare-user", archive([blocks]))
        for number, (name, blocks) in enumerate(SAME_FILE.items())
    }
    assert len(set(found.values())) == 1, found


def test_what_differs_differs(tmp_path: Path) -> None:
    """So that the tests above can fail: each byte that means something makes another checksum."""
    others = [
        archive([file("f", "x")]),
        archive([file("f", "y")]),
        archive([file("f", "x", 0o600)]),
        archive([file("f", "x", uid=1)]),
        archive([file("g", "x")]),
        archive([file("f", "x", xattrs={"user.a": "1"})]),
        archive([file("f", "x", xattrs={"user.a": "2"})]),
        archive([symlink("f", "x")]),
        archive([directory("f")]),
        archive([directory("./", 0o700), file("f", "x")]),
    ]
    found = [
        checksum(tmp_path / str(number), "archive", each) for number, each in enumerate(others)
    ]
    assert len(set(found)) == len(others)
