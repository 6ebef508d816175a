"""Boot counting: a deployment is on trial until it is marked good, for a number of boots. Pure.

Where a deployment stands is kept in its origin file, in the group of what holds for one deployment
only: it goes when the deployment goes, and no successor inherits it. Nothing here looks at a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from bridge.sysroot.deployment import Deployment
from bridge.sysroot.origin import TRANSIENT, Origin

_PHASE = (TRANSIENT, "bootc-py-health")
_BOOTS = (TRANSIENT, "bootc-py-boots")
_BOOT_ID = (TRANSIENT, "bootc-py-boot-id")


class Phase(Enum):
    """What is known of a deployment."""

    TRIAL = "trial"
    """Not known to be good yet; where every deployment begins."""
    GOOD = "good"
    """It was marked good once: it is never rolled back."""
    FAILED = "failed"
    """All of its attempts failed."""


class Step(Enum):
    """What is to be done with the running deployment."""

    GO_ON = "go-on"
    REBOOT = "reboot"
    ROLL_BACK = "roll-back"
    GIVE_UP = "give-up"
    """Its attempts are used up, and there is nothing to go back to: it goes on as it is."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How a deployment has done so far."""

    phase: Phase = Phase.TRIAL
    boots: int = 0
    """Boots while it was on trial, the present one included."""
    boot_id: str = ""
    """The kernel's name for the last boot that was counted: one is never counted twice."""

    @classmethod
    def of(cls, origin: Origin | None) -> Trial:
        """Read it from an origin; values that make no sense are those of a new deployment."""
        if origin is None:
            return cls()
        values = origin.values
        phase, boots = values.get(_PHASE), values.get(_BOOTS, "")
        return cls(
            next((each for each in Phase if each.value == phase), Phase.TRIAL),
            int(boots) if boots.isascii() and boots.isdigit() and len(boots) < 10 else 0,
            values.get(_BOOT_ID, ""),
        )

    def written_to(self, origin: Origin) -> Origin:
        """Return the origin with this in it."""
        result = origin.with_value(*_PHASE, self.phase.value)
        result = result.with_value(*_BOOTS, str(self.boots) if self.boots else None)
        return result.with_value(*_BOOT_ID, self.boot_id or None)

    @property
    def begun(self) -> bool:
        """Whether it is on trial and was booted: someone counts, and no verdict has come yet."""
        return self.phase is Phase.TRIAL and self.boots > 0

    def is_used_up(self, attempts: int) -> bool:
        """Whether it is on trial with no attempt left; never where `attempts` is 0."""
        return self.phase is Phase.TRIAL and 0 < attempts <= self.boots


def begin(trial: Trial, boot_id: str, attempts: int) -> tuple[Trial, Step]:
    """Count a boot that has just begun, of `attempts` (0: any number).

    When none is left the boot is not counted, and the step is `ROLL_BACK`: that one goes no
    further.
    """
    if trial.phase is not Phase.TRIAL or trial.boot_id == boot_id:
        return trial, Step.GO_ON
    if trial.is_used_up(attempts):
        return trial, Step.ROLL_BACK
    return replace(trial, boots=trial.boots + 1, boot_id=boot_id), Step.GO_ON


def failed(trial: Trial, boot_id: str, attempts: int, *, has_fallback: bool) -> tuple[Trial, Step]:
    """Tell what follows when the running deployment is found not to be healthy.

    A boot that could not be counted is not ended: nobody would count the next one either.
    """
    if trial.phase is not Phase.TRIAL or attempts == 0:
        return trial, Step.GO_ON
    if not trial.is_used_up(attempts):
        return trial, Step.REBOOT if trial.boot_id == boot_id else Step.GO_ON
    step = Step.ROLL_BACK if has_fallback else Step.GIVE_UP
    return replace(trial, phase=Phase.FAILED), step


def fallback(
    deployments: Iterable[Deployment], running: Deployment, attempts: int
) -> Deployment | None:
    """Return what to go back to from `running`, of all `deployments` in boot order.

    The first of its stateroot that was good; where none was, the first that has not failed: it
    then has attempts of its own. So no deployment is gone back to twice.
    """
    candidates = [
        (each, Trial.of(each.origin))
        for each in deployments
        if each.stateroot == running.stateroot and not each.is_same(running)
    ]
    for each, trial in candidates:
        if trial.phase is Phase.GOOD:
            return each
    for each, trial in candidates:
        if trial.phase is Phase.TRIAL and not trial.is_used_up(attempts):
            return each
    return None
