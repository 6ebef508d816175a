"""`bootc-py usr-overlay`: a writable /usr until the next boot."""

from __future__ import annotations

import argparse
import json

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Mount it."""
    from bridge.sysroot import usr_overlay
    from bridge.sysroot.sysroot import Sysroot

    # Not `writable`: this mount is for everybody, not for this process alone.
    with Sysroot.open("/") as sysroot:
        top = usr_overlay.unlock(sysroot)
    if options.json:
        document = {"apiVersion": "bootc-py/v1", "kind": "UsrOverlay", "directory": str(top)}
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        print("/usr is writable now; all changes there are gone with the next boot")
    return 0
