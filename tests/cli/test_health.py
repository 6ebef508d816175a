"""`health`, `upgrade --unattended` and `container install-units`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.machine import ATTEMPTS, Machine

from bridge.sysroot import checks, health
from bridge.sysroot import settings as settings_module
from bridge.sysroot.settings import HealthSettings
from bridge.sysroot.sysroot import Sysroot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can deploy")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what is asked of it."""
    log = tmp_path / "systemctl.log"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    log.touch()
    return log


@pytest.fixture
def booted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine after its first, good boot, with a second version that boots next."""
    machine.switch("1")
    machine.boot()
    machine.good()
    machine.switch("2")
    machine.start()
    monkeypatch.setattr(Sysroot, "is_booted", True)
    monkeypatch.setattr(settings_module, "load", lambda: HealthSettings(ATTEMPTS))
    return machine


def test_from_the_first_boot_to_the_rollback(
    booted: Machine, run: Any, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = booted.path / "root"
    boot_ids = iter(["1", "1", "2", "2", "3", "3"])
    monkeypatch.setattr(health, "boot_id", lambda: next(boot_ids))

    def verb(name: str, *more: str) -> tuple[str, int, str]:
        done = run("health", name, *more, "--sysroot", root, "--json")
        assert (done.code, done.err, done.document["kind"]) == (0, "", "HealthVerdict")
        return done.document["state"], done.document["boots"], done.document["step"]

    assert verb("begin") == ("trial", 1, "go-on")
    assert verb("fail") == ("trial", 1, "reboot")
    assert systemctl.read_text() == "reboot\n"
    assert verb("begin") == ("trial", 2, "go-on")
    shown = run("health", "status", "--sysroot", root)
    assert "● default" in shown.out and "on trial, 2 of 2 boots" in shown.out
    boot_ids = iter(["3", "3", "4"])
    assert verb("begin") == ("trial", 2, "roll-back")
    assert systemctl.read_text() == "reboot\nstart --no-block bootc-py-health-fail.service\n"
    assert verb("fail", "--no-reboot") == ("failed", 2, "roll-back")
    assert len(systemctl.read_text().splitlines()) == 2
    shown = run("health", "status", "--sysroot", root, "--json").document
    assert [(each["state"], each["booted"]) for each in shown["deployments"]] == [
        ("good", False),
        ("failed", True),
    ]
    assert shown["attempts"] == ATTEMPTS and shown["failedImages"] == [booted.digests["2"]]
    assert verb("fail") == ("failed", 2, "go-on")
    assert len(systemctl.read_text().splitlines()) == 2
    done = run("health", "mark-good", "--sysroot", root)
    assert done.code == 0 and done.out.endswith(": good, 0 boots; go-on\n")
    assert "failed here" not in run("health", "status", "--sysroot", root).out


def test_a_reboot_that_cannot_be_asked_for_is_an_error(
    booted: Machine, run: Any, systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "boot_id", lambda: "1")
    assert run("health", "begin", "--sysroot", booted.path / "root", "--quiet").out == ""
    program = systemctl.parent / "bin/systemctl"
    program.write_text("#!/bin/sh\necho Access denied >&2; exit 4\n")
    done = run("health", "fail", "--sysroot", booted.path / "root")
    assert (done.code, done.error) == (1, "error: systemctl reboot: Access denied")


def test_checks_are_run_until_a_required_one_fails(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "load", lambda: HealthSettings(3, 60, ("off.sh",)))
    original = checks.programs
    monkeypatch.setattr(checks, "programs", lambda kind, off=(): original(kind, off, root=tmp_path))
    top = tmp_path / "etc/greenboot"
    texts = {
        "check/required.d/1.sh": "echo one",
        "check/required.d/off.sh": "exit 1",
        "check/wanted.d/2.sh": "exit 2",
        "check/wanted.d/3.sh": "echo three",
        "green.d/g.sh": "echo green",
        "red.d/r.sh": "echo red; exit 1",
    }
    for name, text in texts.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    done = run("health", "check", "--json")
    assert done.code == 0 and done.document["healthy"]
    assert [(each["path"][-4:], each["problem"]) for each in done.document["checks"]] == [
        ("1.sh", None),
        ("2.sh", "exit code 2"),
        ("3.sh", None),
    ]
    assert done.err.splitlines() == [
        f"warning: wanted check {top}/check/wanted.d/2.sh: exit code 2"
    ]
    (top / "check/required.d/1.sh").write_text("exit 7")
    done = run("health", "check", "--json")
    assert done.code == 1 and not done.document["healthy"]
    assert len(done.document["checks"]) == 1
    assert done.error == f"error: required check {top}/check/required.d/1.sh: exit code 7"
    assert run("health", "run", "green").err == ""
    assert run("health", "run", "red").err == f"warning: {top}/red.d/r.sh: exit code 1\n"


def test_nobody_upgrades_unattended_to_what_failed(
    machine: Machine, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine.path / "root"

    def upgrade(**settings: bool) -> str:
        monkeypatch.setattr(
            settings_module, "load", lambda: HealthSettings(ATTEMPTS, 1, (), **settings)
        )
        done = run("upgrade", "--unattended", "--sysroot", root, "--json")
        assert done.code == 0
        return str(done.document.get("reason", done.document.get("changed")))

    def is_booted(sysroot: Sysroot) -> bool:
        return True

    first = machine.switch("1")
    machine.switch("2")
    machine.boot()
    with monkeypatch.context() as patch:
        patch.setattr(Sysroot, "is_booted", property(is_booted))
        assert "it is not known yet whether" in upgrade()
    machine.fail()
    machine.boot()
    machine.fail()
    assert machine.order[0][0] == first
    machine.boot()
    machine.good()
    machine.start(1)
    with monkeypatch.context() as patch:
        patch.setattr(Sysroot, "is_booted", property(is_booted))
        assert upgrade().endswith("is good; `rollback` to that")
    machine.start()
    assert upgrade() == (
        f"{machine.digests['2']} failed on this host; `upgrade` by hand deploys it all the same"
    )
    assert run("health", "status", "--sysroot", root, "--json").document["failedImages"] == [
        machine.digests["2"]
    ]
    assert machine.order[0][0] == first
    assert upgrade(retry_failed_images=True) == "True"
    assert run("rollback", "--sysroot", root).code == 0
    assert "failed on this host" in upgrade()
    assert run("health", "forget", "--sysroot", root, "--json").document["forgotten"] == [
        machine.digests["2"]
    ]
    assert upgrade() == "True"
    machine.switch("3")
    assert upgrade() == "False", "another image"
