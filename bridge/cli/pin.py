"""`bootc-py pin`: a deployment is kept whatever comes after it."""

from __future__ import annotations

import argparse
import json

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `pin`."""
    _add_common(parser)
    parser.add_argument("--name", metavar="NAME", help="a name for it, for rollback --to NAME")
    parser.set_defaults(run=run, pinned=True)


def configure_unpin(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `unpin`."""
    _add_common(parser)
    parser.set_defaults(run=run, pinned=False, name=None)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "deployment", metavar="INDEX|DIGEST|NAME", help="as `status --verbose` shows it"
    )
    shared.add_sysroot(parser)
    shared.add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Pin or unpin, and say which it was."""
    from bridge.sysroot import image_metadata, pin
    from bridge.sysroot.select import select
    from bridge.sysroot.sysroot import Sysroot

    with Sysroot.open(options.sysroot, writable=True) as sysroot, sysroot.locked():
        state = sysroot.load()
        found = select(state, options.deployment, image_metadata.from_repository(sysroot.repo))
        pin.pin(sysroot, found, options.pinned, name=options.name)
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "Pin",
            "deployment": {"checksum": found.checksum, "serial": found.serial},
            "pinned": options.pinned,
            "name": options.name,
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        print(f"{found.name} is {'pinned' if options.pinned else 'not pinned any more'}")
    return 0
