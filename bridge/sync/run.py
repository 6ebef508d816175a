"""Doing what a configuration says: all of its jobs, or some, once."""

from __future__ import annotations

import threading
from collections.abc import Collection

from bridge.pull.progress import Progress
from bridge.registry.options import NetworkOptions
from bridge.sync.model import Config
from bridge.sync.report import SyncReport


def run(
    config: Config,
    *,
    name: str = "",
    network: NetworkOptions | None = None,
    state_directory: str,
    shard: tuple[int, int] | None = None,
    missing_only: bool = False,
    dry: bool = False,
    jobs: Collection[str] | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> SyncReport:
    """Do the jobs of a configuration, and report what that did.

    `name` is what the report calls the configuration. `state_directory` has what is kept between
    runs. Of a shard (number from 0, count) only its repositories are looked at. `missing_only`
    copies what the target has not, and looks at nothing else. `dry` writes nothing, and reports
    what would be moved. `jobs` are the names of those to do; all, if it is None. Once `stop` is
    set, what is under way ends, and nothing new begins. What fails is in the report, and the rest
    goes on; raises `UsageError` for names of jobs that there are not.
    """
    raise NotImplementedError
