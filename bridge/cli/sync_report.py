"""`bootc-py sync report`: what past runs of sync jobs moved, on a page."""

from __future__ import annotations

import argparse

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Write an HTML page with the bytes that runs of sync jobs moved, what for, and what failed."
    )
    parser.add_argument(
        "--state", metavar="DIR", help="where the history is (default: the usual place)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the page here")
    parser.add_argument(
        "--job", action="append", default=[], metavar="NAME", help="only this job's runs"
    )
    shared.add_output(parser)
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    import json
    from dataclasses import replace

    from bridge.cli.page import write
    from bridge.cli.sync_page import render, summary
    from bridge.errors import UsageError
    from bridge.sync import history, places

    if options.output is None and not options.json:
        raise UsageError("name the page's file with -o FILE, or ask for --json")
    state = options.state or places.usual()
    runs = history.read(state)
    if options.job:
        wanted = [
            replace(run, jobs=tuple(job for job in run.jobs if job.name in options.job))
            for run in runs
        ]
        runs = [run for run in wanted if run.jobs]
    if options.output is not None:
        write(options.output, render(runs, state), "-o")
    if options.json:
        head = {"apiVersion": "bootc-py/v1", "kind": "SyncHistory", "state": state}
        print(json.dumps(head | {"runs": [run.to_json() for run in runs]}, indent=2))
    elif not options.quiet:
        print(f"{options.output}: {summary(runs)}")
    return 0
