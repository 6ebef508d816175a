"""Whether the running deployment is healthy: kept count of, marked good, or rolled back.

`begin` runs early in every boot, `mark_good` or `fail` once the checks have a verdict. What they
decide is `bridge.sysroot.trial`'s; how one goes back is `bridge.sysroot.rollback`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError, NotFound
from bridge.sysroot import boot_counter, failed_images, image_metadata, staged, trial
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.pin import write_origin
from bridge.sysroot.rollback import rollback
from bridge.sysroot.sysroot import State, Sysroot
from bridge.sysroot.trial import Phase, Step, Trial


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about the running deployment, and what is to follow."""

    deployment: Deployment
    trial: Trial
    step: Step
    target: Deployment | None = None
    """What boots next after a rollback."""
    problem: str = ""
    """What could not be done beside that; the reboot does not wait for it."""


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def begin(sysroot: Sysroot, boot: str, attempts: int) -> Verdict:
    """Count the boot named `boot` of the running deployment; on the disk when this returns.

    Needs no /boot. The step is `GO_ON`, or `ROLL_BACK` when the attempts were used up before.
    """
    with sysroot.locked(wait=True):
        running = _checked(sysroot, sysroot.running())
        before = Trial.of(running.origin)
        after, step = trial.begin(before, boot, attempts)
        _write(sysroot, running, before, after)
    return Verdict(running, after, step)


def mark_good(sysroot: Sysroot, attempts: int) -> Verdict:
    """Mark the running deployment good, for as long as it exists; its image has not failed."""
    with sysroot.locked(wait=True):
        state = sysroot.load()
        running = _checked(sysroot, state.booted)
        before = Trial.of(running.origin)
        after = Trial(Phase.GOOD)
        failed_images.remove(sysroot.repo, _digests(sysroot, running))
        _write(sysroot, running, before, after)
        _settle(sysroot, state, attempts)
        boot_counter.set_counter(sysroot, None)
    return Verdict(running, after, Step.GO_ON)


def arm(sysroot: Sysroot, attempts: int) -> int | None:
    """Tell a boot loader that counts how many boots the deployment that boots next has left.

    Returns that number; `None` when it is good, or the attempts are not limited.
    """
    with sysroot.locked(wait=True):
        following = sysroot.load().next
        known = Trial.of(following.origin if following else None)
        left = None
        if following is not None and known.phase is Phase.TRIAL and attempts:
            left = max(attempts - known.boots, 0)
        boot_counter.set_counter(sysroot, left)
    return left


def fail(sysroot: Sysroot, boot: str, attempts: int) -> Verdict:
    """Take the running deployment for not healthy in the boot `boot`.

    When it has no attempts left, what it is gone back to from it boots next when this returns. The
    reboot that `REBOOT` and `ROLL_BACK` call for is the caller's.
    """
    with sysroot.locked(wait=True):
        state = sysroot.load()
        running = _checked(sysroot, state.booted)
        before = Trial.of(running.origin)
        target = trial.fallback(state.deployments, running, attempts)
        after, step = trial.failed(before, boot, attempts, has_fallback=target is not None)
        if step is Step.REBOOT and state.staged is not None:
            # Finalised, it could put out what this one would be rolled back to.
            staged.hold_back()
        if step is not Step.ROLL_BACK:
            if after.phase is not before.phase:
                _write_failed(sysroot, state, running)
            return Verdict(running, after, step)
        assert target is not None
        # First what saves the host. Cut off after it, `_settle` finds what is left to be written.
        problem = ""
        try:
            rollback(sysroot, target)
            _write_failed(sysroot, state, running)
        except BridgeError as error:
            if not target.is_same(sysroot.load().deployments[0]):
                raise
            problem = str(error)
    return Verdict(running, after, step, target, problem)


def failed_here(sysroot: Sysroot, state: State, attempts: int) -> set[str]:
    """Return the manifest digests of images that failed on this host. Takes no lock."""
    unwritten = [each for each in state.deployments if _has_failed(each, attempts)]
    return set(failed_images.load(sysroot.repo)).union(
        digest for each in unwritten for digest in _digests(sysroot, each)
    )


def _settle(sysroot: Sysroot, state: State, attempts: int) -> None:
    """Write down of others that they have failed, where nobody came to do it."""
    first, running = state.deployments[0], state.booted
    is_passed_by = running is not first and Trial.of(first.origin).phase is Phase.TRIAL
    if is_passed_by and boot_counter.has_fallen_back(sysroot):
        rollback(sysroot, running)
        _write_failed(sysroot, state, first)
    for each in state.deployments:
        if _has_failed(each, attempts):
            _write_failed(sysroot, state, each)


def _has_failed(deployment: Deployment, attempts: int) -> bool:
    """Tell whether it has no attempt left and does not run: it was gone back from.

    The power was cut then before that was written down.
    """
    return not deployment.booted and Trial.of(deployment.origin).is_used_up(attempts)


def _write_failed(sysroot: Sysroot, state: State, deployment: Deployment) -> None:
    # An image that was good with other kernel arguments, or another /etc, is not to blame.
    if not any(
        each.checksum == deployment.checksum and Trial.of(each.origin).phase is Phase.GOOD
        for each in state.deployments
    ):
        failed_images.add(sysroot.repo, _digests(sysroot, deployment))
    before = Trial.of(deployment.origin)
    _write(sysroot, deployment, before, Trial(Phase.FAILED, before.boots, before.boot_id))


def _digests(sysroot: Sysroot, deployment: Deployment) -> list[str]:
    found = image_metadata.from_repository(sysroot.repo)(deployment.checksum)
    return [] if found is None else [found.digest]


def _write(sysroot: Sysroot, deployment: Deployment, before: Trial, after: Trial) -> None:
    if after != before:
        assert deployment.origin is not None
        write_origin(sysroot, deployment, after.written_to(deployment.origin))


def _checked(sysroot: Sysroot, running: Deployment | None) -> Deployment:
    if running is None:
        raise NotFound(f"{sysroot.path} is not the sysroot of the running system")
    if running.origin is None:
        raise BridgeError(f"the health of {running.name} cannot be kept: {running.problem}")
    return running
