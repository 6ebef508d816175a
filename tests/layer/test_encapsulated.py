"""The parser of encapsulated layers: what is an object, and everything that is none."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.encapsulated import Dir, File, content, encapsulated, name, xattrs_of
from support.images import Member, directory, file, hardlink, symlink, tar

from bridge import limits
from bridge.errors import BridgeError, MalformedImage, VerificationFailed
from bridge.layer.encapsulated import Kind, ObjectFinder, object_path, parse_path
from bridge.layer.tar import TarReader

A = File(b"alpha", xattrs=((b"user.k", b"v"),))
B = File(b"beta")
L = File(target="../x//y")
C = A.checksum
SHARED = xattrs_of(A)
SHARED_NAME = hashlib.sha256(SHARED).hexdigest()


def found(members: Sequence[Member]) -> list[tuple[Kind, str, bytes]]:
    reader = TarReader([tar(members)])
    finder = ObjectFinder(reader)
    result = [tuple(each) for entry in reader if (each := finder.find(entry)) is not None]
    finder.finish()
    return result  # type: ignore[return-value]


def test_objects_are_found_in_their_order_with_their_xattrs() -> None:
    made = encapsulated(Dir({"a": A, "b": Dir({"c": L, "d": B})}))
    kinds = [each[0] for each in found(made.whole())]
    assert kinds[:2] == [Kind.COMMIT, Kind.DIRTREE]
    assert kinds.count(Kind.FILE) == 3
    assert dict((each[1], each[2]) for each in found(made.whole()) if each[0] is Kind.FILE) == {
        A.checksum: SHARED,
        B.checksum: b"",
        L.checksum: b"",
    }


PATHS = {
    object_path(C, "file"): (C, "file"),
    f"./{object_path(C, 'file')}": (C, "file"),
    f"/sysroot//ostree/./repo/objects/{C[:2]}/{C[2:]}.dirtree": (C, "dirtree"),
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:]}.file.xattrs": (C, "file.xattrs"),
    f"sysroot/ostree/repo/xattrs/{C}": (C, "file-xattrs"),
    "sysroot/ostree/repo/config": None,
    "sysroot/ostree/repo/refs/heads/x": None,
    "sysroot/ostree/repo/objects": None,
    "sysroot/ostree/repo/state/x/y": None,
    "usr/bin/x": None,
    f"ostree/repo/objects/{C[:2]}/{C[2:]}.file": None,
    f"x/{object_path(C, 'file')}": None,
    "": None,
}


@pytest.mark.parametrize(("path", "expected"), PATHS.items())
def test_paths(path: str, expected: tuple[str, str] | None) -> None:
    assert parse_path(path) == expected


WRONG_PATHS = [
    "../" + object_path(C, "file"),
    f"sysroot/ostree/repo/objects/../{C[:2]}/{C[2:]}.file",
    "usr/../../etc/passwd",
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:-1]}.file",
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:]}0.file",
    f"sysroot/ostree/repo/objects/{C[:3]}/{C[3:]}.file",
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:].upper()}.file",
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:]}",
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:]}.",
    f"sysroot/ostree/repo/objects/{C[:2]}/{C[2:]}.file/x",
    f"sysroot/ostree/repo/objects/{C[:2]}/x/{C[2:]}.file",
    "sysroot/ostree/repo/objects/x.file",
    f"sysroot/ostree/repo/objects/{C}.file",
    f"sysroot/ostree/repo/xattrs/{C[:-1]}",
    f"sysroot/ostree/repo/xattrs/x/{C}",
]


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(MalformedImage, match=r"'\.\.'|name of an object"):
        parse_path(path)


def shared(*links: Member) -> list[Member]:
    return [file(name(SHARED_NAME, "file-xattrs"), SHARED), *links]


OBJECT = content(A)[1]
XATTRS = {
    "in their own entry": content(A),
    "a link to some that came before": shared(
        hardlink(name(C, "file-xattrs-link"), name(SHARED_NAME, "file-xattrs")), OBJECT
    ),
    "a relative link": shared(
        hardlink(
            name(C, "file-xattrs-link"), f"../{SHARED_NAME[:2]}/{SHARED_NAME[2:]}.file-xattrs"
        ),
        OBJECT,
    ),
    "of the first version": [
        file(f"./sysroot/ostree/repo/xattrs/{SHARED_NAME}", SHARED),
        hardlink(name(C, "file.xattrs"), f"../../xattrs/{SHARED_NAME}"),
        OBJECT,
    ],
    "the same ones twice": [*shared(), *shared(), *content(A)],
}


@pytest.mark.parametrize("members", XATTRS.values(), ids=XATTRS)
def test_xattrs(members: list[Member]) -> None:
    assert found(members) == [(Kind.FILE, C, SHARED)]


LINK = content(A)[0]
MALFORMED: dict[str, tuple[list[Member], str]] = {
    "no xattrs": ([OBJECT], "no xattrs before it"),
    "xattrs after the file": ([OBJECT, LINK], "no xattrs before it"),
    "xattrs of another file": ([content(B)[0], OBJECT], "xattrs of .* before"),
    "xattrs before metadata": ([LINK, file(name(C, "dirtree"), b"")], "xattrs of .* before"),
    "xattrs twice": ([LINK, LINK, OBJECT], "does not follow"),
    "xattrs of two files at once": ([LINK, content(B)[0], OBJECT], "does not follow"),
    "xattrs of nothing": ([*content(B), LINK], "does not follow"),
    "a file twice": ([*content(A), *content(A)], "there twice"),
    "metadata twice": ([file(name(C, "dirmeta"), b"")] * 2, "there twice"),
    "a file that is a directory is none": ([LINK, directory(name(C, "file"))], "does not follow"),
    "a file that is a hard link": ([LINK, hardlink(name(C, "file"), "usr/x")], "a hard link"),
    "a file that is a fifo": ([LINK, Member(name(C, "file"), tarfile.FIFOTYPE)], "a fifo"),
    "a file that is a device": (
        [LINK, Member(name(C, "file"), tarfile.CHRTYPE)],
        "a character device",
    ),
    "a commit that is a link": ([symlink(name(C, "commit"), "x")], "a symbolic link"),
    "a dirtree that is a hard link": ([hardlink(name(C, "dirtree"), "x")], "a hard link"),
    "xattrs that are a link": ([symlink(name(C, "file-xattrs-link"), "x")], "a symbolic link"),
    "shared xattrs that are a link": ([hardlink(name(C, "file-xattrs"), "x")], "a hard link"),
    "old xattrs with content": ([file(name(C, "file.xattrs"), SHARED)], "a file"),
    "a link to no xattrs": ([hardlink(name(C, "file-xattrs-link"), "usr/x")], "came before"),
    "a link to xattrs that come later": (
        [hardlink(name(C, "file-xattrs-link"), name(SHARED_NAME, "file-xattrs")), *shared()],
        "came before",
    ),
    "a link to a file's object": (
        [*content(A), hardlink(name(B.checksum, "file-xattrs-link"), name(C, "file"))],
        "came before",
    ),
    "an object of a bare repository's archive": ([file(name(C, "filez"))], "unknown kind"),
    "a payload link": ([symlink(name(C, "payload-link"), "x")], "unknown kind"),
    "a tombstone": ([file(name(C, "tombstone-commit"))], "unknown kind"),
    "a made up kind": ([file(name(C, "x"))], "unknown kind"),
    "the kind of a commit in capitals": ([file(name(C, "COMMIT"))], "name of an object"),
    "xattrs that are too large": (
        [file(name(C, "file-xattrs-link"), bytes(limits.ENCAPSULATED_XATTRS_MAX + 1))],
        "the limit is",
    ),
    "metadata that is too large": (
        [file(name(C, "dirtree"), bytes(limits.ENCAPSULATED_METADATA_MAX + 1))],
        "the limit is",
    ),
    "a way out": ([file("../x")], r"'\.\.'"),
}


@pytest.mark.parametrize(("members", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(members: list[Member], reason: str) -> None:
    with pytest.raises(MalformedImage, match=reason):
        found(members)


def test_shared_xattrs_have_to_hash_to_their_name() -> None:
    with pytest.raises(VerificationFailed, match="hash to their name"):
        found([file(name(C, "file-xattrs"), SHARED)])


def test_shared_xattrs_are_held_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENCAPSULATED_XATTRS_KEPT", len(SHARED))
    other = xattrs_of(File(xattrs=((b"user.z", b""),)))
    second = file(name(hashlib.sha256(other).hexdigest(), "file-xattrs"), other)
    assert found([*shared(), *shared()]) == []
    with pytest.raises(MalformedImage, match="to be linked to"):
        found([*shared(), second])


@given(st.data())
def test_whatever_the_order_it_is_objects_or_an_error(data: st.DataObject) -> None:
    made = encapsulated(Dir({"a": A, "b": Dir({"c": L, "d": B})})).whole()
    members = data.draw(st.lists(st.sampled_from([*made, *shared()]), max_size=12))
    try:
        result = found(members)
    except BridgeError:
        return
    assert len({each[:2] for each in result}) == len(result)
    for kind, checksum, xattrs in result:
        assert kind is Kind.FILE or not xattrs
        assert kind is not Kind.FILE or xattrs == (SHARED if checksum == C else b"")
