"""`bootc-py rollback`: the previous deployment boots next; a second time undoes it."""

from __future__ import annotations

import argparse
import json

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_sysroot(parser)
    parser.add_argument(
        "--to",
        metavar="INDEX|DIGEST|NAME",
        help="boot this deployment next, as `status --verbose` shows it (default: the one before)",
    )
    shared.add_apply(parser)
    shared.add_output(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Swap, and say what boots next."""
    from bridge.sysroot import image_metadata
    from bridge.sysroot.rollback import rollback
    from bridge.sysroot.select import select
    from bridge.sysroot.sysroot import Sysroot

    shared.check_apply(options)
    with Sysroot.open(options.sysroot, writable=True) as sysroot, sysroot.locked():
        to = None
        if options.to is not None:
            lookup = image_metadata.from_repository(sysroot.repo)
            to = select(sysroot.load(), options.to, lookup)
        done = rollback(sysroot, to)
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
        if done.state.staged_locked:
            print("What is staged stays as it is; `upgrade --from-downloaded` has it boot next.")
    shared.apply(options)
    return 0
