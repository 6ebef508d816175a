"""Power cuts of whole machines: QEMU is killed at a random moment, and the disk is judged.

What the machine has not flushed is in its own memory, and gone. The disk is looked at from here
first (its journal replayed by mounting it): `ostree fsck`, and entries of which each leads to a
whole deployment with its kernel. Then it is started, and has to come up with one of the deployments
that it had, or was to get.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rig.command import PLAIN_HTTP
from rig.crash import host
from rig.peers import require
from rig.qemu import Machine, booted_checksum

_STARTED = "@@@ work"
_MARK = 60.0
"""Seconds for a machine to come as far as its work, at the most ten times."""

COMMANDS = {
    # What is staged is finalised while the machine goes down: that is part of it.
    "upgrade": f"bootc-py upgrade --json {PLAIN_HTTP} >/dev/null 2>&1; systemctl reboot; sleep 99",
    "rollback": "bootc-py rollback >/dev/null 2>&1; systemctl reboot; sleep 99",
}
REGISTRY = (
    "./docker-registry serve registry.yml >/dev/null 2>&1 & "
    "until bash -c '</dev/tcp/127.0.0.1/5000' 2>/dev/null; do sleep 0.2; done"
)


@dataclass(frozen=True)
class Cut:
    """One round: when the power went, and what the machine booted after that."""

    command: str
    seconds: float
    """After the command began; it had ended by itself where `ended`."""
    ended: bool
    booted: str


def rounds(
    machine: Machine, command: str, count: int, seed: int, whole: float = 0.0
) -> Iterator[Cut]:
    """Cut the power of copies of a machine, `count` times, while it does `command`.

    Fails where a disk is not what it should be. The command takes about `whole` seconds; where that
    is not known, the first round is left to end by itself.
    """
    dice = random.Random(f"{seed} {command}")
    known = _deployments(machine)
    for number in range(count):
        moment = whole * dice.random() if whole else None
        copy = _copy(machine, number)
        took, ended = _run(copy, command, moment)
        whole = max(whole, took)
        booted = _judge(copy, known if command == "rollback" else None)
        shutil.rmtree(copy.work)
        yield Cut(command, took, ended, booted)


def _copy(machine: Machine, number: int) -> Machine:
    work = machine.work / f"round-{number}"
    work.mkdir()
    for path in (machine.disk, machine.data):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", path, work], check=True)
    return Machine(work / machine.disk.name, work / machine.data.name, work)


def _run(machine: Machine, command: str, moment: float | None) -> tuple[float, bool]:
    """Start the machine, and kill it `moment` seconds after its work began; or let it end.

    Returns the seconds since then, and whether it had ended by itself.
    """
    machine.write_script([{"registry": REGISTRY, "work": COMMANDS[command]}], ends=False)
    serial = machine.work / "serial.log"
    process = machine.start(*machine.direct(), serial=serial)
    try:
        _wait_for(serial.with_suffix(".done"), process)
        began = time.monotonic()
        try:
            process.wait(_MARK * 10 if moment is None else moment)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
            assert moment is not None, f"the machine did not end: {serial.read_text()[-2000:]}"
        return time.monotonic() - began, ended
    finally:
        process.kill()
        process.wait()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _MARK * 10
    while not (path.exists() and _STARTED in path.read_text(errors="replace")):
        assert process.poll() is None and time.monotonic() < deadline, "it did not start its work"
        time.sleep(0.1)


def _deployments(machine: Machine) -> set[str]:
    with machine.mounted() as root:
        return {each.deployment for each in host.boots(root, shallow=True)}


def _judge(machine: Machine, known: set[str] | None) -> str:
    """Look at the disk, then start it; the deployment that it booted."""
    with machine.mounted() as root:
        done = subprocess.run(
            [require("ostree"), "fsck", "--quiet", f"--repo={root}/ostree/repo"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = host.boots(root, shallow=True)
        assert found, "nothing is left to boot"
        assert host.names(root) == [each.deployment for each in found]
        if known is not None:
            assert {each.deployment for each in found} == known
        first = found[0].deployment
    (said,) = machine.run([{"status": "bootc-py status --format json"}])
    booted = booted_checksum(said["status"])
    assert first.startswith(booted), f"{booted} was booted, and not {first}"
    return booted
