"""`bootc-py sync`: jobs that keep images of registries at other places."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from bridge.cli import options as shared
from bridge.cli import sync_manifest, sync_report, sync_server
from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge.sync.model import Config
    from bridge.sync.progress import SyncProgress


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    once = verbs.add_parser("once", help="do the jobs of a configuration, once")
    once.add_argument(
        "--missing", action="store_true", help="copy tags that the target has not, and no others"
    )
    _add_run(once)
    once.set_defaults(run=_run, dry=False)

    check = verbs.add_parser("check", help="tell what the jobs would move, in bytes; move nothing")
    _add_run(check)
    check.set_defaults(run=_run, dry=True, missing=False)

    server = verbs.add_parser("server", help="do each job at its times, until told to stop")
    _add_configuration(server)
    sync_server.configure(server, _load)

    sync_report.configure(verbs.add_parser("report", help="draw what past runs moved, on a page"))

    manifest = verbs.add_parser("manifest", help="write what runs the jobs on Kubernetes")
    sync_manifest.configure(manifest)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_configuration(parser)
    parser.add_argument(
        "--job",
        action="append",
        default=[],
        metavar="NAME",
        help="do this job; may be given more than once (default: all)",
    )
    shared.add_network(parser)
    shared.add_output(parser)


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a file of ours, of `skopeo sync --src yaml` or of regsync",
    )
    parser.add_argument(
        "--state", metavar="DIR", help="what is kept between runs (default: the configuration's)"
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="of N processes this is number I, from 0, with its share of the repositories "
        "(default: with JOB_COMPLETION_INDEX and JOB_COMPLETIONS what they say, else all)",
    )
    skopeo = parser.add_argument_group("for skopeo's files, which name no target")
    skopeo.add_argument("--dest", metavar="PLACE", help="registry[/path], oci:DIR, ...")
    skopeo.add_argument(
        "--scoped", action="store_true", help="put the source's host and path before names"
    )
    skopeo.add_argument("--append-suffix", metavar="TEXT", help="add this to each tag", default="")


def _load(options: argparse.Namespace) -> Config:
    from bridge.sync import config

    return config.load(
        options.config,
        target=options.dest,
        scoped=options.scoped,
        suffix=options.append_suffix,
    )


def _run(options: argparse.Namespace) -> int:
    """Run the jobs, or look what they would do; print the report."""
    import threading

    from bridge.cli import sync_text
    from bridge.cli.sync_signals import stopping
    from bridge.sync import history, places
    from bridge.sync.run import run

    config = _load(options)
    for each in config.notes:
        print(f"note: {each}", file=sys.stderr)
    known = {each.name for each in config.jobs}
    for name in options.job:
        if name not in known:
            raise UsageError(f"--job {name}: {options.config} has {', '.join(sorted(known))}")
    state = options.state or config.state or places.usual()
    if not options.dry:
        places.make(state)
    stop = threading.Event()
    with stopping(stop.set):
        report = run(
            config,
            name=os.path.abspath(options.config),
            network=shared.network_options(options),
            state_directory=state,
            shard=sync_server.shard(options.shard),
            missing_only=options.missing,
            dry=options.dry,
            jobs=options.job or None,
            progress=progress(options),
            stop=stop,
        )
    if not options.dry:
        history.append(state, report, "once")
    if options.json:
        print(json.dumps(report.to_json(), indent=2))
    elif not options.quiet:
        if options.dry:
            for line in sync_text.changes(report):
                print(line)
        print(sync_text.table(report))
    sys.stdout.flush()
    for line in sync_text.failures(report):
        print(line, file=sys.stderr)
    if why := sync_text.end(report):
        print(f"error: {why}", file=sys.stderr)
    return report.exit_code


def progress(options: argparse.Namespace) -> SyncProgress:
    """Return what tells of a run: lines on standard error, or nothing."""
    from bridge.cli.sync_progress import SyncLines
    from bridge.sync.progress import SyncProgress

    if options.quiet:
        return SyncProgress()
    return SyncLines(sync_server.log, detail=options.verbose)
