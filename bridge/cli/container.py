"""`bootc-py container`: what a Containerfile runs while an image is built."""

from __future__ import annotations

import argparse
import json

from bridge.cli import lint
from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    units = verbs.add_parser(
        "install-units", help="install and enable the systemd units for health and upgrades"
    )
    units.add_argument(
        "--root", metavar="DIR", default="/", help="the image's root (default: %(default)s)"
    )
    shared.add_output(units)
    units.set_defaults(run=_install_units)

    lint.configure(verbs.add_parser("lint", help="look for what is wrong in an image"))


def _install_units(options: argparse.Namespace) -> int:
    from bridge.sysroot import image_units

    names = image_units.install(options.root)
    if options.json:
        document = {"apiVersion": "bootc-py/v1", "kind": "InstalledUnits", "units": names}
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        print("\n".join(names))
    return 0
