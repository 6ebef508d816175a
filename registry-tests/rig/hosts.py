"""The host image installed on a disk, and a registry for it on another: what is booted in QEMU."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig import efi_loaders, published, qemu
from rig.command import PLAIN_HTTP, bootc_py
from rig.peers import require
from rig.qemu import Machine, Said
from rig.registry import run_registry
from tools.images import build, cache
from tools.images.layout import Layout
from tools.images.spec import VERSIONS

NAME = "os/host"
REGISTRY = "127.0.0.1:5000"
"""Where a machine's own registry listens."""
START_REGISTRY = (
    "./docker-registry serve registry.yml >/dev/null 2>&1 & "
    f"until bash -c '</dev/tcp/{REGISTRY.replace(':', '/')}' 2>/dev/null; do sleep 0.2; done"
)
_CONFIG = f"""\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: /run/{qemu.DATA}/registry}}}}
http: {{addr: {REGISTRY}}}
"""
_DISK_SIZE = 4 << 30
_DATA_MEBIBYTES = 640


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


@contextmanager
def made() -> Iterator[Made]:
    """Version 1, installed from a registry with GRUB 2.14 on the EFI system partition; version 2 in
    the registry that the machine is going to run."""
    versions = {each: build.image("host", each, "zstd") for each in VERSIONS}
    with cache.scratch(cache.root() / "work") as work:
        storage = published.storage({f"{NAME}:v1": versions["v1"]})
        with run_registry(storage, read_only=True) as registry:
            machine = installed(
                work, f"{registry.host}/{NAME}:v1",
                f"{NAME}:stable", {f"{NAME}:stable": versions["v2"]},
                "--bootloader=grub", "--bootloader-from", efi_loaders.root("forky"),
            )  # fmt: skip
        yield Made(machine.disk, machine.data, versions)


def installed(
    work: Path, image: str, follows: str, stock: Mapping[str, Layout], *options: str | Path
) -> Machine:
    """A machine in the directory `work`, with `image` on its disk. `stock` is what its own registry
    has, by REPOSITORY:TAG; it follows the image `follows` of that."""
    content = work / "content"
    (content / "registry").mkdir(parents=True)
    published.clone(published.storage(stock), content / "registry")
    shutil.copy(require("docker-registry"), content)
    (content / "registry.yml").write_text(_CONFIG)
    return on_disk(work, image, content, _DATA_MEBIBYTES, follows, *options)


def on_disk(
    work: Path, image: str, content: Path, mebibytes: int, follows: str, *options: str | Path
) -> Machine:
    """A machine in the directory `work`, with `image` on its disk, and `content` on a data disk
    of that size. It follows the image `follows` of its own registry."""
    disk, data = work / "disk.img", work / "data.img"
    with disk.open("wb") as file:
        file.truncate(_DISK_SIZE)
    done = bootc_py(
        "install", "to-disk", image, disk, PLAIN_HTTP, "--json",
        "--target-imgref", f"{REGISTRY}/{follows}",
        *(f"--karg={each}" for each in qemu.KARGS), *options,
    )  # fmt: skip
    assert done.code == 0, done.err
    qemu.data_disk(data, content, mebibytes)
    machine = Machine(disk, data, work)
    machine.prepare()
    return machine


def booted(said: Said) -> str:
    """The digest of the image that runs, from `status`."""
    digest: str = json.loads(said.ok)["status"]["booted"]["image"]["imageDigest"]
    return digest


def agreed(status: Said, admin: Said) -> None:
    """`ostree admin status` marks the deployment as booted that `status` says is."""
    of_it = json.loads(status.ok)["status"]["booted"]["ostree"]
    name = f"{of_it['stateroot']} {of_it['checksum']}.{of_it['deploySerial']}"
    lines = admin.ok.splitlines()
    assert f"* {name}" in [line.strip() for line in lines], admin.text
