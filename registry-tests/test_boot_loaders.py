"""Boot loaders that need more than boot entries, in machines that upgrade themselves.

Minutes each, so only with `BOOTC_PY_BOOT_LOADERS=1` in the environment.
"""

from __future__ import annotations

import json
import os

import pytest
from rig import efi_loaders, hosts
from rig.command import PLAIN_HTTP
from rig.hosts import booted

from tools.images import build, cache
from tools.images.spec import VERSIONS

pytestmark = pytest.mark.skipif(
    os.environ.get("BOOTC_PY_BOOT_LOADERS") != "1", reason="minutes; BOOTC_PY_BOOT_LOADERS=1"
)
# The loader, whose root directory it is from, the root's file system, and how to look at it.
MACHINES = {
    "systemd-boot": (
        "systemd", "forky", "xfs",
        "cat /boot/efi/loader/entries/*.conf; ls -R /boot/efi/ostree",
    ),
    "Debian 12's signed GRUB": ("grub", "bookworm", "ext4", "cat /boot/loader/grub.cfg"),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_it_upgrades_itself_and_rolls_back(name: str) -> None:
    loader, suite, filesystem, look = MACHINES[name]
    versions = {each: build.image("host", each, "zstd") for each in VERSIONS}
    tag = f"{hosts.NAME}:stable"
    with cache.scratch(cache.root() / "work") as work:
        machine = hosts.installed(
            work, versions["v1"].reference, tag, {tag: versions["v2"]}, f"--bootloader={loader}",
            "--bootloader-from", efi_loaders.root(suite), f"--filesystem={filesystem}",
        )  # fmt: skip
        status = "bootc-py status --format json"
        admin = "ostree admin status"
        first, second, third = machine.run(
            [
                {
                    "status-1": status,
                    "registry": hosts.START_REGISTRY,
                    "root": "findmnt -no FSTYPE /sysroot",
                    "upgrade": f"bootc-py upgrade --json {PLAIN_HTTP} 2>/dev/null",
                    "look-1": look,
                    "admin-1": admin,
                },
                {"status-2": status, "look-2": look, "rollback": "bootc-py rollback"},
                {"status-3": status, "admin-3": admin, "failed": "systemctl --failed --quiet"},
            ],
            firmware=True,
        )
    v1, v2 = (versions[each].digest for each in VERSIONS)
    assert booted(first["status-1"]) == v1
    assert first["root"].ok.strip() == filesystem
    deployment = json.loads(first["upgrade"].ok)["deployment"]
    # Not staged: libostree would not tell the boot loader.
    assert not deployment["staged"] and deployment["bootEntry"] == "ostree-2.conf"
    assert first["look-1"].ok.count("(ostree:") == 2
    assert booted(second["status-2"]) == v2
    assert second["rollback"].code == 0, second["rollback"].text
    assert booted(third["status-3"]) == v1
    assert third["failed"].ok.strip() == ""
