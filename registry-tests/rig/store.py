"""A repository as the real `ostree` command sees it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rig.peers import require
from rig.reference import Record

_KINDS = {"-": "file", "d": "directory", "l": "symlink"}
# Mode, owner, group, size, checksums (a directory has two), xattrs, path.
_LINE = re.compile(
    rb"([-dl])0([0-7]{4}) (\d+) (\d+) +(\d+) ((?:[0-9a-f]{64} ){1,2})\{ (.*?) \} (/.*)"
)
_PAIR = re.compile(rb"\((b'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\"), ([^)]*)\)")
_EMPTY = (b"@a(ayay) []", b"@ay []")
# What is mounted over at boot, and what container builds leave behind empty.
_MOUNTED_OVER = ("dev", "proc", "run", "sys", "tmp")
_LEFT_BEHIND = ("/usr/etc/hostname", "/usr/etc/resolv.conf")


def ostree(repo: Path, *arguments: str | Path) -> bytes:
    """The output of `ostree --repo=REPO ...`, which must succeed."""
    command = [require("ostree"), f"--repo={repo}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return done.stdout


def fsck(repo: Path) -> None:
    """Fails unless every object of `repo` is what its name says and nothing is missing."""
    ostree(repo, "fsck", "--quiet")


def refs(repo: Path) -> list[str]:
    return ostree(repo, "refs").decode().split()


def object_names(repo: Path) -> set[str]:
    """The objects in the repository, as DIRECTORY/NAME."""
    return {str(path.relative_to(repo / "objects")) for path in (repo / "objects").glob("*/*")}


def disk_bytes(repo: Path) -> int:
    """What `du` says that the objects take."""
    command = ["du", "--summarize", "--block-size=1", str(repo / "objects")]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()[0])


def tree(repo: Path, commit: str) -> dict[str, Record]:
    """Every path of a commit, by `ostree ls`: all but what files contain."""
    listing = ostree(repo, "ls", "-R", "-C", "-X", commit)
    return dict(_parse(line) for line in listing.splitlines())


def checkout(repo: Path, commit: str, target: Path) -> Path:
    """`ostree checkout` with hard links into the repository, which must be bare."""
    ostree(repo, "checkout", "-H", commit, target)
    return target


def imported(unpacked: Mapping[str, Record]) -> dict[str, Record]:
    """What the tree of an image is once it is in the store, by the documented rules."""
    return dict(_import(unpacked))


def _import(unpacked: Mapping[str, Record]) -> Iterator[tuple[str, Record]]:
    for path, record in unpacked.items():
        top, _, below = path[1:].partition("/")
        if below and top in _MOUNTED_OVER:
            continue
        if record.kind not in _KINDS.values():
            continue
        stored = f"/usr{path}" if top == "etc" else path
        if stored in _LEFT_BEHIND and record.kind == "file" and not record.size:
            continue
        yield stored, record


def without_content(records: Mapping[str, Record]) -> dict[str, Record]:
    """The records as `ostree ls` can tell them."""
    return {path: replace(record, sha256="") for path, record in records.items()}


def differences(left: Mapping[str, Record], right: Mapping[str, Record]) -> list[str]:
    """A line for each path that is not the same on both sides."""
    return [
        f"{path}: {left.get(path)} != {right.get(path)}"
        for path in sorted(left.keys() | right.keys())
        if left.get(path) != right.get(path)
    ]


def _parse(line: bytes) -> tuple[str, Record]:
    found = _LINE.fullmatch(line)
    assert found, line
    kind, mode, uid, gid, size, _checksums, xattrs, path = found.groups()
    target = b""
    if kind == b"l":
        path, _, target = path.partition(b" -> ")
    return path.decode("utf-8", "surrogateescape"), Record(
        kind=_KINDS[kind.decode()],
        mode=int(mode, 8),
        uid=int(uid),
        gid=int(gid),
        size=int(size),
        target=target.decode("utf-8", "surrogateescape"),
        xattrs=tuple(_xattrs(xattrs)),
    )


def _xattrs(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The pairs of GVariant's text form of a(ayay)."""
    if text == _EMPTY[0]:
        return
    inner = text.removeprefix(b"[").removesuffix(b"]")
    end = 0
    for pair in _PAIR.finditer(inner):
        assert inner[end : pair.start()] in (b"", b", "), text
        end = pair.end()
        yield _bytes(pair[1]).rstrip(b"\0").decode(), _bytes(pair[2])
    assert end == len(inner), text


def _bytes(text: bytes) -> bytes:
    if text == _EMPTY[1]:
        return b""
    if text.startswith(b"b"):  # a string, whose final NUL is not shown
        value = ast.literal_eval(text.decode())
        assert isinstance(value, bytes)
        return value + b"\0"
    numbers = text.strip(b"[]").replace(b"byte ", b"").split(b", ")
    return bytes(int(number, 16) for number in numbers)
