"""Damage to real stores: all of it is named, and healed with what the registry has, no more."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import store
from rig.command import PLAIN_HTTP, bootc_py, report
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.registry import Registry

from bridge.ostree import refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import reachable
from bridge.ostree.repository import Repository
from tools.images import cache
from tools.images.layout import Layout

Images = Mapping[tuple[str, str, str], Layout]
VICTIMS = int(os.environ.get("BOOTC_PY_DAMAGED_OBJECTS", "200"))
"""Objects that are damaged in one run."""


def flip(path: Path) -> None:
    status = path.lstat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)
        file.seek(status.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def change_mode(path: Path) -> None:
    path.chmod(path.stat().st_mode & 0o7777 ^ 0o004)


def change_xattr(path: Path) -> None:
    raw = os.getxattr(path, "user.ostreemeta")
    os.setxattr(path, "user.ostreemeta", bytes([raw[0] ^ 1]) + raw[1:])


def drop_xattr(path: Path) -> None:
    os.removexattr(path, "user.ostreemeta")


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


CONTENT: dict[str, list[Callable[[Path], None]]] = {
    "bare": [flip, truncate, empty, Path.unlink, change_mode],
    "bare-user": [flip, truncate, empty, Path.unlink, change_xattr, drop_xattr],
}
METADATA: list[Callable[[Path], None]] = [flip, truncate, empty]


@dataclass
class Damaged:
    """A repository with so many objects damaged, and what it was before."""

    repo: Path
    proxy: CountingProxy
    image: Layout
    victims: set[str]
    commits: dict[str, str]
    before: set[str]
    target: tuple[str, ...]
    """The options that name it."""
    boot: dict[str, str]
    """What is in /boot/ostree, by path, hashed."""


def kernels(repo: Path) -> list[str]:
    """The objects that a host of this repository has in /boot, too."""
    found = []
    for path in (repo.parent.parent / "boot/ostree").glob("*/*"):
        status = path.lstat()
        with Repository.open(repo) as opened:
            for checksum, kind in opened.objects():
                there = (repo / opened.object_path(checksum, kind)).lstat()
                if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
                    found.append(checksum)
    return found


def damage(repo: Path, seed: int) -> tuple[set[str], dict[str, str], set[str]]:
    """Damage objects of all kinds in all ways; return them, all refs, and all objects' names.

    What is deleted is such that it is known to be missing: some tree that is whole names it.
    """
    dice = random.Random(seed)
    with Repository.open(repo) as opened:
        commits = refs.roots(opened)
        there = sorted(opened.objects(), key=lambda each: (each[1].value, each[0]))
        by_kind = {
            kind: [checksum for checksum, found in there if found is kind] for kind in ObjectType
        }
        victims: dict[str, ObjectType] = {}
        # Some of the rarer kinds, and of content for the rest.
        for kind, share in (
            (ObjectType.COMMIT, 0.02),
            (ObjectType.DIRMETA, 0.02),
            (ObjectType.DIRTREE, 0.1),
        ):
            count = min(len(by_kind[kind]) // 3, int(VICTIMS * share))
            for number, checksum in enumerate(dice.sample(by_kind[kind], count)):
                METADATA[number % len(METADATA)](repo / opened.object_path(checksum, kind))
                victims[checksum] = kind
        known = reachable(opened, commits.values(), on_missing=lambda checksum, kind: None)
        number = 0
        for checksum in kernels(repo):
            flip(repo / opened.object_path(checksum, ObjectType.FILE))
            victims[checksum] = ObjectType.FILE
        pool = dice.sample(by_kind[ObjectType.FILE], len(by_kind[ObjectType.FILE]))
        while len(victims) < VICTIMS:
            checksum = pool.pop()
            path = repo / opened.object_path(checksum, ObjectType.FILE)
            way = CONTENT[opened.mode][number % len(CONTENT[opened.mode])]
            is_link = opened.open_file(checksum)[0].is_symlink
            if is_link and opened.mode == "bare":
                way = retarget
            elif is_link and way is truncate:
                way = flip  # without its last byte, a NUL, it is the same link
            elif not path.stat().st_size and way in (flip, truncate, empty):
                way = Path.unlink
            if checksum in victims or (
                way is Path.unlink and checksum not in known[ObjectType.FILE]
            ):
                continue
            way(path)
            victims[checksum] = ObjectType.FILE
            number += 1
        return set(victims), commits, {f"{checksum}.{kind.value}" for checksum, kind in there}


@pytest.fixture(scope="module", params=["bare", "bare-user"])
def damaged(
    request: pytest.FixtureRequest, images: Images, registry: Registry
) -> Iterator[Damaged]:
    mode = str(request.param)
    name = "server" if mode == "bare" else "base"
    with cache.scratch(cache.root() / "work") as work, run_proxy(registry.port) as proxy:
        reference = f"{proxy.host}/os/{name}:v1"
        if mode == "bare":
            target = ("--sysroot", str(work / "sysroot"))
            repo = work / "sysroot/ostree/repo"
            report("switch", reference, PLAIN_HTTP, *target)
        else:
            repo = work / "repo"
            target = ("--repo", str(repo))
            report("image", "pull", reference, PLAIN_HTTP, *target, "--mode", mode)
        boot = in_boot(repo)
        assert bool(boot) is (mode == "bare")
        victims, commits, before = damage(repo, seed=20)
        assert (in_boot(repo) == boot) is (mode == "bare-user")
        proxy.reset()
        yield Damaged(
            repo, proxy, images[name, "v1", "gzip"], victims, commits, before, target, boot
        )


def in_boot(repo: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (repo.parent.parent / "boot/ostree").glob("*/*")
    }


def ostree_fsck(repo: Path) -> subprocess.CompletedProcess[str]:
    command = [require("ostree"), f"--repo={repo}", "fsck", "-a"]
    return subprocess.run(command, capture_output=True, text=True)


def test_all_damage_is_named_and_healed(damaged: Damaged) -> None:
    assert len(damaged.victims) == VICTIMS
    assert ostree_fsck(damaged.repo).returncode != 0
    found = bootc_py("fsck", "--json", *damaged.target)
    assert found.code == 9
    assert {each["checksum"] for each in found.json["faults"]} == damaged.victims
    assert damaged.proxy.requests == 0

    done = bootc_py("fsck", "--repair", "--json", "--quiet", PLAIN_HTTP, *damaged.target)
    assert done.code == 0, done.err
    repair: dict[str, Any] = done.json["repair"]
    assert {each["checksum"] for each in repair["repaired"]} == damaged.victims
    assert (repair["unrepaired"], repair["problems"], repair["brokenRefs"]) == ([], [], [])

    again = ostree_fsck(damaged.repo)
    assert again.returncode == 0, again.stderr
    with Repository.open(damaged.repo) as repo:
        assert refs.roots(repo) == damaged.commits
        after = {f"{checksum}.{kind.value}" for checksum, kind in repo.objects()}
    assert after == damaged.before
    clean = bootc_py("fsck", "--json", *damaged.target)
    assert clean.code == 0, clean.err

    assert in_boot(damaged.repo) == damaged.boot
    if damaged.boot:
        check_deployments(damaged.repo)

    # What it cost, to the byte, and nothing that was not needed.
    sent = {
        each["digest"]: sum(
            exchange.body_bytes for exchange in damaged.proxy.log if each["digest"] in exchange.path
        )
        for each in repair["layers"]
        if each["mode"] == "partial"
    }
    stopped = {each["digest"]: each["receivedBytes"] for each in repair["layers"]}
    # Of a transfer that was ended early some may have been on its way.
    assert all(stopped[digest] <= sent[digest] for digest in sent)
    others = repair["receivedBytes"] - sum(stopped[digest] for digest in sent)
    assert others == damaged.proxy.body_bytes - sum(sent.values())
    assert repair["requests"] == damaged.proxy.requests
    asked = {each.path.rpartition("/")[2] for each in damaged.proxy.log if "/blobs/" in each.path}
    layers = {each["digest"] for each in repair["layers"]}
    assert asked - {damaged.image.manifest["config"]["digest"]} == layers
    for each in repair["layers"]:
        assert damaged.proxy.fetched(each["digest"]) == 1
        assert each["receivedBytes"] <= each["size"]


def check_deployments(repo: Path) -> None:
    """Every deployment is what the real `ostree` checks out of the repository, but for /etc."""
    (root,) = (repo.parent / "deploy/default/deploy").glob("*.0")
    tree = store.checkout(repo, root.name.removesuffix(".0"), repo.parent / "checked-out")
    command = ["diff", "--recursive", "--brief", "--no-dereference", str(tree), str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines() in ([], [f"Only in {root}: etc"]), done.stdout
    assert os.stat(root / "usr/bin/env").st_ino == os.stat(tree / "usr/bin/env").st_ino
