"""What keeps an upgrade that nobody watches from being made."""

from __future__ import annotations

from pathlib import Path

from bridge.registry.options import NetworkOptions
from bridge.sysroot import health, update
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.settings import HealthSettings
from bridge.sysroot.sysroot import State, Sysroot
from bridge.sysroot.trial import Phase, Trial


def held_back(path: str | Path, settings: HealthSettings, network: NetworkOptions) -> str | None:
    """Return why the sysroot at `path` is not to be upgraded now; `None` when it may be.

    Not while the running deployment is on trial, nor from one that failed while there is a good
    one to go back to, whose place the new one would take. Not to an image that failed here, which
    is asked of the registry only where one has.
    """
    with Sysroot.open(path) as sysroot:
        state = sysroot.load()
        booted = state.booted
        if booted is not None:
            trial = Trial.of(booted.origin)
            if trial.begun:
                return f"it is not known yet whether {booted.name} is good"
            if trial.phase is Phase.FAILED and (good := _good(state)) is not None:
                return f"{booted.name} failed here, and {good.name} is good; `rollback` to that"
        failed = health.failed_here(sysroot, state, settings.attempts)
    if failed and not settings.retry_failed_images:
        available = update.check(path, network=network).available
        if available in failed:
            return f"{available} failed on this host; `upgrade` by hand deploys it all the same"
    return None


def _good(state: State) -> Deployment | None:
    for each in state.deployments:
        if Trial.of(each.origin).phase is Phase.GOOD:
            return each
    return None
