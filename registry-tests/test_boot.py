"""What was installed boots, upgrades itself and rolls back, in a machine of its own.

All tests with such a machine that are always run are here, one after the other: two at once take
longer. BOOTC_PY_MACHINE_CUTS has the power go more often.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from rig import hosts, qemu
from rig.command import PLAIN_HTTP, bootc_py
from rig.crash import machine as crash
from rig.hosts import Made, agreed, booted
from rig.peers import require
from rig.qemu import Machine

from tools.images import cache


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with hosts.made() as found:
        yield found


@pytest.fixture
def machine(made: Made) -> Iterator[Machine]:
    """A machine with copies of both disks."""
    with cache.scratch(cache.root() / "work") as work:
        yield made.copy(work)


STATUS = {"status": "bootc-py status --format json", "admin": "ostree admin status"}


def test_it_boots_by_its_boot_entry(machine: Machine, made: Made) -> None:
    (said,) = machine.run([{**STATUS, "failed": "systemctl --failed --quiet --no-legend"}])
    assert booted(said["status"]) == made.versions["v1"].digest
    agreed(said["status"], said["admin"])
    assert said["failed"].ok.strip() == ""


def test_it_upgrades_itself_and_rolls_back_through_its_boot_loader(
    machine: Machine, made: Made
) -> None:
    def named(prefix: str, **commands: str) -> dict[str, str]:
        return {f"{prefix}-{name}": text for name, text in ({**STATUS, **commands}).items()}

    first, second, third = machine.run(
        [
            named(
                "first",
                failed="systemctl --failed --quiet --no-legend",
                edit="echo mine >>/etc/motd; echo added >/etc/added.conf; rm /etc/hosts; "
                "echo kept >/var/lib/kept",
                registry=hosts.START_REGISTRY,
                check=f"bootc-py upgrade --check --json {PLAIN_HTTP}",
                # What is staged is gone with the upgrade; its arguments are not.
                kargs="bootc-py kargs --append bootc_py.test=1",
                upgrade=f"bootc-py upgrade --json {PLAIN_HTTP} 2>/dev/null",
                again=f"bootc-py upgrade --json {PLAIN_HTTP} 2>/dev/null",
                queued="ostree admin status",
                human="bootc-py status",
                # /etc is merged when the machine goes down, and not before.
                late="echo late >/etc/late.conf; bootc-py config-diff",
            ),
            named(
                "second",
                etc="tail -n 1 /etc/motd; cat /etc/added.conf /etc/late.conf; test ! -e /etc/hosts",
                var="cat /var/lib/kept",
                release="cat /usr/lib/os-release",
                pin="bootc-py pin 1 --name first; bootc-py status --verbose",
                overlay="touch /usr/x 2>/dev/null; bootc-py usr-overlay && touch /usr/x && "
                "bootc-py status",
                cmdline="cat /proc/cmdline",
                kargs="bootc-py kargs --delete bootc_py.test --json",
                held="bootc-py rollback --to first; bootc-py status --format json",
                undone="bootc-py rollback; bootc-py status --format json",
                rollback="bootc-py rollback --to first",
                queued="ostree admin status",
            ),
            named(
                "third", etc="tail -n 1 /etc/motd; test ! -e /etc/hosts", var="cat /var/lib/kept"
            ),
        ],
        firmware=True,
    )
    v1, v2 = (made.versions[each].digest for each in ("v1", "v2"))

    assert booted(first["first-status"]) == v1
    agreed(first["first-status"], first["first-admin"])
    assert first["first-failed"].ok.strip() == ""
    assert first["first-edit"].code == first["first-registry"].code == 0
    assert json.loads(first["first-check"].ok)["available"] == v2
    report = json.loads(first["first-upgrade"].ok)
    assert report["changed"] and report["image"]["manifestDigest"] == v2
    assert not json.loads(first["first-again"].ok)["changed"]
    commit = report["deployment"]["checksum"]
    assert report["deployment"]["staged"] and report["deployment"]["bootEntry"] is None
    assert "(staged)" in first["first-queued"].ok.splitlines()[0]
    changes = first["first-late"].ok.splitlines()
    assert {"A    added.conf", "A    late.conf", "D    hosts", "M    motd"} <= set(changes)
    assert commit in first["first-queued"].ok.splitlines()[0], first["first-queued"].text
    assert v2 in first["first-human"].ok and v1 in first["first-human"].ok

    assert booted(second["second-status"]) == v2
    agreed(second["second-status"], second["second-admin"])
    assert second["second-etc"].ok.split() == ["mine", "added", "late"]
    assert second["second-var"].ok.strip() == "kept"
    assert "Pinned: yes, as first" in second["second-pin"].ok
    assert "/usr overlay: transient, read/write" in second["second-overlay"].ok
    assert "bootc_py.test=1" in second["second-cmdline"].ok.split()
    kargs = json.loads(second["second-kargs"].ok)
    assert kargs["changed"] and kargs["deployment"]["staged"]
    assert "bootc_py.test=1" not in kargs["kargs"]
    for name, held in (("held", True), ("undone", False)):
        status = json.loads(second[f"second-{name}"].ok.strip().splitlines()[-1])["status"]
        assert status["staged"]["ostree"]["checksum"] == commit
        assert (status["staged"]["downloadOnly"], status["rollbackQueued"]) == (held, held)
    assert second["second-rollback"].ok
    # What is staged, and held back, comes first there.
    order = [each for each in second["second-queued"].ok.splitlines() if "staged" not in each]
    assert commit not in order[0], second["second-queued"].text

    assert booted(third["third-status"]) == v1
    agreed(third["third-status"], third["third-admin"])
    assert third["third-etc"].ok.split() == ["mine"]
    assert third["third-var"].ok.strip() == "kept"
    with machine.mounted() as root:
        fsck = subprocess.run(
            [require("ostree"), "fsck", f"--repo={root}/ostree/repo"],
            capture_output=True,
            text=True,
        )
        assert fsck.returncode == 0, fsck.stdout + fsck.stderr


ATTEMPTS = int(os.environ.get("BOOTC_PY_BOOT_ATTEMPTS", "1"))
"""Boots that a bad version gets; one is a minute less."""
_STATUS_FILE = "usr/lib/sysimage/dpkg/status"
_AFTER_THE_ROLLBACK = f"""\
cd /run/testdata
sha256sum --status --check /etc/first || exit 0
for _ in $(seq 60); do
    bootc-py health status --json >health.json
    grep -q '"good"' health.json && break
done
./docker-registry serve registry.yml >/dev/null 2>&1 &
until bash -c '</dev/tcp/127.0.0.1/5000' 2>/dev/null; do sleep 0.2; done
bootc-py upgrade --apply --quiet --unattended --json {PLAIN_HTTP} >upgrade.json
systemctl poweroff
"""


def test_a_version_that_is_not_healthy_is_rolled_back(machine: Machine, made: Made) -> None:
    """The administrator's check, which the new version fails, comes to it in the merged /etc.
    Nobody is there: the machine reboots by itself, until it is the first version again."""
    v1, v2 = (made.versions[each].digest for each in ("v1", "v2"))
    with machine.mounted() as root:
        (tree,) = root.glob("ostree/deploy/*/deploy/*.0")
        first = tree.name
        packages = hashlib.sha256((tree / _STATUS_FILE).read_bytes()).hexdigest()
        files = {
            "first": f"{packages}  /{_STATUS_FILE}\n",
            "greenboot/check/required.d/first.sh": "sha256sum --check /etc/first\n",
            "greenboot/red.d/red.sh": "echo red >/dev/ttyS1\n",
            "greenboot/green.d/green.sh": "echo green >/dev/ttyS1\n",
            "bootc-py/settings.toml": f"[health]\nattempts = {ATTEMPTS}\n",
        }
        for name, text in files.items():
            (tree / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / "etc" / name).write_text(text)
        done = bootc_py("switch", made.versions["v2"].reference, "--sysroot", root, "--json")
        assert done.code == 0, done.err
    with qemu.mounted_file(machine.data, machine.work / "data") as data:
        (data / "run.sh").write_text(_AFTER_THE_ROLLBACK)

    assert [machine.boot(*machine.direct()) for _ in range(ATTEMPTS)] == ["red\n"] * ATTEMPTS
    assert machine.boot(*machine.direct()) == "green\n"

    with qemu.mounted_file(machine.data, machine.work / "data") as data:
        health = json.loads((data / "health.json").read_text())
        upgrade = json.loads((data / "upgrade.json").read_text())
    assert health["failedImages"] == [v2]
    found = [(each["booted"], each["state"]) for each in health["deployments"]]
    assert found == [(True, "good"), (False, "failed")]
    assert f"{health['deployments'][0]['checksum']}.0" == first
    assert health["deployments"][1]["boots"] == ATTEMPTS
    assert upgrade["kind"] == "UpgradeHeldBack" and v2 in upgrade["reason"] and v1 != v2


CUTS = int(os.environ.get("BOOTC_PY_MACHINE_CUTS", 2))


def test_the_power_goes_while_it_changes_what_it_boots_next() -> None:
    """It boots the old or the new: a sample of what `python3 -m tools.crash machine` does."""
    steps = [crash.COURSE[number % len(crash.COURSE)] for number in range(CUTS)]
    with cache.scratch(cache.root() / "work") as work:
        done = list(crash.cuts(crash.make(work), steps, seed=CUTS))
    assert [each.step for each in done] == steps
