"""What a pull tells while it runs. This one says nothing; `bridge.cli.progress` draws."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.pull.plan import LayerPlan


class Progress:
    """Called from several threads at once."""

    def message(self, text: str) -> None:
        """Take a line for the user."""

    def planned(self, layers: Sequence[LayerPlan]) -> None:
        """Take what is going to be done with each layer."""

    def advance(self, count: int) -> None:
        """Take that `count` more bytes of the layers' blobs were read."""

    def layer_done(self, plan: LayerPlan) -> None:
        """Take that a layer is in the store."""

    def stage(self, name: str) -> None:
        """Take that a new stage begins: `resolving`, `pulling`, `merging`, `deploying`."""

    def finish(self) -> None:
        """Take that nothing more is to come, so that a bar can be wiped away."""
