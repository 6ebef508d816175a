"""`bootc-py sync server`: each job at its times, with health and metrics over HTTP."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from bridge.cli import options as shared

if TYPE_CHECKING:
    import threading

    from bridge.sync.model import Config
    from bridge.sync.report import SyncReport
    from bridge.sync.server import Runner

LISTEN = "127.0.0.1:9467"
Load = Callable[[argparse.Namespace], "Config"]


def configure(parser: argparse.ArgumentParser, load: Load) -> None:
    """Declare the options; `load` reads the configuration that they name."""
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where /healthz, /readyz and /metrics are; none: nowhere (default: {LISTEN}, or as "
        "the configuration says)",
    )
    parser.add_argument(
        "--now", action="store_true", help="begin every job at once that has a schedule"
    )
    shared.add_network(parser)
    shared.add_output(parser)
    parser.set_defaults(run=run, load=load)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. SIGHUP reads the configuration again."""
    import random
    from contextlib import ExitStack

    from bridge.cli.sync_signals import stopping
    from bridge.errors import UsageError
    from bridge.sync import places
    from bridge.sync.endpoint import Endpoint
    from bridge.sync.server import Server, World

    config = options.load(options)
    if not any(each.schedule.cron or each.schedule.interval for each in config.jobs):
        raise UsageError(f"{options.config}: no job has a schedule or an interval; see `sync once`")
    state = options.state or config.state or places.usual()
    places.make(state)
    world = World(
        load=lambda: options.load(options),
        fingerprint=lambda: _fingerprint(options.config),
        run=_runner(options, state),
        next_time=_next_time,
        chance=random.random,
        log=log,
    )
    name = os.path.abspath(options.config)
    server = Server(world, state, name, at_once=options.now)
    for each in config.notes:
        log(f"note: {each}")
    before = signal.signal(signal.SIGHUP, lambda number, frame: server.reload())
    try:
        with ExitStack() as stack:
            listen = options.listen or config.listen or LISTEN
            if listen != "none":
                endpoint = Endpoint(listen, server.pages())
                stack.callback(endpoint.close)
                log(f"health and metrics at http://{endpoint.address}/metrics")
            stack.enter_context(stopping(server.stop))
            server.serve()
    finally:
        signal.signal(signal.SIGHUP, before)
    return 0


def _runner(options: argparse.Namespace, state: str) -> Runner:
    import threading

    from bridge.cli.sync_progress import SyncLines
    from bridge.sync.run import Together
    from bridge.sync.run import run as run_jobs

    network, part = shared.network_options(options), shard(options.shard)
    progress = SyncLines(log, detail=options.verbose, quiet=options.quiet)
    lock = threading.Lock()
    shares: list[tuple[Config, Together]] = []

    def run(config: Config, jobs: Collection[str], stop: threading.Event, /) -> SyncReport:
        with lock:  # jobs that still run by an older configuration keep to its limits
            if not shares or shares[0][0] is not config:
                shares[:] = [(config, Together(config, network))]
            together = shares[0][1]
        return run_jobs(
            config,
            name=os.path.abspath(options.config),
            network=network,
            state_directory=state,
            shard=part,
            jobs=jobs,
            progress=progress,
            stop=stop,
            together=together,
        )

    return run


def _next_time(expression: str, after: float) -> float | None:
    from datetime import datetime

    from bridge.sync import cron

    found = cron.parse(expression).after(datetime.fromtimestamp(after, cron.local_zone()))
    return None if found is None else found.timestamp()


def _fingerprint(path: str) -> object:
    """Return what is another once a file is: of what a link leads to, as Kubernetes makes them."""
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def shard(text: str | None) -> tuple[int, int] | None:
    """Return the number, from 0, and the count that `--shard` says, or else the environment."""
    from bridge.sync import shard as shards

    return shards.parse(text)


def log(text: str) -> None:
    """Write lines to standard error."""
    for line in text.splitlines():
        print("".join(c if c.isprintable() else " " for c in line), file=sys.stderr, flush=True)
