"""The view of an image's content: the same of a commit and of the directory it was made from."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.images import Member, directory, file, hardlink, image, symlink, whiteout, write_layout

from bridge.contents.contents import Contents, Node
from bridge.contents.directory import of_directory
from bridge.contents.pulled import pulled
from bridge.errors import BridgeError, MalformedImage
from bridge.layer.tar import EntryType
from bridge.oci.reference import parse_reference

LOWER: list[Member] = [
    directory("usr", 0o711),
    directory("usr/bin"),
    file("usr/bin/tool", b"tool" * 100_000, 0o4755, xattrs={"user.a": "1"}),
    hardlink("usr/bin/same", "usr/bin/tool"),
    symlink("bin", "usr/bin"),
    symlink("loop", "loop"),
    symlink("usr/up", "../../../etc/passwd"),
    symlink("usr/absolute", "/bin/tool"),
    directory("etc", 0o700),
    file("etc/passwd", "root", 0o600, uid=3, gid=4),
    file("gone", "gone"),
    directory("var/empty", 0o1777),
]
UPPER: list[Member] = [whiteout("gone"), file("usr/bin.d", "beside"), file("usr/bin/é", "é")]


@pytest.fixture
def layout(tmp_path: Path) -> str:
    write_layout(tmp_path / "layout", image(LOWER, UPPER))
    return f"oci:{tmp_path}/layout"


def test_an_image_is_seen_as_the_system_that_runs_it(layout: str) -> None:
    with pulled(parse_reference(layout)) as found:
        contents = found.contents
        assert list(contents.nodes) == [
            "", "bin", "etc", "etc/passwd", "loop",
            "usr", "usr/absolute", "usr/bin", "usr/bin/same", "usr/bin/tool", "usr/bin/é",
            "usr/bin.d", "usr/up", "var", "var/empty",
        ]  # fmt: skip
        tool = contents.nodes["usr/bin/tool"]
        assert tool == Node(
            path="usr/bin/tool", type=EntryType.FILE, mode=0o4755, uid=0, gid=0, size=400_000,
            mtime=None, target="", xattrs=((b"user.a", b"1"),), key=tool.key,
        )  # fmt: skip
        assert contents.nodes["usr/bin/same"] == replace(tool, path="usr/bin/same")
        assert contents.read(tool, 400_000) == b"tool" * 100_000
        assert [len(each) for each in contents.chunks(tool)] == [262_144, 137_856]
        with pytest.raises(MalformedImage, match="'usr/bin/tool' has 400000 bytes; the limit is 9"):
            contents.read(tool, 9)
        etc, passwd = contents.nodes["etc"], contents.nodes["etc/passwd"]
        assert (etc.mode, etc.is_directory, passwd.uid, passwd.gid) == (0o700, True, 3, 4)
        assert contents.nodes["var/empty"].mode == 0o1777
        assert [each.name for each in contents.children("usr/bin")] == ["same", "tool", "é"]
        assert [each.name for each in contents.children("")] == [
            "bin", "etc", "loop", "usr", "var",
        ]  # fmt: skip


FOLLOWED = [
    ("usr/bin/tool", "usr/bin/tool"),
    ("bin", "usr/bin"),
    ("/bin/./tool", "usr/bin/tool"),
    ("usr/absolute", "usr/bin/tool"),
    ("usr/up", "etc/passwd"),
    ("..", ""),
    ("", ""),
    ("loop", None),
    ("loop/x", None),
    ("none", None),
    ("etc/passwd/x", None),
]


@pytest.mark.parametrize(("path", "expected"), FOLLOWED)
def test_links_are_followed_inside_of_the_image(
    layout: str, path: str, expected: str | None
) -> None:
    with pulled(parse_reference(layout)) as found:
        node = found.contents.resolve(path)
        assert (None if node is None else node.path) == expected


def made(tmp_path: Path) -> Contents:
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"tool")
    os.link(root / "usr/bin/tool", root / "usr/bin/same")
    os.utime(root / "usr/bin/tool", (0, 1234.75))
    (root / "usr/bin/tool").chmod(0o750)
    (root / "link").symlink_to("usr")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"\xff")).write_bytes(b"")
    return of_directory(os.open(root, os.O_RDONLY))


def test_a_directory_is_seen_as_it_is(tmp_path: Path) -> None:
    contents = made(tmp_path)
    assert {path: node.type.value for path, node in contents.nodes.items()} == {
        "": "directory",
        "fifo": "fifo",
        "link": "symbolic link",
        "usr": "directory",
        "usr/bin": "directory",
        "usr/bin/same": "file",
        "usr/bin/tool": "file",
        "\udcff": "file",
    }
    tool = contents.nodes["usr/bin/tool"]
    assert (tool.mode, tool.size, tool.mtime) == (0o750, 4, 1234)
    assert tool.key and tool.key == contents.nodes["usr/bin/same"].key
    assert contents.nodes["link"].target == "usr"
    assert contents.read(tool, 4) == b"tool"
    assert contents.resolve("link/bin/tool") == tool


def test_a_directory_is_not_left_through_a_link(tmp_path: Path) -> None:
    contents = made(tmp_path)
    (tmp_path / "secret").write_text("secret")
    tool = contents.nodes["usr/bin/tool"]
    (tmp_path / "root/usr/bin").rename(tmp_path / "root/usr/was")
    (tmp_path / "root/usr/bin").symlink_to("was")
    with pytest.raises(BridgeError, match="reading 'usr/bin/tool'"):
        contents.read(tool, 4)
