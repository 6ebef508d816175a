"""`bootc-py upgrade`: the newest state of the image that this host follows."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text
from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge.registry.options import NetworkOptions
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
    parser.add_argument(
        "--download-only",
        action="store_true",
        help="fetch and stage it, but let the machine boot what it would have booted",
    )
    parser.add_argument(
        "--from-downloaded",
        action="store_true",
        help="have what was downloaded only boot next; nothing is fetched",
    )
    shared.add_apply(parser)
    parser.add_argument(
        "--unattended",
        action="store_true",
        help="do nothing while the running deployment is on trial, or where the image failed here",
    )
    shared.add_keep(parser)
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

    shared.check_apply(options)
    network = shared.network_options(options)
    _check_combination(options)
    if options.from_downloaded:
        return _use_downloaded(options)
    if options.check:
        return _show_check(options, check(options.sysroot, network=network))
    if options.unattended and _is_held_back(options, network):
        return 0
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
            download_only=options.download_only,
            keep=options.keep,
            labelled=not options.disable_selinux,
        )
    with Repository.open(f"{options.sysroot}/ostree/repo") as repo:
        show("upgrade", options, repo, report)
    shared.apply(options)
    return 0


def _check_combination(options: argparse.Namespace) -> None:
    names = ("check", "download_only", "from_downloaded")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    if options.apply and given in (["--check"], ["--download-only"]):
        raise UsageError(f"{given[0]} and --apply exclude each other")


def _use_downloaded(options: argparse.Namespace) -> int:
    from bridge.sysroot.update import use_downloaded

    with shared.progress(options) as progress:
        deployment = use_downloaded(options.sysroot, progress=progress)
    if options.json:
        document = {
            "apiVersion": "bootc-py/v1",
            "kind": "FromDownloaded",
            "deployment": {
                "checksum": deployment.checksum,
                "serial": deployment.serial,
                "staged": deployment.staged,
            },
        }
        print(json.dumps(document, indent=2))
    elif not options.quiet:
        print(f"{deployment.image_reference or deployment.checksum} boots next ({deployment.name})")
    shared.apply(options)
    return 0


def _is_held_back(options: argparse.Namespace, network: NetworkOptions) -> bool:
    from bridge.sysroot import settings
    from bridge.sysroot.unattended import held_back

    reason = held_back(options.sysroot, settings.load(), network)
    if reason is None:
        return False
    if options.json:
        document = {"apiVersion": "bootc-py/v1", "kind": "UpgradeHeldBack", "reason": reason}
        print(json.dumps(document, indent=2))
    else:
        print(f"not upgraded: {reason}", file=sys.stderr)
    return True


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
