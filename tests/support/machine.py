"""A host that boots: a real sysroot, taken for the running one by what is told of health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.oci.reference import parse_reference
from bridge.ostree.repository import Repository
from bridge.registry.options import NetworkOptions
from bridge.sysroot import failed_images, health, update
from bridge.sysroot import sysroot as sysroot_module
from bridge.sysroot.health import Verdict
from bridge.sysroot.sysroot import Sysroot
from bridge.sysroot.trial import Phase, Trial

from .images import BOOTABLE, directory, file, image, write_layout

ATTEMPTS = 2
MODULES = "usr/lib/modules/6.1.0"


@dataclass
class Machine:
    """A host whose first deployment "boots"."""

    path: Path
    patch: pytest.MonkeyPatch
    boots: int = 0
    digests: dict[str, str] = field(default_factory=dict)

    def switch(self, version: str) -> str:
        """Deploy a version of the image; return its commit."""
        made = image(
            [
                file("usr/lib/os-release", f"ID=t\nPRETTY_NAME=T\nVERSION_ID={version}\n"),
                file(f"{MODULES}/vmlinuz", "kernel"),
                file(f"{MODULES}/initramfs.img", version),
                *(directory(name) for name in ("boot", "sysroot", "var")),
            ],
            labels=BOOTABLE | {"org.opencontainers.image.version": version},
        )
        write_layout(self.path / "layout", made)
        reference = parse_reference(f"oci:{self.path}/layout")
        report = update.switch(self.path / "root", reference, network=NetworkOptions())
        self.digests[version] = report.manifest_digest
        return report.commit

    @contextmanager
    def running(self) -> Iterator[Sysroot]:
        """Open the sysroot with the deployment that was booted last."""
        with Sysroot.open(self.path / "root") as sysroot:
            sysroot.__dict__["is_booted"] = True
            yield sysroot

    def start(self, index: int = 0) -> None:
        """Boot what is first, or has another place."""
        with Sysroot.open(self.path / "root") as sysroot:
            chosen = sysroot.load().deployments[index]
            status = (self.path / "root/ostree" / chosen.path).stat()
        where = (status.st_dev, status.st_ino)
        self.patch.setattr(sysroot_module, "_booted_directory", lambda: where)

    def boot(self) -> Verdict:
        """Boot what is first, and count that."""
        self.start()
        self.boots += 1
        with self.running() as sysroot:
            # /boot is not there so early.
            (self.path / "root/boot").rename(self.path / "boot")
            try:
                return health.begin(sysroot, str(self.boots), ATTEMPTS)
            finally:
                (self.path / "boot").rename(self.path / "root/boot")

    def fail(self) -> Verdict:
        with self.running() as sysroot:
            return health.fail(sysroot, str(self.boots), ATTEMPTS)

    def good(self) -> Verdict:
        with self.running() as sysroot:
            return health.mark_good(sysroot, ATTEMPTS)

    @property
    def order(self) -> list[tuple[str, Phase]]:
        with Sysroot.open(self.path / "root") as sysroot:
            return [
                (each.checksum, Trial.of(each.origin).phase) for each in sysroot.load().deployments
            ]

    @property
    def failed(self) -> tuple[str, ...]:
        with Repository.open(self.path / "root/ostree/repo") as repo:
            return failed_images.load(repo)
