"""A machine boots from the composefs image of its deployment.

The image is Debian forky's, which takes minutes to make, so this runs where
`BOOTC_PY_COMPOSEFS_BOOT=1` is set.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from rig import qemu
from rig.command import bootc_py
from rig.qemu import Machine

from tools.images import build, cache

pytestmark = pytest.mark.skipif(
    not os.environ.get("BOOTC_PY_COMPOSEFS_BOOT"), reason="BOOTC_PY_COMPOSEFS_BOOT is not set"
)


def installed(work: Path) -> Machine:
    """A machine with the image on its disk."""
    layout = build.image("composefs", "forky", "zstd")
    disk, data = work / "disk.img", work / "data.img"
    with disk.open("wb") as file:
        file.truncate(4 << 30)
    done = bootc_py(
        "install", "to-disk", layout.reference, disk, "--bootloader", "none", "--json",
        *(f"--karg={each}" for each in qemu.KARGS),
    )  # fmt: skip
    assert done.code == 0, done.err
    (work / "content").mkdir()
    qemu.data_disk(data, work / "content", 64)
    machine = Machine(disk, data, work)
    machine.prepare()
    return machine


def test_it_boots_from_its_composefs_image() -> None:
    with cache.scratch(cache.root() / "work") as work:
        machine = installed(work)
        with machine.mounted() as root:
            (tree,) = root.glob("ostree/deploy/default/deploy/*.0")
            units = sorted(
                (path for path in (tree / "usr/lib/systemd").rglob("*.service")
                 if path.is_file() and not path.is_symlink()),
                key=os.fsencode,
            )  # fmt: skip
            expected = hashlib.sha256(b"".join(path.read_bytes() for path in units)).hexdigest()
        (said,) = machine.run(
            [
                {
                    "root": "findmnt --noheadings --raw --output FSTYPE,OPTIONS /",
                    "status": "ostree admin status",
                    "sums": "cd / && find usr/lib/systemd -name '*.service' -type f -print0 "
                    "| LC_ALL=C sort -z | xargs -0 cat | sha256sum",
                    "usr": "touch /usr/x",
                    "etc": "echo mine >/etc/mine && cat /etc/mine",
                    "var": "echo kept >/var/lib/kept && cat /var/lib/kept",
                    "booted": "grep -q composefs /run/ostree-booted",
                }
            ]
        )
    assert said["root"].ok.split()[0] == "overlay" and "cfsroot-lower" in said["root"].text
    assert tree.name.partition(".")[0] in said["status"].ok.splitlines()[0]
    assert len(units) > 50 and said["sums"].ok.split()[0] == expected
    assert said["usr"].code != 0 and "Read-only file system" in said["usr"].text
    assert said["etc"].ok.strip() == "mine" and said["var"].ok.strip() == "kept"
    assert said["booted"].code == 0
