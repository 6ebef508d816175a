"""Health of real deployments in a sysroot that is taken for the running one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.machine import ATTEMPTS, Machine

from bridge import limits
from bridge.errors import BridgeError, NotFound
from bridge.ostree.repository import Repository
from bridge.sysroot import failed_images, health
from bridge.sysroot import grubenv as grub_block
from bridge.sysroot.deploy import KernelArguments, deploy
from bridge.sysroot.health import Verdict
from bridge.sysroot.sysroot import Sysroot
from bridge.sysroot.trial import Phase, Step, Trial

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can deploy")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_new_version_that_fails_is_rolled_back(machine: Machine) -> None:
    first = machine.switch("1")
    assert machine.boot().step is Step.GO_ON
    assert machine.good().trial == Trial(Phase.GOOD)
    second = machine.switch("2")
    verdict = machine.boot()
    assert (verdict.step, verdict.trial.boots) == (Step.GO_ON, 1)
    assert machine.fail().step is Step.REBOOT
    assert machine.boot().trial.boots == 2
    verdict = machine.fail()
    assert verdict.step is Step.ROLL_BACK and verdict.problem == ""
    assert verdict.target is not None and verdict.target.checksum == first
    assert machine.order == [(first, Phase.GOOD), (second, Phase.FAILED)]
    assert machine.failed == (machine.digests["2"],)
    assert machine.boot().deployment.checksum == first
    assert machine.fail().step is Step.GO_ON, "what was good before stays"
    assert machine.order[0] == (first, Phase.GOOD)


def test_boots_that_come_to_no_verdict_count(machine: Machine) -> None:
    first = machine.switch("1")
    machine.boot()
    machine.good()
    machine.switch("2")
    assert [machine.boot().step for _ in range(3)] == [Step.GO_ON, Step.GO_ON, Step.ROLL_BACK]
    assert machine.fail().step is Step.ROLL_BACK
    assert machine.order[0] == (first, Phase.GOOD)


def test_without_anything_to_go_back_to_it_stays(machine: Machine) -> None:
    only = machine.switch("1")
    for expected in (Step.REBOOT, Step.GIVE_UP, Step.GO_ON):
        machine.boot()
        assert machine.fail().step is expected
    assert machine.order == [(only, Phase.FAILED)]
    assert machine.good().trial.phase is Phase.GOOD, "by hand, or when the checks pass"
    assert machine.failed == ()


def test_two_bad_ones_do_not_take_turns(machine: Machine) -> None:
    first, second = machine.switch("1"), machine.switch("2")
    steps = []
    for _ in range(6):
        machine.boot()
        steps.append(machine.fail().step)
    assert steps == [
        *(Step.REBOOT, Step.ROLL_BACK),  # the second
        *(Step.REBOOT, Step.GIVE_UP),  # the first
        *(Step.GO_ON, Step.GO_ON),
    ]
    assert machine.order == [(first, Phase.FAILED), (second, Phase.FAILED)]
    assert machine.failed == (machine.digests["2"], machine.digests["1"])


def test_an_image_that_was_good_before_is_not_to_blame(machine: Machine) -> None:
    first = machine.switch("1")
    machine.boot()
    machine.good()
    with Sysroot.open(machine.path / "root") as sysroot:
        origin = sysroot.load().deployments[0].origin
        assert origin is not None
        deploy(
            sysroot,
            first,
            origin.without_transient(),
            arguments=KernelArguments(append=["init=/bin/false"]),
        )
    for _ in range(ATTEMPTS):
        machine.boot()
        verdict = machine.fail()
    assert verdict.step is Step.ROLL_BACK
    assert machine.order == [(first, Phase.GOOD), (first, Phase.FAILED)]
    assert machine.failed == ()


def test_deployed_again_by_hand_it_is_on_trial_again(machine: Machine) -> None:
    first = machine.switch("1")
    machine.boot()
    machine.good()
    for _ in range(2):
        second = machine.switch("2")
        assert machine.order[0] == (second, Phase.TRIAL)
        for _ in range(ATTEMPTS):
            machine.boot()
            machine.fail()
        assert machine.order[0] == (first, Phase.GOOD)
        machine.boot()
    second = machine.switch("2")
    machine.boot()
    machine.good()
    assert machine.order == [(second, Phase.GOOD), (first, Phase.GOOD)]
    assert machine.failed == (), "it is good after all"


def test_cut_off_in_a_rollback_the_rest_is_done_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine.switch("1")
    machine.boot()
    machine.good()
    second = machine.switch("2")
    machine.boot()
    machine.fail()
    machine.boot()
    with monkeypatch.context() as patch:

        def broken(*_: object) -> None:
            raise BridgeError("the disk is full")

        patch.setattr(failed_images, "add", broken)
        verdict = machine.fail()
    assert verdict.step is Step.ROLL_BACK and verdict.problem == "the disk is full"
    assert machine.order == [(first, Phase.GOOD), (second, Phase.TRIAL)]
    machine.boot()
    with machine.running() as sysroot:
        assert machine.failed == ()
        found = health.failed_here(sysroot, sysroot.load(), ATTEMPTS)
    assert found == {machine.digests["2"]}, "known before it is written"
    machine.good()
    assert machine.order == [(first, Phase.GOOD), (second, Phase.FAILED)]
    assert machine.failed == (machine.digests["2"],)


def test_a_boot_that_was_not_counted_is_not_ended(machine: Machine) -> None:
    machine.switch("1")
    machine.switch("2")
    machine.boot()
    machine.boots += 1  # and this time nobody could write
    assert machine.fail().step is Step.GO_ON


def grubenv(machine: Machine, **values: str) -> Path:
    path = machine.path / "root/boot/grub2/grubenv"
    path.parent.mkdir(exist_ok=True)
    text = "# GRUB Environment Block\n" + "".join(f"{k}={v}\n" for k, v in values.items())
    path.write_text(text.ljust(1024, "#"))
    return path


def variables(path: Path) -> dict[str, str]:
    found = grub_block.parse(path.read_bytes())
    return {name.decode(): value.decode() for name, value in found.items()}


def test_grub_is_told_what_is_left(machine: Machine) -> None:
    machine.switch("1")
    machine.start()
    env = grubenv(machine, saved_entry="x", boot_success="1")
    with machine.running() as sysroot:
        assert health.arm(sysroot, ATTEMPTS) == 2
        assert variables(env) == {"saved_entry": "x", "boot_counter": "2", "boot_success": "0"}
        assert health.arm(sysroot, 0) is None
        assert variables(env) == {"saved_entry": "x", "boot_success": "1"}
    machine.boot()
    with machine.running() as sysroot:
        assert health.arm(sysroot, ATTEMPTS) == 1
    assert variables(env)["boot_counter"] == "1"
    machine.good()
    assert variables(env) == {"saved_entry": "x", "boot_success": "1"}
    with machine.running() as sysroot:
        assert health.arm(sysroot, ATTEMPTS) is None
    env.write_bytes(b"")  # as it is where nobody has made one yet
    machine.good()
    assert env.read_bytes() == b""
    env.unlink()
    machine.good()
    assert not env.exists()


@pytest.mark.parametrize(
    ("counter", "success", "passed_by"),
    [("-1", "0", True), ("0", "0", True), ("1", "0", False), ("-1", "1", False)],
)
def test_what_grub_has_passed_by_has_failed(
    machine: Machine, counter: str, success: str, passed_by: bool
) -> None:
    first = machine.switch("1")
    machine.boot()
    machine.good()
    second = machine.switch("2")  # which panics before anybody counts, until GRUB goes past it
    env = grubenv(machine, boot_counter=counter, boot_success=success)
    machine.start(1)
    machine.good()
    if passed_by:
        assert machine.order == [(first, Phase.GOOD), (second, Phase.FAILED)]
        assert machine.failed == (machine.digests["2"],)
    else:  # it was chosen in the menu, say
        assert machine.order == [(second, Phase.TRIAL), (first, Phase.GOOD)]
        assert machine.failed == ()
    assert variables(env) == {"boot_success": "1"}


def test_only_the_running_system_has_health(machine: Machine) -> None:
    machine.switch("1")
    with Sysroot.open(machine.path / "root") as sysroot:
        calls: list[Callable[[], Verdict]] = [
            lambda: health.begin(sysroot, "x", 1),
            lambda: health.mark_good(sysroot, 1),
            lambda: health.fail(sysroot, "x", 1),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="not the sysroot of the running system"):
                call()


def test_what_has_no_origin_cannot_be_counted(machine: Machine) -> None:
    machine.switch("1")
    origin = next((machine.path / "root").glob("ostree/deploy/*/deploy/*.origin"))
    text = origin.read_text()
    origin.unlink()
    with pytest.raises(BridgeError, match="cannot be kept: it has no origin file"):
        machine.boot()
    origin.write_text(text)
    assert machine.boot().trial.boots == 1


def test_no_more_images_are_remembered_than_fit(machine: Machine) -> None:
    machine.switch("1")
    digests = [f"sha256:{number:064x}" for number in range(limits.FAILED_IMAGES + 2)]
    with Repository.open(machine.path / "root/ostree/repo") as repo:
        for each in digests:
            failed_images.add(repo, [each])
        assert failed_images.load(repo) == tuple(digests[2:])
        failed_images.add(repo, digests[2:3])
        failed_images.remove(repo, digests[3:])
        assert failed_images.load(repo) == (digests[2],)
    assert failed_images.parse(f"x\n{digests[0]}\nsha256:A\n\n{digests[1]}") == tuple(digests[:2])
