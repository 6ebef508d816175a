"""The host image installed on a disk, and a registry for it on another: what is booted in QEMU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig import efi_loaders, published, qemu
from rig.command import PLAIN_HTTP, bootc_py
from rig.peers import require
from rig.qemu import Machine
from rig.registry import run_registry
from tools.images import build, cache
from tools.images.layout import Layout
from tools.images.spec import VERSIONS

NAME = "os/host"
GUEST = f"127.0.0.1:5000/{NAME}:stable"
"""What the machine follows: a registry of its own."""
_REGISTRY = """\
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: /run/testdata/registry}}
http: {addr: 127.0.0.1:5000}
"""


@dataclass(frozen=True)
class Made:
    """A disk that was installed, a disk with a registry, and what is in them."""

    disk: Path
    data: Path
    versions: dict[str, Layout]

    def copy(self, work: Path) -> Machine:
        """A machine with copies of both disks in the directory `work`."""
        for path in (self.disk, self.data):
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", path, work], check=True)
        return Machine(work / self.disk.name, work / self.data.name, work)

    def machine(self, command: str, work: Path) -> Machine:
        """A machine on which little is left to do for an upgrade, or that can be rolled back."""
        machine = self.copy(work)
        storage = published.storage({f"{NAME}:v2": self.versions["v2"]})
        with machine.mounted() as root, run_registry(storage, read_only=True) as registry:
            image = f"{registry.host}/{NAME}:v2"
            words = (
                ("image", "pull", image, "--repo", root / "ostree/repo")
                if command == "upgrade"
                else ("switch", image, "--sysroot", root)
            )
            done = bootc_py(*words, PLAIN_HTTP, "--quiet")
            assert done.code == 0, done.err
        return machine


@contextmanager
def made() -> Iterator[Made]:
    """Version 1, installed from a registry with GRUB 2.14 on the EFI system partition; version 2 in
    the registry that the machine is going to run."""
    versions = {each: build.image("host", each, "zstd") for each in VERSIONS}
    with cache.scratch(cache.root() / "work") as work:
        disk = work / "disk.img"
        with disk.open("wb") as file:
            file.truncate(4 << 30)
        storage = published.storage({f"{NAME}:v1": versions["v1"]})
        with run_registry(storage, read_only=True) as registry:
            done = bootc_py(
                "install", "to-disk", f"{registry.host}/{NAME}:v1", disk, PLAIN_HTTP, "--json",
                "--target-imgref", GUEST, "--bootloader", "grub",
                "--bootloader-from", efi_loaders.root("forky"),
                *(f"--karg={each}" for each in qemu.KARGS),
            )  # fmt: skip
        assert done.code == 0, done.err
        content = work / "content"
        (content / "registry").mkdir(parents=True)
        published.clone(published.storage({f"{NAME}:stable": versions["v2"]}), content / "registry")
        shutil.copy(require("docker-registry"), content)
        (content / "registry.yml").write_text(_REGISTRY)
        data = work / "data.img"
        qemu.data_disk(data, content, 640)
        Machine(disk, data, work).prepare()
        yield Made(disk, data, versions)
