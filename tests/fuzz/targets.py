"""All targets by name."""

from __future__ import annotations

from . import host, images, layers, network, store, sync
from .harness import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (layers, store, images, network, host, sync)
    for target in module.TARGETS
}
