"""What we stage on a running machine, the real `ostree admin` shows and finalises."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig.booted import Booted
from rig.command import bootc_py
from support import images
from support.images import Member

from bridge.sysroot.sysroot import Sysroot

PEERS = [Path("/"), *map(Path, os.environ.get("BOOTC_PY_OSTREE_ROOTS", "").split())]
"""Root directories of systems, each with an `ostree` of its own."""
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


@pytest.mark.parametrize("root", PEERS, ids=str)
def test_what_we_stage_is_shown_and_finalised_by_ostree(machine: Machine, root: Path) -> None:
    (machine.etc / "motd").write_text("mine\n")
    machine.publish("2", {**ETC, "conf.d/two": "2\n", "conf.d/three": "3\n"})
    before = machine.order
    report = machine.bootc_py("upgrade")
    name = f"{report['deployment']['checksum']}.{report['deployment']['serial']}"
    assert report["deployment"]["staged"] and report["deployment"]["bootEntry"] is None
    assert "start --quiet ostree-finalize-staged.service" in machine.booted.asked
    assert machine.order == before
    shown = machine.booted.ostree("admin", "status", root=root).out.splitlines()
    assert next(line.strip() for line in shown if not line.startswith("   ")) == (
        f"default {name} (staged)"
    )
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
