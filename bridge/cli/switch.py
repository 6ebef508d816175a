"""`bootc-py switch`: another image from the next boot on."""

from __future__ import annotations

import argparse

from bridge.cli import options as shared


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("image", metavar="IMAGE", help="[TRANSPORT:]NAME, such as quay.io/a/b:tag")
    shared.add_transport(parser)
    shared.add_sysroot(parser)
    parser.add_argument(
        "--retain", action="store_true", help="keep stored images that no deployment needs"
    )
    shared.add_apply(parser)
    shared.add_keep(parser)
    shared.add_labels(parser)
    shared.add_transfer(parser)
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pull, deploy, report."""
    from bridge.cli.transfer import show, show_plan
    from bridge.ostree.repository import Repository
    from bridge.sysroot.update import preview_switch, switch

    shared.check_apply(options)
    reference = shared.image_reference(options.image, options.transport)
    network = shared.network_options(options)
    depth = shared.depth(options)
    if options.plan:
        with shared.progress(options) as progress:
            found = preview_switch(
                options.sysroot, reference, network=network, progress=progress, depth=depth
            )
        show_plan(options, found)
        return 0
    with shared.progress(options) as progress:
        report = switch(
            options.sysroot,
            reference,
            network=network,
            progress=progress,
            retain=options.retain,
            depth=depth,
            keep=options.keep,
            labelled=not options.disable_selinux,
        )
    with Repository.open(f"{options.sysroot}/ostree/repo") as repo:
        show("switch", options, repo, report)
    shared.apply(options)
    return 0
