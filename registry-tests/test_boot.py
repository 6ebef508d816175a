"""What was installed boots, upgrades itself and rolls back, in a machine of its own."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator

import pytest
from rig import hosts
from rig.command import PLAIN_HTTP
from rig.crash import machine as power
from rig.hosts import Made
from rig.peers import require
from rig.qemu import Machine, Said

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


_WHOLE = {"upgrade": 30.0, "rollback": 8.0}
"""Seconds that the commands take here, the way down of the machine included."""
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
                edit="echo mine >>/etc/motd; echo added >/etc/added.conf; rm /etc/hosts; "
                "echo kept >/var/lib/kept",
                registry="./docker-registry serve registry.yml >/dev/null 2>&1 & "
                "until bash -c '</dev/tcp/127.0.0.1/5000' 2>/dev/null; do sleep 0.2; done",
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
    assert "/usr is writable until the next boot." in second["second-overlay"].ok
    assert "bootc_py.test=1" in second["second-cmdline"].ok.split()
    kargs = json.loads(second["second-kargs"].ok)
    assert kargs["changed"] and kargs["deployment"]["staged"]
    assert "bootc_py.test=1" not in kargs["kargs"]
    for name, held in (("held", True), ("undone", False)):
        status = json.loads(second[f"second-{name}"].ok.splitlines()[-1])["status"]
        assert status["staged"]["ostree"]["checksum"] == commit
        assert (status["staged"]["downloadOnly"], status["rollbackQueued"]) == (held, held)
    assert second["second-rollback"].ok
    assert commit not in second["second-queued"].ok.splitlines()[0]

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


@pytest.mark.parametrize("command", power.COMMANDS)
def test_the_power_goes(made: Made, command: str) -> None:
    """More of it: `python3 -m tools.crash machine`."""
    with cache.scratch(cache.root() / "work") as work:
        machine = made.machine(command, work)
        seed = random.randrange(1000)
        print(f"seed {seed}")
        assert len(list(power.rounds(machine, command, 1, seed, whole=_WHOLE[command]))) == 1
