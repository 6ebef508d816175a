"""Next to ostree-ext's own tool (docs/encapsulated.md tells how to build it): the same commits.

Debian has no package of it: the variable BOOTC_PY_OSTREE_EXT names that tool.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig import commits, store
from rig.command import report
from rig.peers import require

CHANGE = """
echo new > usr/bin/new; rm usr/bin/also; echo mine > etc/deep/conf
cp usr/bin/ping usr/bin/pong; chmod 755 usr/bin/pong; mv usr/bin/pong usr/bin/ping
rm -r usr/share/stable; mkdir usr/share/stable; echo anew > usr/share/stable/file
"""
TOOL = os.environ.get("BOOTC_PY_OSTREE_EXT", "")
pytestmark = pytest.mark.skipif(not TOOL, reason="BOOTC_PY_OSTREE_EXT is not set")


def theirs(*arguments: str | Path) -> str:
    """The output of ostree-ext's tool, which must succeed."""
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, str]:
    """A repository of `ostree`'s, and the commit in it."""
    commits.tree(tmp_path / "tree", 1)
    return tmp_path / "source", commits.commit(tmp_path / "source", tmp_path / "tree", 1)


def empty(repo: Path) -> Path:
    subprocess.run([require("ostree"), f"--repo={repo}", "init", "--mode=bare"], check=True)
    return repo


def push(repo: Path, name: str, layout: Path, *options: str) -> dict[str, Any]:
    return report(
        "image", "push", name, f"oci:{layout}:v", "--repo", repo, "--format", "ostree", *options
    )


@pytest.mark.parametrize("compression", ["gzip", "zstd", "zstd:chunked"])
def test_theirs_reads_ours(source: tuple[Path, str], tmp_path: Path, compression: str) -> None:
    repo, commit = source
    push(repo, commits.REF, tmp_path / "image", "--compression", compression)
    other = empty(tmp_path / "other")
    name = f"ostree-unverified-image:oci:{tmp_path / 'image'}:v"
    theirs("container", "unencapsulate", "--repo", other, name, "--write-ref", "got")
    assert commits.revision(other, "got") == commit
    commits.same(repo, other, commit)
    pulled = empty(tmp_path / "pulled")
    theirs("container", "image", "pull", "--quiet", pulled, name)
    assert commit in commits.layers(pulled)
    store.fsck(pulled)


def their_chunks(repo: Path, path: Path) -> Path:
    """Which object goes into which layer, as their tool wants to be told."""
    mapping = {}
    for line in store.ostree(repo, "ls", "-R", "-C", commits.REF).decode().splitlines():
        words = line.split()
        if line[0] in "-l":
            names = [each for each in ("stable", "etc") if f"/{each}/" in line]
            mapping[words[4]] = names[0] if names else "rest"
    layers = {"stable": "What stays", "etc": "Configuration", "rest": "All else"}
    document = {"version": 1, "layers": layers, "mapping": mapping, "ordered": False}
    path.write_text(json.dumps(document | {"created": None, "labels": {"asked": "for"}}))
    return path


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("mode", ["bare", "archive"])
def test_ours_reads_theirs(
    source: tuple[Path, str], tmp_path: Path, chunked: bool, mode: str
) -> None:
    repo, commit = source
    more = ["--contentmeta", their_chunks(repo, tmp_path / "meta.json")] if chunked else []
    layout = f"oci:{tmp_path / 'image'}:v"
    theirs("container", "encapsulate", "--repo", repo, *more, commits.REF, layout)
    done = report("image", "pull", layout, "--repo", tmp_path / "other", "--mode", mode)
    assert len(done["layers"]) == (5 if chunked else 1)
    commits.same(repo, tmp_path / "other", commit)
    assert commit in commits.layers(tmp_path / "other")
    store.fsck(tmp_path / "other")


def entries(layout: Path) -> list[str]:
    """The first layer's entries, as tar lists them, but for how xattrs are kept."""
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"
    digest = index["manifests"][0]["digest"]
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
    blob = blobs / manifest["layers"][0]["digest"].removeprefix("sha256:")
    command = [require("tar"), "--numeric-owner", "--utc", "-tvzf", str(blob)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [" ".join(line.split()).rstrip("/") for line in lines]
    return [line for line in found if ".file-xattrs" not in line]


def test_the_first_layers_are_alike(source: tuple[Path, str], tmp_path: Path) -> None:
    repo, _commit = source
    theirs("container", "encapsulate", "--repo", repo, commits.REF, f"oci:{tmp_path / 'theirs'}:v")
    push(repo, commits.REF, tmp_path / "ours", "--compression", "gzip")
    ours, other = entries(tmp_path / "ours"), entries(tmp_path / "theirs")
    in_chunks = [line for line in other if line not in ours]
    assert [line for line in other if line in ours] == ours
    assert all("objects/" in line for line in in_chunks if "link to" in line)


def test_they_take_our_store_for_theirs(source: tuple[Path, str], tmp_path: Path) -> None:
    repo, _commit = source
    push(repo, commits.REF, tmp_path / "image")
    done = report("image", "pull", f"oci:{tmp_path / 'image'}:v", "--repo", tmp_path / "other")
    name = f"ostree-unverified-image:oci:{tmp_path / 'image'}:v"
    said = theirs("container", "image", "pull", "--quiet", tmp_path / "other", name)
    assert f"No changes in {name} => {done['image']['commit']}" in said
    assert f"oci:{tmp_path / 'image'}:v" in theirs(
        "container", "image", "list", "--repo", tmp_path / "other"
    )
    theirs("container", "image", "prune-layers", "--repo", tmp_path / "other")
    store.fsck(tmp_path / "other")


def test_layers_on_top_are_merged_alike(tmp_path: Path) -> None:
    # Without labels: theirs stay on directories that a layer has, where there is no policy that
    # would give them anew.
    commits.tree(tmp_path / "tree", 1, labelled=False)
    repo, layout = tmp_path / "source", tmp_path / "image"
    commits.commit(repo, tmp_path / "tree", 1)
    push(repo, commits.REF, layout, "--compression", "gzip", "--compression-level", "1")
    commits.build_on_top(layout, tmp_path / "storage", CHANGE)
    done = report("image", "pull", f"oci:{layout}:top", "--repo", tmp_path / "ours")
    other = empty(tmp_path / "theirs")
    name = f"ostree-unverified-image:oci:{layout}:top"
    theirs("container", "image", "pull", "--quiet", other, name)
    (ref,) = [each for each in store.refs(other) if each.startswith("ostree/container/image/")]
    shown = store.ostree(other, "show", ref).decode()
    assert f"ContentChecksum:  {done['image']['contentChecksum']}" in shown
