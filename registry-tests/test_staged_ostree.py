"""What we stage on a running machine, the real `ostree admin` shows and finalises."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import forky
from rig.booted import Booted
from rig.command import bootc_py
from support import images
from support.images import Member

from bridge.sysroot.sysroot import Sysroot

ETC = {"hostname": "os\n", "motd": "welcome\n", "conf.d/one": "one\n", "conf.d/two": "two\n"}


def image(path: Path, version: str, etc: Mapping[str, str | None] = ETC, **more: str) -> None:
    """Adds version `version`, as tag v1, to a layout in `path`; None makes a directory."""
    names = ("boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "usr", "var")
    members: list[Member] = [images.directory(each) for each in names]
    members += [
        images.symlink("ostree", "sysroot/ostree"),
        images.file("usr/lib/modules/6.1.0/vmlinuz", "kernel"),
        images.file("usr/lib/modules/6.1.0/initramfs.img", f"initramfs {version}"),
        images.file("usr/lib/os-release", f'ID=test\nPRETTY_NAME="Test {version}"\n'),
        images.file("usr/lib/tmpfiles.d/var.conf", "d /var/log\n"),
        *(images.file(name, text) for name, text in more.items()),
    ]
    for name, text in etc.items():
        place = f"etc/{name}"
        members.append(images.directory(place) if text is None else images.file(place, text))
    labels = {**images.BOOTABLE, "org.opencontainers.image.version": version}
    shutil.rmtree(path, ignore_errors=True)
    images.write_layout(path, {"os": images.image(members, labels=labels)})


@dataclass(frozen=True)
class Machine:
    """A machine that runs version 1, and follows `image` in /run/images."""

    booted: Booted

    @property
    def etc(self) -> Path:
        return self.booted.deployment / "etc"

    def publish(self, version: str, etc: Mapping[str, str | None] = ETC) -> None:
        """Puts a version where the machine looks for it."""
        image(self.booted.run / "images", version, etc)

    def bootc_py(self, *arguments: str) -> Any:
        """The JSON that a command prints, which must succeed."""
        done = self.booted.bootc_py(*arguments, "--json", "--quiet")
        assert done.code == 0, done.err
        return done.json

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.bootc_py("status")["status"]
        return found

    def shutdown(self, root: Path = Path("/")) -> None:
        """What ostree-finalize-staged.service does when the machine goes down."""
        done = self.booted.ostree("admin", "finalize-staged", root=root)
        assert done.code == 0, done.err

    def listed(self, root: Path = Path("/")) -> list[str]:
        """The deployments that `ostree admin status` shows."""
        lines = self.booted.ostree("admin", "status", root=root).out.splitlines()
        return [line.strip() for line in lines if not line.startswith("   ")]

    @property
    def order(self) -> list[Path]:
        """The deployments that boot, the first being the one that does."""
        with Sysroot.open(self.booted.path) as sysroot:
            found = sysroot.load()
            assert found.problems == ()
            return [self.booted.path / "ostree" / each.path for each in found.deployments]

    @property
    def entry(self) -> str:
        """The boot entry of what boots next."""
        entries = sorted((self.booted.path / "boot/loader/entries").iterdir())
        return entries[-1].read_text()


@pytest.fixture(params=["Debian 12", "forky"])
def root(request: pytest.FixtureRequest) -> Path:
    """The root directory of a system with an `ostree` of its own."""
    return Path("/") if request.param == "Debian 12" else forky.root(forky.OSTREE)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    host, run = tmp_path / "host", tmp_path / "run"
    image(run / "images", "1")
    done = bootc_py("switch", "--sysroot", host, f"oci:{run}/images", "--quiet")
    assert done.code == 0, done.err
    try:
        (deployment,) = (host / "ostree/deploy/default/deploy").glob("*.0")
        origin = deployment.with_name(f"{deployment.name}.origin")
        origin.write_text(origin.read_text().replace(f"{run}/images", "/run/images"))
        entry = host / "boot/loader/entries/ostree-1.conf"
        entry.write_text(entry.read_text().replace("options ", "options root=LABEL=root rw "))
        yield Machine(Booted.of(host, deployment, run))
    finally:
        subprocess.run(["chattr", "-R", "-f", "-i", host], check=False)


def test_what_we_stage_is_shown_and_finalised_by_ostree(machine: Machine, root: Path) -> None:
    (machine.etc / "motd").write_text("mine\n")
    machine.publish("2", {**ETC, "conf.d/two": "2\n", "conf.d/three": "3\n"})
    before = machine.order
    report = machine.bootc_py("upgrade")
    name = f"{report['deployment']['checksum']}.{report['deployment']['serial']}"
    assert report["deployment"]["staged"] and report["deployment"]["bootEntry"] is None
    assert "start --quiet ostree-finalize-staged.service" in machine.booted.asked
    assert machine.order == before
    assert machine.listed(root)[0] == f"default {name} (staged)"
    staged = machine.status["staged"]
    assert staged["ostree"]["checksum"] == report["deployment"]["checksum"]
    assert staged["image"]["version"] == "2" and not staged["downloadOnly"]

    # /etc is merged when the machine goes down, and not before.
    (machine.etc / "late").write_text("late\n")
    (machine.etc / "conf.d/one").unlink()
    machine.shutdown(root)
    new, old = machine.order
    assert (new.name, old) == (name, machine.booted.deployment)
    texts = {each: (new / "etc" / each) for each in (*ETC, "late", "conf.d/three")}
    assert {each: path.read_text() for each, path in texts.items() if path.exists()} == {
        "hostname": "os\n",
        "motd": "mine\n",
        "conf.d/two": "2\n",
        "conf.d/three": "3\n",
        "late": "late\n",
    }
    assert "options root=LABEL=root rw ostree=/ostree/boot." in machine.entry
    assert machine.status["staged"] is None
    assert machine.booted.ostree("fsck", "--repo=/ostree/repo", root=root).code == 0


def make_directory(etc: Path) -> None:
    (etc / "motd").unlink()
    (etc / "motd").mkdir()
    (etc / "motd/mine").write_text("mine\n")


CONFLICTS: list[tuple[Callable[[Path], object], dict[str, str | None], str]] = [
    (
        lambda etc: (etc / "motd").write_text("mine\n"),
        {"motd": None, "motd/x": ""},
        "/etc/motd is a file here and a directory in the image",
    ),
    (
        lambda etc: (etc / "conf.d/mine").write_text("mine\n"),
        {"conf.d": ""},
        "/etc/conf.d is a directory here and a file in the image",
    ),
    # What libostree fails on at shutdown:
    (
        lambda etc: (etc / "conf.d/one").unlink(),
        {"conf.d": ""},
        "/etc/conf.d/one is deleted here and /etc/conf.d is a file in the image",
    ),
    (
        lambda etc: os.mkfifo(etc / "fifo"),
        {"fifo": None},
        "/etc/fifo is a special file here and a directory in the image",
    ),
    # And where it would forget what is in it:
    (
        make_directory,
        {"motd": None, "motd/x": ""},
        "/etc/motd was made a directory here and in the image",
    ),
]


def test_an_etc_that_cannot_be_merged_at_shutdown_is_told_when_staging(
    machine: Machine, tmp_path: Path
) -> None:
    before = machine.order
    shutil.copytree(machine.etc, tmp_path / "etc")
    for number, (edit, new, said) in enumerate(CONFLICTS, 2):
        etc = {name: text for name, text in ETC.items() if name.split("/")[0] not in new}
        machine.publish(str(number), {**etc, **new})
        edit(machine.etc)
        refused = machine.booted.bootc_py("upgrade", "--quiet")
        assert refused.code == 1
        assert refused.error == f"error: merging /etc: {said}; move these aside and try again"
        assert machine.status["staged"] is None and machine.order == before
        assert {each.name for each in machine.booted.deployment.parent.glob("*.0")} == {
            machine.booted.deployment.name
        }
        for path in machine.etc.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(tmp_path / "etc", machine.etc, dirs_exist_ok=True)


def test_a_directory_that_was_closed_stays_so(machine: Machine, root: Path) -> None:
    (machine.etc / "conf.d").chmod(0o700)
    (machine.etc / "new").mkdir(mode=0o750)
    os.mkfifo(machine.etc / "new/fifo")  # which libostree before 2024.2 does not copy
    (machine.etc / "new/file").write_text("new\n")
    machine.publish("2")
    machine.bootc_py("upgrade")
    machine.shutdown(root)
    etc = machine.order[0] / "etc"
    assert (etc / "conf.d").stat().st_mode & 0o7777 == 0o700
    assert (etc / "new").stat().st_mode & 0o7777 == 0o750
    assert [each.name for each in (etc / "new").iterdir()] == ["file"]


def test_what_is_only_downloaded_waits(machine: Machine, root: Path) -> None:
    before = machine.order
    machine.publish("2")
    # An update that was seen is in the status until it is there.
    check = machine.booted.bootc_py("upgrade", "--check", "--json")
    assert check.code == 0 and check.json["changed"] and check.json["version"] == "2"
    seen = machine.status["booted"]["cachedUpdate"]
    assert (seen["version"], seen["imageDigest"]) == ("2", check.json["available"])

    report = machine.bootc_py("upgrade", "--download-only")
    assert report["deployment"]["staged"] and report["deployment"]["downloadOnly"]
    assert machine.status["staged"]["downloadOnly"]
    machine.shutdown(root)
    assert machine.order == before and machine.status["staged"]["downloadOnly"]

    # Wanted, locked again, wanted: the one deployment all the time.
    serials = [machine.bootc_py("upgrade")["deployment"]["serial"]]
    assert not machine.status["staged"]["downloadOnly"]
    serials.append(machine.bootc_py("upgrade", "--download-only")["deployment"]["serial"])
    assert machine.status["staged"]["downloadOnly"]
    shutil.rmtree(machine.booted.run / "images")  # nothing is fetched
    found = machine.bootc_py("upgrade", "--from-downloaded", "--apply")
    serials.append(found["deployment"]["serial"])
    assert serials == [0, 0, 0] and not machine.status["staged"]["downloadOnly"]
    assert machine.booted.asked[-1] == "reboot"
    machine.shutdown(root)
    assert len(machine.order) == 2 and machine.order[1:] == before
    assert machine.order[0].name == f"{report['deployment']['checksum']}.0"


def test_what_was_downloaded_is_there_after_a_power_failure(machine: Machine) -> None:
    before = machine.order
    machine.publish("2")
    commit = machine.bootc_py("upgrade", "--download-only")["deployment"]["checksum"]
    shutil.rmtree(machine.booted.run / "ostree")
    shutil.rmtree(machine.booted.run / "images")
    (machine.booted.run / "ostree").mkdir()
    assert machine.status["staged"] is None and machine.order == before
    done = machine.bootc_py("upgrade", "--from-downloaded")["deployment"]
    assert (done["checksum"], done["staged"]) == (commit, True)
    machine.shutdown()
    assert [each.name for each in machine.order] == [
        f"{commit}.{done['serial']}",
        machine.booted.deployment.name,
    ]
    deployed = {each.name for each in machine.booted.deployment.parent.iterdir() if each.is_dir()}
    assert deployed == {each.name for each in machine.order}, "what was staged before is gone"


def test_nothing_newer(machine: Machine) -> None:
    machine.publish("2")
    machine.bootc_py("upgrade", "--check")
    machine.publish("1")
    check = machine.booted.bootc_py("upgrade", "--check", "--json")
    assert check.code == 77 and not check.json["changed"]
    assert machine.status["booted"]["cachedUpdate"] is None
    none = machine.booted.bootc_py("upgrade", "--from-downloaded", "--json")
    assert none.code == 4 and "nothing was downloaded" in none.error
    machine.bootc_py("upgrade", "--apply")
    assert machine.booted.asked == [], "no restart for nothing"


def test_a_newer_one_takes_the_place_of_what_is_staged(machine: Machine, root: Path) -> None:
    names = []
    for version in ("2", "3"):
        machine.publish(version)
        deployment = machine.bootc_py("upgrade")["deployment"]
        names.append(f"{deployment['checksum']}.{deployment['serial']}")
    assert machine.listed(root) == [
        f"default {names[1]} (staged)",
        f"* default {machine.booted.deployment.name}",
    ]
    assert not (machine.booted.deployment.parent / names[0]).exists()
    machine.shutdown(root)
    assert [each.name for each in machine.order] == [names[1], machine.booted.deployment.name]


def test_what_is_staged_survives_a_rollback(machine: Machine, root: Path) -> None:
    machine.publish("2")
    machine.bootc_py("upgrade")
    machine.shutdown(root)
    newer, older = machine.order
    # Up to here version 1 runs: what was finalised is what a rollback undoes.
    machine.publish("3")
    staged = machine.bootc_py("upgrade")["deployment"]["checksum"]
    assert machine.bootc_py("rollback")["reverted"], "of the two in the boot order"
    assert machine.order == [older, newer]
    assert machine.bootc_py("rollback")["deployment"]["checksum"] == newer.name.split(".")[0]
    status = machine.status
    assert status["rollbackQueued"] and status["staged"]["downloadOnly"]
    machine.shutdown(root)
    assert machine.order == [newer, older], "the rollback stands"
    machine.bootc_py("rollback")
    status = machine.status
    assert not (status["rollbackQueued"] or status["staged"]["downloadOnly"])
    machine.shutdown(root)
    assert machine.order[0].name == f"{staged}.0" and older in machine.order


def test_what_another_tool_staged(machine: Machine, root: Path) -> None:
    commit = machine.booted.deployment.name.split(".")[0]
    done = machine.booted.ostree("admin", "deploy", "--stage", "--os=default", commit, root=root)
    assert done.code == 0, done.err
    staged = machine.status["staged"]["ostree"]
    assert (staged["checksum"], staged["deploySerial"]) == (commit, 1)
    # It names no kernel arguments: they are those of the deployment that runs.
    assert machine.bootc_py("kargs")["kargs"] == ["root=LABEL=root", "rw"]
    machine.publish("2")
    machine.bootc_py("upgrade")
    assert len(machine.listed(root)) == 2
    machine.shutdown(root)
    assert "options root=LABEL=root rw ostree=" in machine.entry


def test_kernel_arguments_and_pins_are_finalised(machine: Machine) -> None:
    machine.bootc_py("pin", "0")
    machine.publish("2")
    machine.bootc_py("upgrade")
    machine.bootc_py("kargs", "--append", "quiet")
    machine.shutdown()
    assert "options root=LABEL=root rw quiet ostree=" in machine.entry
    assert "Pinned: yes" in machine.booted.ostree("admin", "status").out


def test_what_rpm_ostree_changed_is_not_replaced(machine: Machine) -> None:
    origin = machine.booted.deployment.with_name(f"{machine.booted.deployment.name}.origin")
    origin.write_text(f"{origin.read_text()}[packages]\nrequested=vim;\n")
    machine.publish("2")
    for command in (["upgrade"], ["switch", "oci:/run/images"]):
        refused = machine.booted.bootc_py(*command, "--quiet")
        assert refused.code == 1 and "rpm-ostree reset" in refused.error
    assert machine.status["booted"]["incompatible"]


def test_local_changes_are_those_that_ostree_shows(machine: Machine) -> None:
    make_directory(machine.etc)
    (machine.etc / "conf.d/one").write_text("mine\n")
    (machine.etc / "conf.d/two").unlink()
    (machine.etc / "new").mkdir()
    (machine.etc / "new/file").symlink_to("nowhere")
    lines = machine.booted.bootc_py("config-diff").out.splitlines()
    assert lines == [
        "M    conf.d/one",
        "D    conf.d/two",
        "M    motd",
        "A    new",
        "A    new/file",
    ]
    assert sorted(lines) == sorted(machine.booted.ostree("admin", "config-diff").out.splitlines())
    assert machine.bootc_py("config-diff") == {
        "apiVersion": "bootc-py/v1",
        "kind": "ConfigDiff",
        "modified": ["conf.d/one", "motd"],
        "removed": ["conf.d/two"],
        "added": ["new", "new/file"],
    }
