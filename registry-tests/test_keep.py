"""As many deployments as wanted, kernel arguments of images, and room made for a pull: by command.

Needs root and the `ostree` command (Debian package `ostree`), which has to agree each time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import disk, store
from rig.booted import Booted
from rig.command import Done, bootc_py
from rig.disk import MIB
from rig.twopkg import write_image
from test_staged_ostree import Machine, image

from bridge.errors import BridgeError
from bridge.sysroot import kargs, usr_overlay
from bridge.sysroot.sysroot import Sysroot

_UNLABELLED = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'test ! -d /etc/selinux || mount -t tmpfs none /etc/selinux; exec "$@"',
    "sh",
)
"""Debian's policycoreutils configures a policy that need not be there, and ostree wants it then."""


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Host:
    """A sysroot, and the images it is switched to."""

    sysroot: Path
    work: Path

    def image(self, version: str, *, kargs_d: str | None = None, size: int = 1000) -> str:
        files = {
            "usr/lib/os-release": f'ID=test\nPRETTY_NAME="Test {version}"\n'.encode(),
            "usr/lib/modules/6.1.0/vmlinuz": b"kernel",
            "usr/lib/modules/6.1.0/initramfs.img": b"initramfs",
            "etc/release": version.encode(),
            f"usr/share/{version}": noise(version, size),
        }
        if kargs_d is not None:
            files["usr/lib/bootc/kargs.d/10-test.toml"] = kargs_d.encode()
        write_image(self.work / version, version, [files])
        return f"oci:{self.work / version}:{version}"

    def run(self, *arguments: str, code: int = 0) -> str:
        done = bootc_py(*arguments, "--sysroot", self.sysroot)
        assert done.code == code, f"{arguments}: {done.code}: {done.err}"
        return done.out if code == 0 else done.error

    def switch(self, version: str, *options: str, **image: Any) -> None:
        self.run("switch", self.image(version, **image), *options)

    def versions(self) -> list[str]:
        """The versions of the deployments in boot order."""
        found = json.loads(self.run("status", "--json"))["status"].get("otherDeployments", [])
        deploy = self.sysroot / "ostree/deploy/default/deploy"
        names = [f"{each['ostree']['checksum']}.{each['ostree']['deploySerial']}" for each in found]
        assert sorted(names) == sorted(each.name for each in deploy.iterdir() if each.is_dir())
        lines = self.ostree("status").splitlines()
        theirs = [line.split()[1] for line in lines if line.strip().startswith("default ")]
        assert theirs == names
        return [(deploy / name / "usr/etc/release").read_text() for name in names]

    def ostree(self, *command: str) -> str:
        if shutil.which("ostree") is None:
            pytest.fail("ostree is missing: apt install ostree")
        name, *arguments = command
        done = subprocess.run(
            [*_UNLABELLED, "ostree", "admin", name, f"--sysroot={self.sysroot}", *arguments],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def options(self) -> list[str]:
        """The kernel arguments of what boots next, without the boot link."""
        entries = sorted((self.sysroot / "boot/loader/entries").iterdir())
        line = next(
            line for line in entries[-1].read_text().splitlines() if line.startswith("options ")
        )
        found = kargs.split(line.removeprefix("options "))
        return [each for each in found if not each.startswith("ostree=")]

    def images(self) -> list[str]:
        listed = json.loads(self.run("image", "list", "--json"))
        return [each["reference"].rpartition(":")[2] for each in listed]

    def settings(self, version: str, text: str) -> None:
        """Write the administrator's settings into the deployment of that version."""
        deploy = self.sysroot / "ostree/deploy/default/deploy"
        for each in deploy.iterdir():
            release = each / "usr/etc/release"
            if each.is_dir() and release.read_text() == version:
                (each / "etc/bootc-py").mkdir(exist_ok=True)
                (each / "etc/bootc-py/settings.toml").write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.fail("deployments need root")
    yield Host(tmp_path / "host", tmp_path)
    subprocess.run(["chattr", "-R", "-f", "-i", tmp_path / "host"], check=False)


def test_as_many_as_the_settings_say_and_as_the_command_says(host: Host) -> None:
    for version in ("1", "2", "3"):
        host.switch(version)
    assert host.versions() == ["3", "2"], "two, by default"
    host.settings("3", "[deployments]\nkeep = 4\n")
    for version in ("4", "5", "6"):
        host.switch(version)
    assert host.versions() == ["6", "5", "4", "3"], "the settings are merged with /etc"
    assert host.images() == ["3", "4", "5", "6"]
    host.switch("7", "--keep=3")
    assert host.versions() == ["7", "6", "5"]
    assert host.images() == ["5", "6", "7"], "what is stored is what is deployed"
    store.fsck(host.sysroot / "ostree/repo")
    assert "too few" in host.run("switch", host.image("8"), "--keep=1", code=2)
    host.settings("7", "[deployments]\nkeep = 1\n")
    assert "deployments.keep cannot be 1" in host.run("switch", host.image("9"), code=2)
    assert host.images() == ["5", "6", "7"], "that is said before anything moves"
    host.settings("7", "[deployments]\nkeep-age = '1d'\n")
    host.switch("10")
    host.switch("11")
    assert host.versions() == ["11", "10", "7", "6", "5"]
    host.settings("11", "[deployments]\nkeep-age = '0s'\n")
    host.switch("12")
    assert host.versions() == ["12", "11"], "what was running stays, however old"


def test_pins_have_names_and_ostree_agrees(host: Host) -> None:
    host.switch("1")
    host.run("pin", "0", "--name", "known-good")
    assert host.ostree("status").count("Pinned: yes") == 1
    for version in ("2", "3", "4"):
        host.switch(version)
    assert host.versions() == ["4", "3", "1"]
    host.ostree("pin", "1")
    host.switch("5")
    host.switch("6")
    assert host.versions() == ["6", "5", "3", "1"], "pinned by ostree"
    assert "Pinned: yes, as known-good" in host.run("status", "--format=humanreadable")
    host.run("unpin", "2")
    assert host.ostree("status").count("Pinned: yes") == 1
    host.run("rollback", "--to", "known-good")
    assert host.versions()[0] == "1"
    host.run("unpin", "known-good")
    assert "no deployment is named" in host.run("rollback", "--to", "known-good", code=4)


def test_rollback_to_any_that_is_kept(host: Host) -> None:
    for version in ("1", "2", "3", "4"):
        host.switch(version, "--keep=4")
    assert host.versions() == ["4", "3", "2", "1"]
    document = json.loads(host.run("status", "--json"))["status"]["otherDeployments"]
    for version, name in (
        ("1", "3"),
        ("2", document[2]["image"]["imageDigest"]),
        ("3", document[1]["ostree"]["checksum"][:12]),
        ("4", document[0]["image"]["imageDigest"].removeprefix("sha256:")[:12]),
    ):
        host.run("rollback", "--to", name)
        assert host.versions()[0] == version
        assert sorted(host.versions()) == ["1", "2", "3", "4"]
    before = host.versions()
    host.run("rollback", "--to", "abcd", code=4)
    assert host.versions() == before


def test_arguments_come_and_go_with_the_image_and_local_ones_stay(host: Host) -> None:
    toml = 'kargs = ["console=ttyS0", "a=1 quiet"]\n'
    host.switch("1", kargs_d=toml)
    assert host.options() == ["console=ttyS0", "a=1", "quiet"]
    host.run("kargs", "--append", "mine=1", "--append", 'with="a space"', "--delete", "quiet")
    assert host.options() == ["console=ttyS0", "a=1", "mine=1", 'with="a space"']
    assert host.versions() == ["1", "1"], "a deployment of the same commit"
    host.switch("2", kargs_d='kargs = ["console=ttyS1", "a=1", "quiet"]\n')
    assert host.options() == ["a=1", "mine=1", 'with="a space"', "console=ttyS1"]
    host.switch("3")
    assert host.options() == ["mine=1", 'with="a space"']
    other = 'match-architectures = ["elsewhere"]\nkargs = ["b"]\n'
    host.switch("4", kargs_d=other)
    assert host.options() == ["mine=1", 'with="a space"']
    host.run("kargs", "--replace", "mine=2")
    assert host.options() == ["mine=2", 'with="a space"']
    entries = host.run("kargs", "--json")
    assert json.loads(entries)["kargs"] == host.options()
    assert host.images() == ["4"], "what was replaced by the same image is dropped"
    before = host.versions()
    for wrong in (["--append", "ostree=/x"], ["--delete", "ostree"], ["--delete", "mine=1"]):
        host.run("kargs", *wrong, code=2)
    for wrong in (["--append", "x" * 1900], ["--append", 'a="\n"']):
        host.run("kargs", *wrong, code=1)
    assert host.versions() == before and host.options() == ["mine=2", 'with="a space"']
    host.run("rollback")
    assert host.options() == ["mine=1", 'with="a space"'], "each has its own"
    bad = host.run("switch", host.image("5", kargs_d="kargs = 3\n"), code=7)
    assert "/usr/lib/bootc/kargs.d/10-test.toml" in bad
    assert host.options() == ["mine=1", 'with="a space"']


def test_garbage_goes_before_a_pull_and_then_what_only_the_settings_keep(host: Host) -> None:
    with disk.tmpfs(host.sysroot, 106):
        for version in ("1", "2", "3"):
            host.switch(version, "--keep=4", size=20 * MIB)
        host.run("pin", "2")
        # Stored, and needed by nothing.
        host.run("image", "pull", host.image("garbage", size=20 * MIB))
        host.run("image", "remove", f"oci:{host.work / 'garbage'}:garbage")
        done = bootc_py(
            "switch", host.image("4", size=30 * MIB), "--sysroot", host.sysroot, "--keep=5"
        )
        assert done.code == 0, done.err
        assert "kept by the settings alone" not in done.err
        assert host.versions() == ["4", "3", "2", "1"]
        done = bootc_py(
            "switch", host.image("5", size=20 * MIB), "--sysroot", host.sysroot, "--keep=5"
        )
        assert done.code == 0, done.err
        assert done.err.count("kept by the settings alone, goes") == 1
        assert host.versions() == ["5", "4", "3", "1"], "what is pinned stays, and the fallback"
        assert host.images() == ["1", "3", "4", "5"]
        before = host.versions()
        host.run("switch", host.image("6", size=60 * MIB), code=8)
        assert host.versions() == [each for each in before if each != "3"]
        store.fsck(host.sysroot / "ostree/repo")


def test_usr_is_writable_until_the_next_boot(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.switch("1")
    monkeypatch.setattr(usr_overlay, "RUN", tmp_path / "run")
    with Sysroot.open(host.sysroot) as sysroot:
        with pytest.raises(BridgeError, match="not the running system"):
            usr_overlay.unlock(sysroot)
        found = sysroot.load().deployments[0]
        root = host.sysroot / "ostree" / found.path
        subprocess.run(["chattr", "-i", root], check=True)
        (root / "var/tmp").mkdir(parents=True)
        status = root.stat()
        sysroot.__dict__["is_booted"] = True
        monkeypatch.setattr(
            "bridge.sysroot.sysroot._booted_directory", lambda: (status.st_dev, status.st_ino)
        )
        top = usr_overlay.unlock(sysroot, root)
        try:
            assert (root / "usr/share/1").stat().st_size == 1000, "it is the same below"
            (root / "usr/share/1").write_text("changed")
            (root / "usr/new").write_text("new")
            assert (top / "upper/new").read_text() == "new"
            assert usr_overlay.over(found) is usr_overlay.Overlay.DEVELOPMENT
            assert (tmp_path / "run" / found.name / "unlocked-development").exists()
            with pytest.raises(BridgeError, match="already"):
                usr_overlay.unlock(sysroot, root)
        finally:
            subprocess.run(["umount", root / "usr"], check=True)
        assert not (root / "usr/new").exists()
        assert (root / "usr/share/1").stat().st_size == 1000, "the deployment is as it was"
    store.fsck(host.sysroot / "ostree/repo")


# -- on a running machine ----------------------------------------------------------------------


@dataclass
class Running:
    """A machine that is upgraded and started again, as `ostree` finalises what is staged."""

    now: Machine
    starts: int = 0

    @property
    def versions(self) -> list[str]:
        texts = [(each / "usr/lib/os-release").read_text() for each in self.now.order]
        return [text.partition("Test ")[2].rstrip('"\n') for text in texts]

    def restart(self) -> None:
        self.now.shutdown()
        self.starts += 1
        before = self.now.booted
        run = before.run.with_name(f"run{self.starts}")
        shutil.copytree(before.run / "images", run / "images")
        self.now = Machine(Booted.of(before.path, self.now.order[0], run))

    def upgrade(self, version: str, *options: str) -> None:
        self.now.publish(version)
        assert self.now.bootc_py("upgrade", *options)["deployment"]["staged"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    path, run = tmp_path / "host", tmp_path / "run"
    image(run / "images", "1")
    done = bootc_py("switch", "--sysroot", path, f"oci:{run}/images", "--quiet")
    assert done.code == 0, done.err
    try:
        (deployment,) = (path / "ostree/deploy/default/deploy").glob("*.0")
        origin = deployment.with_name(f"{deployment.name}.origin")
        origin.write_text(origin.read_text().replace(f"{run}/images", "/run/images"))
        yield Running(Machine(Booted.of(path, deployment, run)))
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", path], check=False)


def test_libostree_keeps_what_the_settings_say_when_it_finalises(running: Running) -> None:
    settings = running.now.etc / "bootc-py"
    settings.mkdir()
    (settings / "settings.toml").write_text("[deployments]\nkeep = 4\n")
    for number in range(2, 7):
        running.upgrade(str(number))
        running.restart()
        expected = [str(each) for each in range(number, 0, -1)][:4]
        assert running.versions == expected
        entries = running.now.status
        shown = [entries["booted"], entries["rollback"], *entries.get("otherDeployments", [])]
        assert [each["pinned"] for each in shown] == [False] * len(expected)
    running.now.bootc_py("pin", "2", "--name", "four")
    running.upgrade("7", "--keep=3")
    assert running.versions == ["6", "5", "4", "3"], "what goes, goes when it is finalised"
    running.restart()
    assert running.versions == ["7", "6", "5", "4"]
    running.upgrade("8", "--keep=2")
    running.restart()
    assert running.versions == ["8", "7", "4"]
    running.now.bootc_py("rollback", "--to", "four")
    assert running.versions == ["4", "8", "7"]
    store.fsck(running.now.booted.path / "ostree/repo")


def test_a_boot_that_is_too_small_is_told_when_staging(running: Running) -> None:
    """libostree would find out when the machine goes down. What the settings keep makes room."""

    def upgrade(version: str, size: int) -> Done:
        kernel = {"usr/lib/modules/6.1.0/vmlinuz": noise(version, size).hex()}
        image(running.now.booted.run / "images", version, **kernel)
        return running.now.booted.bootc_py("upgrade", "--keep=9")

    boot = running.now.booted.path / "boot"
    saved = boot.with_name("saved")
    shutil.copytree(boot, saved, symlinks=True)
    with disk.tmpfs(boot, 8):
        shutil.copytree(saved, boot, symlinks=True, dirs_exist_ok=True)
        for version in ("2", "3", "4"):
            assert upgrade(version, MIB).code == 0
            running.restart()
        assert running.versions == ["4", "3", "2", "1"]
        failed = upgrade("5", 3 * MIB)
        assert failed.code == 8 and "/boot has no room for kernel 6.1.0" in failed.error
        assert running.versions == ["4", "3", "2", "1"] and running.now.status["staged"] is None
        done = upgrade("6", MIB)
        assert done.code == 0, done.err
        assert running.versions == ["4", "3"], "no more goes than has to"
        running.restart()
        assert running.versions == ["6", "4", "3"]
        store.fsck(running.now.booted.path / "ostree/repo")


def test_arguments_changed_on_a_running_machine_are_staged_and_inherited(running: Running) -> None:
    done = running.now.bootc_py("kargs", "--append", "mine=1")
    assert done["deployment"]["staged"] and done["kargs"] == ["mine=1"]
    assert running.now.bootc_py("kargs")["kargs"] == ["mine=1"], "of what boots next"
    assert running.now.bootc_py("kargs", "--append", "more")["kargs"] == ["mine=1", "more"]
    running.upgrade("2")
    running.restart()
    assert running.versions == ["2", "1"]
    assert "options mine=1 more ostree=" in running.now.entry
    running.now.bootc_py("kargs", "--delete", "more")
    running.restart()
    assert running.versions == ["2", "2"]
    assert "options mine=1 ostree=" in running.now.entry


def test_status_tells_of_a_writable_usr_until_the_machine_starts_again(running: Running) -> None:
    (running.now.booted.path / "ostree/deploy/default/var/tmp").mkdir(exist_ok=True)
    assert running.now.status["usrOverlay"] is None
    running.now.bootc_py("usr-overlay")
    shown = running.now.status["usrOverlay"]
    assert shown == {"accessMode": "readWrite", "persistence": "transient"}
    assert "Unlocked: development" in running.now.booted.ostree("admin", "status").out
    again = running.now.booted.bootc_py("usr-overlay")
    assert again.code == 1 and "an overlay lies over /usr already" in again.error
    running.upgrade("2")
    running.restart()
    assert running.now.status["usrOverlay"] is None
