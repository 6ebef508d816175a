"""The power goes while a machine changes what it boots next: it boots the old or the new.

A sample of what `python3 -m tools.crash machine` does; BOOTC_PY_MACHINE_CUTS makes it larger.
"""

from __future__ import annotations

import os

from rig.crash import machine

from tools.images import cache

CUTS = int(os.environ.get("BOOTC_PY_MACHINE_CUTS", 2))


def test_the_power_goes_in_a_machine() -> None:
    steps = [machine.COURSE[number % len(machine.COURSE)] for number in range(CUTS)]
    with cache.scratch(cache.root() / "work") as work:
        done = list(machine.cuts(machine.make(work), steps, seed=CUTS))
    assert [each.step for each in done] == steps
