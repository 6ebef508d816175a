"""Which deployments stay when a new one comes. Pure.

At the least what runs, what the new one's `/etc` is merged from, what is pinned, and what belongs
to other stateroots; what would be rolled back to, while it is not known whether what runs is good;
beyond that as many, and for as long, as the settings say, the first in boot order first.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge import limits
from bridge.sysroot import trial
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.settings import DeploymentSettings
from bridge.sysroot.trial import Trial


def must_stay(each: Deployment, stateroot: str, merge_from: Deployment | None) -> bool:
    """Tell whether a deployment stays whatever the settings say."""
    return each.booted or each.pinned or each.stateroot != stateroot or each.is_same(merge_from)


def kept(
    deployments: Sequence[Deployment],
    stateroot: str,
    merge_from: Deployment | None,
    settings: DeploymentSettings,
    now: float,
) -> list[Deployment]:
    """Return those of `deployments` that stay beside a new one in `stateroot`, in their order.

    `now` is in seconds since 1970, as a deployment's `since` is.
    """
    staying = {each.path for each in deployments if must_stay(each, stateroot, merge_from)}
    safe = fallback(deployments, stateroot)
    if safe is not None:
        staying.add(safe.path)
    room = _number(settings, len(deployments)) - 1  # the new one counts
    for each in deployments:
        if each.path in staying and each.stateroot == stateroot and not each.pinned:
            room -= 1
    for each in deployments:
        if room <= 0:
            break
        if each.path not in staying and not _is_old(each, settings, now):
            staying.add(each.path)
            room -= 1
    return [each for each in deployments if each.path in staying]


def fallback(deployments: Sequence[Deployment], stateroot: str) -> Deployment | None:
    """Return what would be rolled back to, while the running deployment is on trial."""
    for each in deployments:
        if each.booted and each.stateroot == stateroot and Trial.of(each.origin).begun:
            return trial.fallback(deployments, each, 0)
    return None


def _number(settings: DeploymentSettings, there: int) -> int:
    if settings.keep is not None:
        return settings.keep
    return limits.DEPLOYMENTS_KEPT if settings.keep_age is None else there + 1


def _is_old(each: Deployment, settings: DeploymentSettings, now: float) -> bool:
    # One whose time is not known, or lies ahead because the clock was wrong, is not old.
    return (
        settings.keep_age is not None
        and each.since is not None
        and now - each.since > settings.keep_age
    )
