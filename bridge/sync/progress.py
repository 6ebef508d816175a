"""What sync jobs tell while they run. This one says nothing; `bridge.cli.sync_progress` does."""

from __future__ import annotations

from bridge.pull.progress import Progress
from bridge.sync.report import Failure, TagReport


class SyncProgress(Progress):
    """Called from several threads at once. `message` is for what holds up a job."""

    def __init__(self, detail: Progress | None = None) -> None:
        self.detail = detail or Progress()
        """Takes what is told of each blob."""

    def tag(self, job: str, report: TagReport) -> None:
        """Take that a tag is done, well or not."""

    def failed(self, job: str, failure: Failure) -> None:
        """Take that something failed that is no tag: a repository, say."""
