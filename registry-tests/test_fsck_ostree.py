"""What `ostree fsck` finds, `bootc-py fsck` finds: each kind of damage, on what ostree wrote."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig.command import bootc_py
from rig.peers import require

from bridge.ostree import refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.repository import Repository

MODES = ("bare", "bare-user", "archive")
REF = "test/tree"


@dataclass
class Victim:
    """A repository of ostree's, with a commit, and where the objects of each kind are."""

    repo: Path
    mode: str
    commit: str
    path: dict[str, Path]

    def write(self, kind: ObjectType, data: bytes) -> str:
        """Add an object that hashes to its name, whatever it is; its checksum."""
        checksum = hashlib.sha256(data).hexdigest()
        path = self.repo / f"objects/{checksum[:2]}/{checksum[2:]}.{kind.value}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return checksum


@pytest.fixture(params=MODES)
def victim(request: pytest.FixtureRequest, tmp_path: Path) -> Victim:
    repo, tree = tmp_path / "repo", tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir").chmod(0o750)
    (tree / "file").write_text("text " * 50)
    (tree / "dir/link").symlink_to("../file")
    ostree = require("ostree")
    subprocess.run([ostree, "init", f"--repo={repo}", f"--mode={request.param}"], check=True)
    command = [ostree, "commit", f"--repo={repo}", f"--branch={REF}", f"--tree=dir={tree}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with Repository.open(repo) as opened:
        commit = refs.require(opened, REF)
        root = opened.read_commit(commit)
        top = opened.read_dirtree(root.tree)
        below, meta = top.dirs["dir"]
        found = {
            "file": (top.files["file"], ObjectType.FILE),
            "link": (opened.read_dirtree(below).files["link"], ObjectType.FILE),
            "dirtree": (below, ObjectType.DIRTREE),
            "dirmeta": (meta, ObjectType.DIRMETA),
            "commit": (commit, ObjectType.COMMIT),
        }
        paths = {name: repo / opened.object_path(*each) for name, each in found.items()}
    return Victim(repo, str(request.param), commit, paths)


def theirs(repo: Path) -> int:
    command = [require("ostree"), "fsck", f"--repo={repo}", "--quiet"]
    return subprocess.run(command, capture_output=True, timeout=60).returncode


def check_both(victim: Victim, damaged: bool) -> None:
    assert (theirs(victim.repo) != 0) is damaged
    done = bootc_py("fsck", "--repo", victim.repo)
    assert (done.code, "Traceback" in done.err) == (9 if damaged else 0, False), done.err


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x55
    path.write_bytes(raw)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [flip, empty, Path.unlink, directory])
@pytest.mark.parametrize("name", ["file", "link", "dirtree", "dirmeta", "commit"])
def test_damaged_objects(victim: Victim, name: str, damage: Callable[[Path], None]) -> None:
    path = victim.path[name]
    if path.is_symlink() and damage in (flip, empty):
        damage = retarget  # what a link in a bare repository has is where it points
    damage(path)
    check_both(victim, True)


def test_metadata_of_content(victim: Victim) -> None:
    path = victim.path["file"]
    if victim.mode == "bare-user":
        os.setxattr(path, "user.ostreemeta", b"\xff" + os.getxattr(path, "user.ostreemeta")[1:])
    else:
        path.chmod(0o4711)
    check_both(victim, victim.mode != "archive")  # there it is the header that counts


@pytest.mark.parametrize("text", ["", "garbage\n", "ab" * 32 + "\n"], ids=["empty", "text", "lost"])
def test_refs(victim: Victim, text: str) -> None:
    (victim.repo / "refs/heads/other").write_text(text)
    check_both(victim, True)


def test_a_commit_that_no_ref_names_counts(victim: Victim) -> None:
    (victim.repo / "refs/heads" / REF).unlink()
    check_both(victim, False)
    victim.path["dirtree"].unlink()
    check_both(victim, True)


@pytest.mark.parametrize("mark", [b"", b"f"], ids=["partial", "found damaged"])
def test_partial_commits(victim: Victim, mark: bytes) -> None:
    """What was never wanted is not missing; what a fsck marked is."""
    victim.path["file"].unlink()
    (victim.repo / f"state/{victim.commit}.commitpartial").write_bytes(mark)
    check_both(victim, bool(mark))
