"""All targets by name."""

from __future__ import annotations

from . import host, images, layers, network, store
from .harness import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (layers, store, images, network, host)
    for target in module.TARGETS
}
