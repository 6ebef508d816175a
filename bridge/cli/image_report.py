"""`bootc-py image report`: what the updates of a repository moved, on a page."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from bridge import limits
from bridge.cli import options as shared
from bridge.cli.image_diff import add_strategy
from bridge.cli.units import count_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Write an HTML page with the newest images of a repository, the bytes that each update "
        "moves, and what for."
    )
    parser.add_argument("repository", metavar="REPOSITORY", help="such as quay.io/a/b")
    parser.add_argument(
        "--tags",
        type=_number,
        default=10,
        metavar="N",
        help="of the newest images take N, 2 or more (default: %(default)s)",
    )
    parser.add_argument("--html", required=True, metavar="FILE", help="where to write it")
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="default: that of this machine"
    )
    add_strategy(parser)
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    import json

    from bridge.cli.page import write
    from bridge.cli.report_page import render
    from bridge.compare.estimate import Strategy
    from bridge.compare.history import history
    from bridge.compare.image import Session

    reference = shared.image_reference(options.repository)
    with ExitStack() as stack:
        progress = stack.enter_context(shared.progress(options))
        session = Session(
            shared.network_options(options),
            shared.platform(options),
            download=not options.no_download,
            progress=progress,
        )
        stack.enter_context(session)
        found = history(reference, session, options.tags, Strategy(options.strategy))
    write(options.html, render(found), "--html")
    if options.json:
        head = {"apiVersion": "bootc-py/v1", "kind": "ImageHistory", "repository": found.repository}
        print(json.dumps(head | found.to_json(), indent=2))
    elif not options.quiet:
        print(f"{options.html}: {count_text(len(found.diffs), 'update')} of {found.repository}")
    return 0


def _number(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= limits.RELEASES_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 to {limits.RELEASES_MAX}")
    return int(text)
