"""What a pull tells while it runs. This one says nothing; `bridge.cli.progress` draws."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.pull.plan import LayerPlan


class Stage(enum.Enum):
    """The stages in their order, each with what to call it."""

    RESOLVING = "Resolving the image"
    PULLING = "Pulling layers"
    MERGING = "Merging layers"
    DEPLOYING = "Deploying"
    PRUNING = "Removing what is no longer needed"
    PUSHING = "Pushing layers"


class Progress:
    """Called from several threads at once."""

    def message(self, text: str) -> None:
        """Take a line for the user."""

    def planned(self, layers: Sequence[LayerPlan]) -> None:
        """Take what is going to be done with each layer."""

    def advance(self, plan: LayerPlan, count: int) -> None:
        """Take that `count` more bytes of a layer's blob were read; less than 0: were in vain."""

    def layer_done(self, plan: LayerPlan) -> None:
        """Take that a layer is in the store."""

    def stage(self, name: Stage) -> None:
        """Take that a new stage begins."""

    def finish(self, *, failed: bool = False) -> None:
        """Take that nothing more is to come, so that a bar can be wiped away."""
