"""`bootc-py status`: what runs, what boots next, what can be gone back to."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_sysroot(parser)
    parser.add_argument(
        "--format",
        choices=("humanreadable", "yaml", "json"),
        help="default: humanreadable on a terminal, else yaml",
    )
    parser.add_argument("--format-version", type=int, choices=(0, 1), default=1)
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read and print; no lock is taken."""
    from bridge.sysroot import (
        block_yaml,
        heal,
        image_metadata,
        status,
        status_text,
        usr_overlay,
    )
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot) as sysroot:
        state = sysroot.load()
        lookup = image_metadata.from_repository(sysroot.repo)
        overlay = None if state.booted is None else usr_overlay.over(state.booted)
        document = status.host(state, lookup, usr_overlay=overlay)
        more = {each.name: status_text.describe(each, lookup) for each in state.all}
        problems = heal.problems(sysroot, state)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    form = options.format
    if options.json:
        form = "json"
    if form is None:
        form = "humanreadable" if sys.stdout.isatty() else "yaml"
    if form == "json":
        print(status.to_json(document))
    elif form == "yaml":
        print(block_yaml.render(document), end="")
    else:
        print(status_text.to_text(document, more, now=datetime.now(UTC), verbose=options.verbose))
    return 0
