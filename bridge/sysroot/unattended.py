"""What keeps an upgrade that nobody watches from being made."""

from __future__ import annotations

from pathlib import Path

from bridge.registry.options import NetworkOptions
from bridge.sysroot import health, update
from bridge.sysroot.settings import HealthSettings
from bridge.sysroot.sysroot import Sysroot
from bridge.sysroot.trial import Trial


def held_back(path: str | Path, settings: HealthSettings, network: NetworkOptions) -> str | None:
    """Return why the sysroot at `path` is not to be upgraded now; `None` when it may be.

    Not while the running deployment is on trial. Not to an image that failed here, which is asked
    of the registry only where one has.
    """
    with Sysroot.open(path) as sysroot:
        state = sysroot.load()
        booted = state.booted
        if booted is not None and Trial.of(booted.origin).begun:
            return f"it is not known yet whether {booted.name} is good"
        failed = health.failed_here(sysroot, state, settings.attempts)
    if failed and not settings.retry_failed_images:
        available = update.check(path, network=network).available
        if available in failed:
            return f"{available} failed on this host; `upgrade` by hand deploys it all the same"
    return None
