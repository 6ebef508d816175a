"""Crafted images from a real registry by the real command, judged by `ostree` and by umoci.

Some of each kind; `BOOTC_PY_CRAFTED=all` in the environment runs every one (minutes).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import crafted, reference, store
from rig.command import PLAIN_HTTP, Done, bootc_py
from rig.host import Host, State, run_host
from rig.peers import require
from rig.registry import Registry, run_registry
from support.crafted.case import HOST, SECRET, Case, count_layers
from support.images import write_layout

from tools.images import cache

LEGAL = crafted.some(True, 16)
REFUSED = crafted.some(False, 12)
WITNESSED = {name: case for name, case in LEGAL.items() if crafted.agrees(name, case)}
WORKERS = os.cpu_count() or 1


@dataclass
class Bench:
    """What all cases share: a registry, a place on the disk, a piece of host to be left alone."""

    registry: Registry
    publisher: crafted.Publisher
    path: Path
    host: Host
    before: State

    def publish(self, cases: Mapping[str, Case]) -> dict[str, str]:
        """The references of the images: in the registry, or of a layout where it takes none."""
        names = {}
        for number, (name, case) in enumerate(cases.items()):
            tag = f"{'good' if case.legal else 'bad'}{number}"
            if case.unpublishable:
                names[name] = f"oci:{write_layout(self.path / 'layouts' / tag, case.make())}"
            else:
                self.publisher.put(case.make(), tag)
                names[name] = f"{self.registry.host}/crafted:{tag}"
        return names

    def pull(self, name: str, repo: Path, *options: str) -> Done:
        return bootc_py(
            "image", "pull", name, "--repo", repo, PLAIN_HTTP, "--json", "--quiet", *options,
            cwd=self.host.work,
        )  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with run_registry() as registry, run_host() as host, cache.scratch(cache.root() / "work") as at:
        publisher = crafted.Publisher(registry, "crafted")
        yield Bench(registry, publisher, at, host, host.state())


def in_parallel(work: Callable[[int, str], Any], names: list[str]) -> dict[str, Any]:
    """What `work` gives for each name, done by workers with numbers, each one after the other."""

    def run(worker: int) -> dict[str, Any]:
        return {name: work(worker, name) for name in names[worker::WORKERS]}

    found: dict[str, Any] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for part in pool.map(run, range(WORKERS)):
            found |= part
    return found


# -- the legal ones ------------------------------------------------------------------------------


@dataclass
class Stored:
    """An image that was pulled: how that ended, and into which repository."""

    done: Done
    repo: Path

    @property
    def report(self) -> dict[str, Any]:
        assert self.done.code == 0, self.done.err
        document: dict[str, Any] = self.done.json
        return document

    @property
    def commit(self) -> str:
        return str(self.report["image"]["commit"])


@pytest.fixture(scope="module")
def stored(bench: Bench) -> dict[str, Stored]:
    names = bench.publish(LEGAL)

    def pull(worker: int, name: str) -> Stored:
        repo = bench.path / f"repo{worker}"
        return Stored(bench.pull(names[name], repo, "--mode=bare"), repo)

    return in_parallel(pull, list(LEGAL))


@pytest.mark.parametrize("name", LEGAL)
def test_legal(stored: dict[str, Stored], tmp_path: Path, name: str) -> None:
    case, found = LEGAL[name], stored[name]
    expected = crafted.records(case.tree)
    assert sorted((each["path"], each["reason"]) for each in found.report["dropped"]) == [
        *case.dropped
    ]
    root = store.checkout(found.repo, found.commit, tmp_path / "root")
    if max(map(len, expected)) < 3000:  # longer ones cannot be looked at by their full names
        assert store.differences(reference.records(root), expected) == []
    if "\n" not in "".join([*case.tree, *(each.target for each in expected.values())]):
        listed = store.tree(found.repo, found.commit)
        assert store.differences(listed, store.without_content(expected)) == []


def test_the_stores_verify(stored: dict[str, Stored]) -> None:
    for repo in {found.repo for found in stored.values()}:
        store.fsck(repo)


@pytest.fixture(scope="module")
def unpacked(bench: Bench) -> dict[str, Path]:
    """The roots that umoci makes of the images where it should agree."""

    def unpack(worker: int, name: str) -> Path:
        place = bench.path / "umoci" / str(list(WITNESSED).index(name))
        layout = write_layout(place / "layout", WITNESSED[name].make())
        command = [require("umoci"), "unpack", "--image", f"{layout}:latest", place / "bundle"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            (place / "error").write_text(done.stderr)
        return place

    return in_parallel(unpack, list(WITNESSED))


@pytest.mark.parametrize("name", WITNESSED)
def test_umoci_agrees(unpacked: dict[str, Path], name: str) -> None:
    place = unpacked[name]
    assert not (place / "error").exists(), (place / "error").read_text()
    found = crafted.with_parents(store.imported(reference.records(place / "bundle/rootfs")))
    assert store.differences(found, crafted.records(WITNESSED[name].tree)) == []


# -- the bad ones --------------------------------------------------------------------------------


@dataclass
class Left:
    """How a pull ended that had to fail, and what it left."""

    done: Done
    refs: list[str]
    unreachable: int
    other: list[str]


@pytest.fixture(scope="module")
def left(bench: Bench) -> dict[str, Left]:
    names = bench.publish(REFUSED)

    def pull(_worker: int, name: str) -> Left:
        repo = bench.path / f"bad{list(REFUSED).index(name)}"
        done = bench.pull(names[name], repo)
        if not (repo / "config").exists():
            return Left(done, [], 0, [])
        refs = [str(p.relative_to(repo / "refs/heads")) for p in (repo / "refs/heads").rglob("*")
                if p.is_file()]  # fmt: skip
        before = store.object_names(repo)
        if refs:
            store.fsck(repo)
            store.ostree(repo, "prune", "--refs-only", "--depth=0")
        unreachable = len(before - store.object_names(repo)) if refs else len(before)
        other = [
            str(path.relative_to(repo))
            for place in ("tmp", "extensions/bootc-py/downloads")
            for path in (repo / place).glob("*")
            if path.name != "cache"
        ]
        shutil.rmtree(repo)
        return Left(done, refs, unreachable, other)

    return in_parallel(pull, list(REFUSED))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(left: dict[str, Left], name: str) -> None:
    case, found = REFUSED[name], left[name]
    assert found.done.code == case.code, found.done.err
    assert re.search(case.phrase, found.done.error), found.done.error
    assert all(ref.startswith("ostree/container/blob/") for ref in found.refs)
    layers = count_layers(case.make())
    assert len(found.refs) == layers if case.verified else len(found.refs) < max(1, layers)
    assert found.unreachable == 0
    assert [path for path in found.other if "sha256-" not in path] == []


# -- the host ------------------------------------------------------------------------------------


def test_the_host_is_as_it_was(
    bench: Bench, stored: dict[str, Stored], left: dict[str, Left]
) -> None:
    assert stored and left
    assert bench.host.state() == bench.before


def test_the_stores_have_nothing_of_the_hosts(bench: Bench, stored: dict[str, Stored]) -> None:
    repos = {found.repo for found in stored.values()}
    objects = [path for repo in repos for path in (repo / "objects").glob("*/*.file")]
    regular = [path for path in objects if not path.is_symlink()]
    assert regular
    assert [path for path in regular if path.stat().st_size and path.read_bytes() == SECRET] == []


def test_the_stores_have_no_object_that_an_image_named(stored: dict[str, Stored]) -> None:
    """Names below sysroot/ostree/repo are an image's own; fsck holds all others to their names."""
    for repo in {found.repo for found in stored.values()}:
        assert not (repo / "objects/00" / f"{'a' * 62}.file").exists()
        assert not any("forged" in line for line in (repo / "config").read_text().splitlines())


# -- deployments ---------------------------------------------------------------------------------

DEPLOYED = [
    *list(name for name in LEGAL if name.startswith("owners: "))[::5],
    *list(name for name in LEGAL if name.startswith("xattrs: "))[::4],
    *list(name for name in LEGAL if name.startswith("devices: "))[::4],
    *list(name for name in LEGAL if name.startswith("paths: a name"))[::2],
]
BASE = {
    "usr/lib/modules/6.1.0/vmlinuz": "kernel",
    "usr/lib/modules/6.1.0/initramfs.img": "initramfs",
    "usr/lib/os-release": 'ID=test\nPRETTY_NAME="Test"\n',
}


@pytest.fixture(scope="module")
def sysroot(bench: Bench) -> Path:
    return bench.path / "sysroot"


@pytest.mark.parametrize("name", DEPLOYED)
def test_deployed(bench: Bench, sysroot: Path, name: str) -> None:
    """On top of a small OS: all that the image has is in the deployment, and no device is."""
    from support.crafted.case import build, complete
    from support.images import file

    case = LEGAL[name]
    made = case.make()
    base = build([[file(path, content) for path, content in BASE.items()]])
    both = crafted.stacked(base, made)
    bench.publisher.put(both, "deployed")
    done = bootc_py(
        "switch", f"{bench.registry.host}/crafted:deployed", "--sysroot", sysroot, PLAIN_HTTP,
        "--json", "--quiet", cwd=bench.host.work,
    )  # fmt: skip
    assert done.code == 0, done.err
    deployment = done.json["deployment"]
    root = (
        sysroot
        / "ostree/deploy/default/deploy"
        / (f"{deployment['checksum']}.{deployment['serial']}")
    )
    found = reference.records(root)
    expected = crafted.records({**complete(BASE), **case.tree})
    for path, record in list(expected.items()):
        if path.startswith("/usr/etc"):
            expected[path.removeprefix("/usr")] = record
    if "/etc" not in expected:
        found.pop("/etc")
    found.pop("/var", None)
    assert store.differences(found, expected) == []
    assert {record.kind for record in found.values()} <= {"file", "directory", "symlink"}
    assert bench.host.state() == bench.before
    assert HOST not in str(sysroot)
