"""`bootc-py upgrade`: the newest state of the image that this host follows."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text

if TYPE_CHECKING:
    from bridge.sysroot.update import Check

_NOTHING_NEWER = 77


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    shared.add_sysroot(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"only tell whether there is something newer (exit code {_NOTHING_NEWER}: there is "
        "not)",
    )
    shared.add_labels(parser)
    shared.add_transfer(parser)
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pull, deploy, report; or ask only."""
    from bridge.cli.transfer import show, show_plan
    from bridge.ostree.repository import Repository
    from bridge.sysroot.update import check, preview_upgrade, upgrade

    network = shared.network_options(options)
    if options.check:
        return _show_check(options, check(options.sysroot, network=network))
    depth = shared.depth(options)
    if options.plan:
        with shared.progress(options) as progress:
            plan = preview_upgrade(options.sysroot, network=network, progress=progress, depth=depth)
        show_plan(options, plan)
        return 0
    with shared.progress(options) as progress:
        report = upgrade(
            options.sysroot,
            network=network,
            progress=progress,
            depth=depth,
            labelled=not options.disable_selinux,
        )
    with Repository.open(f"{options.sysroot}/ostree/repo") as repo:
        show("upgrade", options, repo, report)
    return 0


def _show_check(options: argparse.Namespace, found: Check) -> int:
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "UpgradeCheck",
            "image": found.reference,
            "changed": found.changed,
            "current": found.current,
            "available": found.available,
            "version": found.version,
            "imageBytes": found.image_bytes,
            "transferBytes": found.transfer_bytes,
            "layers": [{"digest": each.digest, "size": each.size} for each in found.layers],
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        if found.changed:
            version = f" (version {found.version})" if found.version else ""
            print(f"Update available for {found.reference}{version}: {found.available}")
            print(
                f"  to pull: {count_text(len(found.layers), 'layer')}, "
                f"{size_text(found.transfer_bytes)} of {size_text(found.image_bytes)}"
            )
        else:
            print(f"No update available for {found.reference}: {found.available}")
    return 0 if found.changed else _NOTHING_NEWER
