"""The texts that lints read: tmpfiles.d, sysusers.d, accounts, mount points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contents.contents import Node
from bridge.layer.tar import EntryType
from bridge.lint import accounts, mounts, tmpfiles

ROOT = os.geteuid() == 0

LINES: list[tuple[str, list[str]]] = [
    ("", []),
    ("# d /a", []),
    ("  # d /a", []),
    ("d", []),
    ("d /a", ["/a"]),
    ("\td  /a\t0755 root root -", ["/a"]),
    ("d+!-= /a 0755", ["/a"]),
    ("d /a/", ["/a/"]),
    ('d "/a b" 0755', ["/a b"]),
    ("d '/a b' 0755", ["/a b"]),
    (r'd "/a \"b\"" 0755', ['/a "b"']),
    (r"d /a\x20b\\c\td 0755", ["/a b\\c\td"]),
    (r"d /\xc3\xa9 0755", ["/é"]),
    (r"d /\xff 0755", ["/\udcff"]),
    ("d /é 0755", ["/é"]),
    ('d "/a b', []),
    ("d /a\nL /b - - - - /c\n\nz /d", ["/a", "/b", "/d"]),
]


@pytest.mark.parametrize(("text", "expected"), LINES)
def test_paths_of_tmpfiles(text: str, expected: list[str]) -> None:
    assert list(tmpfiles.paths(text)) == expected


raw = st.binary(min_size=1).filter(lambda each: not set(each) & set(b"\0/")).map(os.fsdecode)


@given(st.lists(raw, min_size=1, max_size=3))
def test_a_line_says_the_path_that_it_is_for(way: list[str]) -> None:
    path = "/".join(way)
    node = Node(path, EntryType.DIRECTORY, 0o755, 0, 0, 0, 0, "", (), "")
    line = tmpfiles.line(node, "root", "root")
    assert list(tmpfiles.paths(line)) == [f"/{path}"]
    assert line.isascii() and line.isprintable() and len(line.split()) == 7


@given(st.text())
def test_any_text_has_some_lines_or_none(text: str) -> None:
    assert all(isinstance(path, str) for path in tmpfiles.paths(text))
    assert all(kind in "ug" for kind, _ in accounts.sysusers(text))
    assert isinstance(list(mounts.parse(text)), list)
    assert isinstance(list(accounts.hashed(text.encode(errors="replace"))), list)


SYSUSERS: list[tuple[str, list[tuple[str, str]]]] = [
    ("", []),
    ("# u a 1", []),
    ("u a", [("u", "a")]),
    ("u! a 1:2 'a b' /h /sh", [("u", "a")]),
    ('  g   "b"  5', [("g", "b")]),
    ("r - 5-9\nm a b\nu a", [("u", "a")]),
    ("u", []),
    ('u "a', []),
    ("u a#b -", [("u", "a#b")]),
]


@pytest.mark.parametrize(("text", "expected"), SYSUSERS)
def test_names_of_sysusers(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(accounts.sysusers(text)) == expected


SHADOW: list[tuple[bytes, list[str]]] = [
    (b"", []),
    (b"root", []),
    (b"root:*:1::::::", []),
    (b"root::1::::::", []),
    (b"root:!:1\nroot:!!:1\na:!*:1\nb:!$6$x:1", []),
    (b"root:$6$salt$hash:1::::::\na:$y$j9T$a$b:1", ["root", "a"]),
    (b"a:_J9..rasmBYk8r9AiWNc:1", ["a"]),
    (b":$6$x:1", []),
    (b"a:$6$x", []),
    (b"\xff:$1$x$y:1", ["\ufffd"]),
]


@pytest.mark.parametrize(("data", "expected"), SHADOW)
def test_who_has_a_password(data: bytes, expected: list[str]) -> None:
    assert list(accounts.hashed(data)) == expected


MOUNTINFO = """22 27 0:20 / /proc rw,nosuid shared:12 - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 27 0:5 /a /srv/with\\040space\\134 rw - tmpfs tmpfs rw

short line
"""


def test_mount_points_are_read() -> None:
    assert list(mounts.parse(MOUNTINFO)) == ["/proc", "/", "/srv/with space\\"]


def test_what_is_mounted_below_the_root_is_known() -> None:
    assert "proc" in mounts.below("/") and "" not in mounts.below("/")
    assert mounts.below("/proc/self/fdinfo") == frozenset()


@pytest.mark.skipif(not ROOT, reason="mounts")
def test_a_mount_below_a_directory(tmp_path: Path) -> None:
    (tmp_path / "root/a b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("root")
    script = (
        'mount -t tmpfs none "$1/root/a b" && mkdir "$1/root/a b/c" &&'
        '"$2" -c "import sys; from bridge.lint import mounts; print(mounts.below(sys.argv[1]))" '
        '"$1/link"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, sys.executable],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("frozenset({'a b'})\n", "")
