"""Disks that are too small, or become so: refused before a layer moves, and clean in any case."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from rig import disk, raw, store
from rig.command import PLAIN_HTTP, Done, bootc_py, pull
from rig.disk import MIB
from rig.misbehaving import Gate, nothing
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import altered, small
from rig.twopkg import write_image

from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS

ROUNDS = int(os.environ.get("BOOTC_PY_SPACE_ROUNDS", "6"))
"""How many times a disk is filled in the middle of a switch, each time to another point."""
SLACK = MIB
"""What a failure may leave behind beyond a run that nothing disturbed."""


@dataclass(frozen=True)
class Bench:
    """A registry behind a proxy that counts."""

    registry: Registry
    proxy: CountingProxy

    def push(self, image: Layout, tag: str) -> str:
        push(image, self.registry, "a/b", tag)
        return f"{self.proxy.host}/a/b:{tag}"

    def layer_requests(self, image: Layout) -> list[tuple[str | None, int]]:
        """What was asked of the layers of `image`: the range, and the bytes that were sent."""
        digests = {layer["digest"] for layer in image.layers}
        return [
            (each.range, each.body_bytes)
            for each in self.proxy.log
            if each.path.rpartition("/")[2] in digests
        ]


@pytest.fixture(scope="module")
def running() -> Iterator[Registry]:
    with run_registry() as registry:
        yield registry


@pytest.fixture
def bench(running: Registry) -> Iterator[Bench]:
    with run_proxy(running.port) as proxy:
        yield Bench(running, proxy)


Mount = Callable[..., Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mounts `kind` ("ext4", "tmpfs") with so many MiB; the directory."""
    with ExitStack() as stack:

        def mount(kind: str, mebibytes: int, name: str = "disk", **options: int) -> Path:
            made = disk.KINDS[kind](tmp_path / name, mebibytes, **options)
            return stack.enter_context(made)

        yield mount


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def shrinkable(seed: str, size: int) -> bytes:
    """Content of its own that compresses to a hundredth."""
    return (noise(seed, 10_000) * (size // 10_000 + 1))[:size]


def files(seed: str, count: int, size: int, make: Any = noise) -> dict[str, bytes]:
    return {f"usr/share/{seed}/{number}": make(f"{seed} {number}", size) for number in range(count)}


def refused(*arguments: str | Path) -> str:
    done = bootc_py(*arguments, PLAIN_HTTP)
    assert done.code == 8, f"{done.code}: {done.err}"
    return done.error


def check_tidy(repo: Path) -> None:
    """Nothing half done, and what there is is whole."""
    store.fsck(repo)
    assert [each.name for each in (repo / "tmp").iterdir() if each.name != "cache"] == []
    downloads = repo / "extensions/bootc-py/downloads"
    assert not downloads.exists() or list(downloads.iterdir()) == []


# -- refused before a layer moves --------------------------------------------------------------


@pytest.mark.parametrize("command", ["image pull", "switch"])
def test_a_manifest_that_claims_999_tib(bench: Bench, tmp_path: Path, command: str) -> None:
    image = small(tmp_path / "image")
    bench.push(image, "good")

    def claim(manifest: dict[str, Any]) -> None:
        manifest["layers"][1]["size"] = 999 * 2**40

    huge = altered(image, tmp_path / "huge", manifest=claim)
    raw.put_manifest(bench.registry, "a/b", "huge", huge.manifest)
    name = f"{bench.proxy.host}/a/b:huge"
    where = ("--repo" if command == "image pull" else "--sysroot", tmp_path / "target")
    line = refused(*command.split(), name, *where)
    assert "has no room for the image: it needs at least 1922" in line
    assert "having to stay free" in line and "image prune" in line
    assert bench.layer_requests(image) == []


def zstd(source: Layout, target: Path, *, says_size: bool) -> Layout:
    """The image, whose layers are gzip, with the same layers in one zstd frame each."""
    compressor = zstandard.ZstdCompressor(write_content_size=says_size)

    def change(manifest: dict[str, Any]) -> None:
        tars = [gzip.decompress(source.blob(each["digest"]).read_bytes()) for each in source.layers]
        manifest["layers"] = [
            oci.add_blob(target, compressor.compress(tar), FORMATS["zstd"]) for tar in tars
        ]

    return altered(source, target, manifest=change)


def test_an_image_that_says_it_unpacks_to_more_than_there_is(
    bench: Bench, tmp_path: Path, mounted: Mount
) -> None:
    repo = mounted("ext4", 64) / "repo"
    # No zeros: those would take no room.
    text = b"the same line of text, again and again.\n" * 5_000_000
    layers = [{"usr/share/text": text}, {"usr/bin/app": b"#!/bin/sh\n"}]
    image = write_image(tmp_path / "gzip", "bomb", layers)
    size = image.layers[0]["size"]
    assert size < 2 * MIB
    line = refused("image", "pull", bench.push(image, "bomb"), "--repo", repo)
    assert "at least 152 MB more (21" in line
    # A few bytes that say so, and no more.
    assert bench.layer_requests(image) == [(f"bytes={size - 4}-{size - 1}", 4)]
    check_tidy(repo)

    other = zstd(image, tmp_path / "zstd", says_size=True)
    line = refused("image", "pull", bench.push(other, "bomb-zstd"), "--repo", repo)
    assert "at least 151 MB more (21" in line
    assert bench.layer_requests(other) == [("bytes=0-17", 18)]
    check_tidy(repo)

    # One that says nothing is begun, and stopped in time.
    other = zstd(image, tmp_path / "silent", says_size=False)
    line = refused("image", "pull", bench.push(other, "silent"), "--repo", repo)
    assert "bytes that min-free-space keeps" in line
    assert free_beyond(repo) > 0
    check_tidy(repo)


# -- not refused falsely -----------------------------------------------------------------------


def test_an_upgrade_that_shares_most_on_a_disk_that_is_nearly_full(
    bench: Bench, tmp_path: Path, mounted: Mount
) -> None:
    repo = mounted("ext4", 100) / "repo"
    shared = files("shared", 60, MIB, shrinkable)
    one = write_image(tmp_path / "one", "1", [shared])
    two = write_image(tmp_path / "two", "2", [shared | files("new", 3, MIB, shrinkable)])
    pull(bench.push(one, "shared-1"), repo)
    disk.fill(repo.parent, leave=14 * MIB)
    name = bench.push(two, "shared-2")
    bench.proxy.reset()
    done = bootc_py("image", "pull", name, "--repo", repo, "--json", PLAIN_HTTP)
    assert done.code == 0, done.err
    assert "warning:" in done.err and "may have no room for the image" in done.err
    assert done.json["space"]["neededBytes"] > 60 * MIB > done.json["space"]["availableBytes"]
    assert not done.json["space"]["estimated"]
    assert done.json["transfer"]["receivedBytes"] == bench.proxy.body_bytes
    assert done.json["store"]["newBytes"] == 3 * MIB
    assert free_beyond(repo) >= 0
    check_tidy(repo)

    # The same once more: as tight as it is, nothing is asked and nothing is written.
    objects = store.object_names(repo)
    bench.proxy.reset()
    again = pull(name, repo)
    assert [each.path for each in bench.proxy.log if "/manifests/" not in each.path] == []
    assert not again["changed"] and again["space"]["neededBytes"] == 0
    assert store.object_names(repo) == objects


def free_beyond(repo: Path, percent: int = 3) -> int:
    """What is free beyond what has to stay free."""
    found = os.statvfs(repo)
    return found.f_bavail * found.f_frsize - found.f_blocks * found.f_frsize * percent // 100


def test_a_file_system_that_compresses_has_room_for_more(
    bench: Bench, tmp_path: Path, mounted: Mount
) -> None:
    """What it took is known only when it is on the disk: the count alone would refuse."""
    repo = mounted("btrfs", 96) / "repo"
    image = write_image(tmp_path / "image", "1", [files("much", 150, MIB, shrinkable)])
    done = bootc_py("image", "pull", bench.push(image, "much"), "--repo", repo, PLAIN_HTTP)
    assert done.code == 0, done.err
    assert "warning:" in done.err and "may have no room for the image" in done.err
    check_tidy(repo)
    more = write_image(tmp_path / "more", "2", [files("more", 100, MIB)])
    refused("image", "pull", bench.push(more, "more"), "--repo", repo)
    assert free_beyond(repo) >= 0
    check_tidy(repo)


def test_what_is_ours_makes_room(bench: Bench, tmp_path: Path, mounted: Mount) -> None:
    repo = mounted("tmpfs", 40) / "repo"
    one = write_image(tmp_path / "one", "1", [{"usr/share/one": noise("one", 20_000)}])
    pull(bench.push(one, "small"), repo, "--mode=bare-user")
    stale = repo / "extensions/bootc-py/downloads" / f"sha256-{'0' * 64}"
    stale.write_bytes(bytes(30 * MIB))
    two = write_image(tmp_path / "two", "2", [{"usr/share/two": noise("two", 12 * MIB)}])
    pull(bench.push(two, "larger"), repo)
    assert not stale.exists()
    check_tidy(repo)


# -- while layers are imported -----------------------------------------------------------------


class Lowest:
    """The least that was free on a disk while a command ran."""

    def __init__(self, path: Path) -> None:
        self.bytes = disk.free(path)
        self._path = path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Lowest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            found = os.statvfs(self._path)
            self.bytes = min(self.bytes, found.f_bavail * found.f_frsize)


@pytest.mark.parametrize(("kind", "mode"), [("ext4", "bare"), ("tmpfs", "bare-user")])
def test_what_has_to_stay_free_does_under_three_layers_at_once(
    bench: Bench, tmp_path: Path, mounted: Mount, kind: str, mode: str
) -> None:
    mount = mounted(kind, 120)
    repo = mount / "repo"
    # What the store has may be shared, so that the pull is begun at all.
    first = write_image(tmp_path / "first", "1", [files("first", 40, MIB, shrinkable)])
    pull(bench.push(first, "first"), repo, f"--mode={mode}")
    config = (repo / "config").read_text()
    (repo / "config").write_text(f"{config}min-free-space-percent=30\n")
    keep = os.statvfs(repo).f_blocks * os.statvfs(repo).f_frsize * 30 // 100
    before = disk.free(mount)

    layers = [files(f"layer {number}", 20, MIB, shrinkable) for number in range(3)]
    image = write_image(tmp_path / "image", "2", layers)
    name = bench.push(image, "three")
    with Lowest(mount) as lowest:
        line = refused("image", "pull", name, "--repo", repo)
    assert f"the {keep} bytes that min-free-space keeps" in line
    assert keep <= lowest.bytes < keep + 3 * MIB
    check_tidy(repo)
    assert bootc_py("image", "prune", "--repo", repo).code == 0
    assert before - disk.free(mount) < SLACK

    (repo / "config").write_text(config)
    pull(name, repo)
    check_tidy(repo)


@pytest.mark.parametrize(("kind", "mode"), [("ext4", "bare"), ("tmpfs", "bare-user")])
def test_a_disk_that_others_fill_meanwhile(
    bench: Bench, tmp_path: Path, mounted: Mount, kind: str, mode: str
) -> None:
    mount, other = mounted(kind, 64), mounted(kind, 64, "undisturbed")
    repo = mount / "repo"
    image = write_image(tmp_path / "image", "1", [{"usr/share/big": noise("big", 10 * MIB)}])
    name = bench.push(image, "filled")
    one = write_image(tmp_path / "one", "1", [{"usr/share/one": noise("one", 20_000)}])
    for each in (mount, other):
        pull(bench.push(one, "first"), each / "repo", f"--mode={mode}")
    before = disk.free(mount)

    gate = Gate()
    bench.proxy.spoil(image.layers[0]["digest"], nothing, gate.after(5 * MIB))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bootc_py, "image", "pull", name, "--repo", repo, PLAIN_HTTP)
        assert gate.reached.wait(60)
        filler = disk.fill(mount)
        gate.open.set()
        done: Done = running.result()
    assert done.code == 8, done.err
    assert "full" in done.error or "No space left" in done.error or "no space left" in done.error
    # Full as it is, what there is is whole, and can be removed.
    check_tidy(repo)
    assert bootc_py("image", "prune", "--repo", repo).code == 0
    filler.unlink()
    assert abs(before - disk.free(mount)) < SLACK

    pull(name, repo)
    pull(name, other / "repo")
    check_tidy(repo)
    assert abs(disk.free(mount) - disk.free(other)) < SLACK
    assert store.object_names(repo) == store.object_names(other / "repo")


def test_a_disk_without_inodes(bench: Bench, tmp_path: Path, mounted: Mount) -> None:
    mount = mounted("ext4", 64, inodes=600)
    repo = mount / "repo"
    one = write_image(tmp_path / "one", "1", [{"usr/share/one": noise("one", 20_000)}])
    two = write_image(tmp_path / "two", "2", [{"usr/share/two": noise("two", 20_000)}])
    pull(bench.push(one, "first"), repo)
    before = os.statvfs(mount).f_favail
    many = write_image(tmp_path / "many", "3", [files("many", 1000, 10)])
    line = refused("image", "pull", bench.push(many, "many"), "--repo", repo)
    assert "no inode is left" in line
    check_tidy(repo)
    assert os.statvfs(mount).f_favail == before

    fillers = [mount / f"filler-{number}" for number in range(before)]
    for each in fillers:
        each.touch()
    bench.proxy.reset()
    assert "no inode is left" in refused("image", "pull", bench.push(two, "two"), "--repo", repo)
    assert bench.layer_requests(two) == []
    for each in fillers:
        each.unlink()
    pull(f"{bench.proxy.host}/a/b:two", repo)
    check_tidy(repo)


@dataclass(frozen=True)
class Disks:
    """A disk with a host on it, as often as it is wanted."""

    image: Path
    mount: Path

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """The sysroot on a copy of the disk, mounted."""
        copy = self.mount.with_name("copy.img")
        shutil.copyfile(self.image, copy)
        with disk.mounted(self.mount, "-o", "loop", str(copy)):
            yield self.mount / "host"


def test_a_disk_that_is_full_anywhere_in_a_switch(bench: Bench, tmp_path: Path) -> None:
    """R4: from the first byte of a layer to the last boot entry, with any number of bytes left."""
    disks = Disks(tmp_path / "prepared.img", tmp_path / "mount")
    kernel = {"usr/lib/modules/6.1.0/vmlinuz": noise("kernel", 600_000)}
    # As much is written when it is deployed (/etc is copied, directories are made) as before.
    etc = {f"etc/{number}": shrinkable(f"etc {number}", 100_000) for number in range(30)}
    wide = {f"usr/share/{number}/{number}": b"%d" % number for number in range(200)}
    images = [
        write_image(tmp_path / version, version, [kernel, bootable(version), *layers])
        for version, layers in (("1", ()), ("2", (etc, wide)))
    ]
    old, new = (bench.push(each, f"anywhere-{each.tag}") for each in images)
    held_up = images[1].layers[2]["digest"]
    with disk.ext4(tmp_path / "prepared", 48, keep=True) as prepared:
        options = ("--sysroot", prepared / "host", PLAIN_HTTP)
        assert bootc_py("switch", old, *options).code == 0
        config = prepared / "host/ostree/repo/config"
        config.write_text(config.read_text().replace("[core]", "[core]\nmin-free-space-size=0MB"))
    with disks.fresh() as sysroot:
        whole = disk.free(sysroot)
        assert bootc_py("switch", new, "--sysroot", sysroot, PLAIN_HTTP).code == 0
        undisturbed = disk.free(sysroot)
        booted = deployed(sysroot)

    codes = []
    for number in range(ROUNDS):
        with disks.fresh() as sysroot:
            before = deployed(sysroot)
            gate = Gate()
            # The first request is the preflight's: a disk too full by then is another test's.
            bench.proxy.forgive()
            bench.proxy.spoil(held_up, nothing, gate.after(1))
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(bootc_py, "switch", new, "--sysroot", sysroot, PLAIN_HTTP)
                assert gate.reached.wait(60)
                # The last round has a little more than is needed.
                leave = (whole - undisturbed) * 6 // 5 * number // (ROUNDS - 1)
                filler = disk.fill(sysroot, leave=leave)
                gate.open.set()
                done = running.result()
            codes.append(done.code)
            assert done.code in (0, 8), done.err
            assert done.code == 0 or done.error
            store.fsck(sysroot / "ostree/repo")
            assert deployed(sysroot) == (before if done.code else booted)
            if done.code:
                check_tidy(sysroot / "ostree/repo")
            filler.unlink()
            assert bootc_py("switch", new, "--sysroot", sysroot, PLAIN_HTTP).code == 0
            assert deployed(sysroot) == booted
            assert undisturbed - disk.free(sysroot) < SLACK
            check_tidy(sysroot / "ostree/repo")
    assert codes[0] == 8 and codes[-1] == 0, codes


def deployed(sysroot: Path) -> list[str]:
    """The deployments in boot order, as the real `ostree` reads them."""
    command = [require("ostree"), "admin", "status", f"--sysroot={sysroot}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split()[1] for line in done.stdout.splitlines() if line.split()[0] == "default"]


# -- /boot -------------------------------------------------------------------------------------


def bootable(version: str) -> Mapping[str, bytes]:
    return {
        "usr/lib/os-release": f'ID=test\nVERSION_ID={version}\nPRETTY_NAME="Test"\n'.encode(),
        "etc/release": f"{version}\n".encode(),
    }


@dataclass(frozen=True)
class Host:
    """A sysroot with a small /boot of its own."""

    sysroot: Path
    bench: Bench
    work: Path

    @property
    def boot(self) -> Path:
        return self.sysroot / "boot"

    def image(self, tag: str, kernel: str, size: int) -> tuple[str, Layout]:
        files = {f"usr/lib/modules/{kernel}/vmlinuz": noise(kernel, size)}
        made = write_image(self.work / tag, tag, [files | bootable(tag)])
        return self.bench.push(made, tag), made

    def switch(self, name: str) -> Done:
        return bootc_py("switch", name, "--sysroot", self.sysroot, PLAIN_HTTP)

    def state(self) -> tuple[str, dict[str, bytes], set[str]]:
        """What may not change where nothing is to change: status, /boot, the deployments."""
        boot = {
            str(path.relative_to(self.boot)): path.read_bytes()
            for path in self.boot.rglob("*")
            if path.is_file() and path.name != "filler"
        }
        deployments = {each.name for each in self.sysroot.glob("ostree/deploy/*/deploy/*")}
        return bootc_py("status", "--sysroot", self.sysroot, "--json").out, boot, deployments


@pytest.fixture
def host(bench: Bench, tmp_path: Path) -> Iterator[Host]:
    sysroot = tmp_path / "host"
    with disk.tmpfs(sysroot / "boot", 6):
        yield Host(sysroot, bench, tmp_path)


def test_a_kernel_that_does_not_fit_into_boot(host: Host) -> None:
    first, _ = host.image("boot-1", "6.1.0", 2 * MIB)
    done = host.switch(first)
    assert done.code == 0 and "warning" not in done.err
    before = host.state()
    large, image = host.image("boot-2", "6.2.0", 5 * MIB)
    failed = host.switch(large)
    assert failed.code == 8
    assert "/boot has no room for kernel 6.2.0: 3 MiB more are needed" in failed.error
    assert host.state() == before
    check_tidy(host.sysroot / "ostree/repo")
    # It is here now; to try again costs no bytes.
    host.bench.proxy.reset()
    assert host.switch(large).code == 8
    assert host.bench.layer_requests(image) == []
    second, _ = host.image("boot-3", "6.3.0", 2 * MIB)
    assert host.switch(second).code == 0


def test_a_boot_that_may_be_too_small_is_told_before_a_layer_moves(host: Host) -> None:
    first, _ = host.image("boot-4", "6.1.0", 3 * MIB)
    assert host.switch(first).code == 0
    same, _ = host.image("boot-5", "6.1.0", 3 * MIB)
    done = host.switch(same)
    # The kernel is the one that is there: no reason to refuse.
    assert done.code == 0, done.err
    lines = [line.partition(":")[0] for line in done.err.splitlines()]
    assert lines.index("warning") < lines.index("Pulling layers")
    assert "/boot of" in done.err and "4 MiB with some to spare, 3 MiB are left" in done.err


def test_a_boot_without_room_for_an_entry(host: Host) -> None:
    first, _ = host.image("boot-6", "6.1.0", 2 * MIB)
    assert host.switch(first).code == 0
    before = host.state()
    filler = disk.fill(host.boot)
    second, image = host.image("boot-7", "6.1.0", 2 * MIB)
    failed = host.switch(second)
    assert (
        failed.code == 8 and "/boot" in failed.error and "no room for a boot entry" in failed.error
    )
    assert host.bench.layer_requests(image) == []
    assert host.state() == before
    # Where nothing is to be deployed, nothing is in the way.
    again = host.switch(first)
    assert again.code == 0, again.err
    filler.unlink()
    assert host.switch(second).code == 0
