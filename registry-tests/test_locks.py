"""One lock discipline: readers never wait, writers never interleave, locks die with holders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig import store
from rig.command import PLAIN_HTTP, Done, bootc_py
from rig.peers import require
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import small

ROUNDS = int(os.environ.get("BOOTC_PY_LOCK_ROUNDS", "4"))
"""Rounds in which everything is done at once."""
BUSY = 10
DEADLINE = 60


@dataclass
class Host:
    """A sysroot with two deployments, of the images `a` and `b` in a registry; and a third one."""

    sysroot: Path
    registry: Registry

    @property
    def repo(self) -> Path:
        return self.sysroot / "ostree/repo"

    def name(self, tag: str) -> str:
        return f"{self.registry.host}/os/small:{tag}"

    def run(self, *arguments: str) -> Done:
        return bootc_py(*arguments, "--sysroot", self.sysroot)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bridge", *arguments, "--sysroot", str(self.sysroot)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with run_registry() as running:
        for tag in ("a", "b", "c"):
            push(
                small(tmp_path_factory.mktemp("images") / tag, version=tag),
                running,
                "os/small",
                tag,
            )
        yield running


@pytest.fixture
def host(registry: Registry, tmp_path: Path) -> Host:
    made = Host(tmp_path / "sysroot", registry)
    for tag in ("b", "a"):
        done = made.run("switch", made.name(tag), PLAIN_HTTP)
        assert done.code == 0, done.err
    return made


@contextmanager
def held(host: Host) -> Iterator[None]:
    """A switch to `c` in the middle of a layer, where it stays until it is killed at the end."""
    holder = host.start("switch", host.name("c"), PLAIN_HTTP, "--limit-rate", "1024")
    downloads = host.repo / "extensions/bootc-py/downloads"
    try:
        deadline = time.monotonic() + DEADLINE
        while not any(path.stat().st_size for path in downloads.glob("*")):
            assert holder.poll() is None, holder.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield
        assert holder.poll() is None, "it was to go on until it is killed"
    finally:
        holder.kill()
        holder.communicate()


READERS = [
    ("status", "--json"),
    ("status", "--format", "yaml"),
    ("image", "list", "--json"),
    ("image", "inspect", "{a}"),
    ("fsck", "--json"),
    ("upgrade", "--check", "--json", PLAIN_HTTP),
]
WRITERS = [
    ("switch", "{b}", PLAIN_HTTP),
    ("upgrade", PLAIN_HTTP),
    ("rollback",),
    ("image", "pull", "{b}", PLAIN_HTTP),
    ("image", "prune"),
    ("image", "repair"),
    ("fsck", "--repair", PLAIN_HTTP),
]


def test_readers_never_wait_and_writers_are_told_at_once(host: Host) -> None:
    quiet = [filled(each, host) for each in READERS]
    before = [host.run(*each) for each in quiet]
    with held(host):
        for arguments, alone in zip(quiet, before, strict=True):
            done = host.run(*arguments)
            assert (done.code, done.err) == (alone.code, alone.err), done.err
            if "fsck" not in arguments:  # a layer that was complete may be there already
                assert done.out == alone.out
        for each in WRITERS:
            done = host.run(*filled(each, host))
            assert done.code == BUSY, done.err
            assert "try again" in done.error
            assert str(host.sysroot) in done.error
    # The holder was killed: nothing that it left keeps anybody out.
    for each in WRITERS:
        done = host.run(*filled(each, host))
        assert done.code == 0, done.err
    store.fsck(host.repo)


def filled(arguments: tuple[str, ...], host: Host) -> list[str]:
    return [each.format(a=host.name("a"), b=host.name("b")) for each in arguments]


def test_ostree_admin_waits_for_us_and_goes_on_when_we_die(host: Host) -> None:
    command = [require("ostree"), "admin", "pin", f"--sysroot={host.sysroot}", "1"]
    pipe = subprocess.PIPE
    with held(host):
        other = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        assert other.stdout is not None
        assert "Waiting" in other.stdout.readline()
        assert other.poll() is None
    assert "pinned" in other.communicate(timeout=DEADLINE)[0]
    assert other.returncode == 0
    done = host.run("switch", host.name("c"), PLAIN_HTTP)
    assert done.code == 0, done.err
    check_sane(host)


def check_sane(host: Host) -> None:
    """The store is whole, and every boot entry leads to a deployment with its kernel."""
    store.fsck(host.repo)
    clean = host.run("fsck", "--json")
    assert clean.code == 0, clean.err + clean.out
    listed = subprocess.run(
        [require("ostree"), "admin", "status", f"--sysroot={host.sysroot}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    entries = sorted((host.sysroot / "boot/loader/entries").glob("*.conf"))
    assert entries
    for entry in entries:
        lines = dict(line.split(" ", 1) for line in entry.read_text().splitlines())
        assert (host.sysroot / lines["linux"].lstrip("/")).is_file()
        (target,) = [each[7:] for each in lines["options"].split() if each.startswith("ostree=")]
        root = (host.sysroot / target.lstrip("/")).resolve()
        assert (root / "usr/lib/os-release").is_file()
        assert root.name in listed
    status = host.run("status", "--json")
    assert (status.code, status.err) == (0, "")
    for each in json.loads(status.out)["status"]["otherDeployments"]:
        # What was pulled for a reference is what is deployed under it.
        tag = each["image"]["image"]["image"].rpartition(":")[2]
        root = f"{each['ostree']['checksum']}.{each['ostree']['deploySerial']}"
        path = host.sysroot / "ostree/deploy/default/deploy" / root
        assert f"VERSION_ID={tag}" in (path / "usr/lib/os-release").read_text()


def test_everything_at_once(host: Host) -> None:
    winners = 0
    for number in range(ROUNDS):
        tags = ("a", "b", "c")[number % 3 :] + ("a", "b", "c")[: number % 3]
        running = [
            host.start("switch", host.name(tags[0]), PLAIN_HTTP),
            host.start("image", "prune"),
            host.start("switch", host.name(tags[1]), PLAIN_HTTP),
            host.start("rollback"),
            host.start("fsck", "--repair", PLAIN_HTTP),
            host.start("status", "--json"),
            host.start("image", "list", "--json"),
            host.start("fsck", "--json"),
        ]
        answers = [process.communicate(timeout=DEADLINE * 5) for process in running]
        codes = [process.returncode for process in running]
        for (out, err), code in zip(answers, codes, strict=True):
            assert "Traceback" not in err, err
            assert code in (0, BUSY), (code, out, err)
        assert codes[5:] == [0, 0, 0], answers[5:]
        assert json.loads(answers[5][0])["status"]["otherDeployments"]
        assert len(json.loads(answers[6][0])) >= 1
        winners += codes[:5].count(0)
        assert 0 in codes[:5]
        check_sane(host)
    assert winners >= ROUNDS
