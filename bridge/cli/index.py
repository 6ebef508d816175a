"""`bootc-py image index`: the content index, brought up to date or made anew."""

from __future__ import annotations

import argparse
import json
import sys
import time

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--rebuild", action="store_true", help="forget all of it first, and read every file again"
    )
    shared.add_repository(parser)
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Index what is not indexed yet, and say how much there is."""
    from bridge.ostree import lock
    from bridge.pull.catch_up import catch_up
    from bridge.pull.content_index import ContentIndex

    started = time.monotonic()
    with (
        shared.open_repository(options) as repo,
        lock.writing(repo),
        ContentIndex.open(repo, lambda text: print(text, file=sys.stderr)) as index,
    ):
        if options.rebuild:
            index.clear()
        index.retain()
        added = catch_up(repo, index)
        size = index.size()
        path = repo.path
    seconds = time.monotonic() - started
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "ContentIndex",
            "added": added,
            "objects": size.objects,
            "pieces": size.pieces,
            "bytes": size.bytes,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        print(
            f"{path}: {count_text(size.pieces, 'piece')} of {count_text(size.objects, 'object')} "
            f"indexed, {added:,} of them now, in {seconds:.1f} s ({size_text(size.bytes)})"
        )
    return 0
