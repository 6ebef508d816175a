"""`bootc-py rollback`: the previous deployment boots next; a second time undoes it."""

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
    """Swap, and say what boots next."""
    from bridge.sysroot.rollback import rollback
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot, writable=True) as sysroot:
        done = rollback(sysroot)
    first = done.deployment
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "Rollback",
            "deployment": {"checksum": first.checksum, "serial": first.serial},
            "reverted": done.reverted,
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        what = "Rollback undone" if done.reverted else "Rolled back"
        print(f"{what}: {first.image_reference or first.checksum} boots next ({first.name})")
    return 0
