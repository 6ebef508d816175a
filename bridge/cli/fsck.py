"""`bootc-py fsck`: every object hashed again, every damaged one named."""

from __future__ import annotations

import argparse
import json
import sys

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text
from bridge.errors import DamagedRepository


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_repository(parser)
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verify; the exit code of a damaged repository when there is any fault."""
    from bridge.ostree.fsck import fsck

    with shared.open_repository(options) as repo:
        result = fsck(repo)
        path = repo.path
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "Fsck",
            "objects": result.objects,
            "bytes": result.bytes,
            "refs": result.refs,
            "faults": [
                {"checksum": each.checksum, "type": each.kind.value, "reason": each.reason}
                for each in result.faults
            ],
        }
        print(json.dumps(document, indent=2))
    else:
        for fault in result.faults:
            print(fault, file=sys.stderr)
    if result.faults:
        count = count_text(len(result.faults), "object")
        raise DamagedRepository(f"{path}: {count} of {result.objects} damaged or missing")
    if not options.json and not options.quiet:
        print(
            f"{path}: {count_text(result.objects, 'object')} ({size_text(result.bytes)}) and "
            f"{count_text(result.refs, 'ref')} verified, no fault found"
        )
    return 0
