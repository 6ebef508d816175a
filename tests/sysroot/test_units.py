"""The systemd units: systemd finds nothing wrong with them, and they are enabled where they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.errors import BridgeError, NotFound
from bridge.sysroot import image_units

SYSTEM = "usr/lib/systemd/system"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image's root with systemd's own units."""
    for name in ("systemd-analyze", "systemctl"):
        if shutil.which(name) is None:
            pytest.fail(f"{name} is missing: apt install systemd")
    shutil.copytree("/lib/systemd/system", tmp_path / SYSTEM, symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/bin").mkdir()
    for name in (
        "bin/bootc-py",
        "bin/kill",
        "bin/systemctl",
        "lib/systemd/systemd-boot-check-no-failures",
    ):
        (tmp_path / "usr" / name).write_text("#!/bin/sh\n")
        (tmp_path / "usr" / name).chmod(0o755)
    return tmp_path


def verify(root: Path, *names: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}", *names],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or done.stderr
    return done.stderr


def test_systemd_has_nothing_against_them(root: Path) -> None:
    names = [name for name in image_units.install(str(root)) if not name.endswith(".preset")]
    assert len(names) == 9
    # Another check that others have in front of the target, and that waits for all of the boot.
    others = ["systemd-boot-check-no-failures.service", "multi-user.target"]
    subprocess.run(["systemctl", f"--root={root}", "enable", others[0]], check=True)
    assert verify(root, *names, *others) == ""
    unit = root / SYSTEM / "bootc-py-health-good.service"
    unit.write_text(unit.read_text().replace("After=boot-complete", "Affter=boot-complete"))
    assert "'Affter'" in verify(root, unit.name), "it does look"


def test_they_are_enabled_as_the_preset_says(root: Path) -> None:
    names = image_units.install(str(root))
    links = {
        str(path.relative_to(root / "etc/systemd/system"))
        for path in (root / "etc/systemd/system").glob("*/*")
    }
    assert links == {
        "boot-complete.target.requires/bootc-py-health-check.service",
        "multi-user.target.wants/bootc-py-health-arm.service",
        "multi-user.target.wants/bootc-py-health-good.service",
        "sysinit.target.wants/bootc-py-health-begin.service",
        "sysinit.target.wants/bootc-py-health-overdue.timer",
        "timers.target.wants/bootc-py-upgrade.timer",
    }
    assert image_units.install(str(root)) == names, "once more"
    for name, data in image_units.units().items():
        place = "system-preset" if name.endswith(".preset") else "system"
        assert (root / "usr/lib/systemd" / place / name).read_bytes() == data


def test_they_run_a_program_that_is_there(root: Path) -> None:
    programs = {
        line.partition("=")[2].lstrip("-").split()[0]
        for data in image_units.units().values()
        for line in data.decode().splitlines()
        if line.startswith("Exec")
    }
    assert programs == {"/usr/bin/bootc-py", "/usr/bin/kill", "/usr/bin/systemctl"}
    (root / "usr/bin/bootc-py").unlink()
    with pytest.raises(NotFound, match="has no usr/bin/bootc-py"):
        image_units.install(str(root))


def test_no_link_leads_out_of_the_root(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / SYSTEM)
    (root / SYSTEM).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(BridgeError, match="installing units"):
        image_units.install(str(root))
    assert list((tmp_path / "elsewhere").iterdir()) == []
