"""`bootc-py config-diff`: what was changed in `/etc`, as `ostree admin config-diff`."""

from __future__ import annotations

import argparse
import json

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_sysroot(parser)
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare and print, sorted by path: M for modified, D for deleted, A for added."""
    from bridge.sysroot.config_diff import config_diff
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot) as sysroot:
        changes = config_diff(sysroot)
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "ConfigDiff",
            "modified": sorted(changes.modified),
            "removed": sorted(changes.removed),
            "added": sorted(changes.added),
        }
        print(json.dumps(document, indent=2))
        return 0
    lines = [
        *((path, "M") for path in changes.modified),
        *((path, "D") for path in changes.removed),
        *((path, "A") for path in changes.added),
    ]
    for path, letter in sorted(lines):
        printable = path.encode(errors="backslashreplace").decode()
        print(f"{letter}    {''.join(c if c.isprintable() else '?' for c in printable)}")
    return 0
