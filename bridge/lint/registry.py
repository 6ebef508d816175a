"""All lints, by name: bootc's fourteen, and ours."""

from __future__ import annotations

from bridge.lint import (
    boot,
    caches,
    initramfs,
    names,
    root,
    secrets,
    sysusers,
    times,
    var,
    volatile,
)
from bridge.lint.model import Lint

_MODULES = (boot, caches, initramfs, names, root, secrets, sysusers, times, var, volatile)

LINTS: tuple[Lint, ...] = tuple(
    sorted((each for module in _MODULES for each in module.LINTS), key=lambda lint: lint.name)
)
