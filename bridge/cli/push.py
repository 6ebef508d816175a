"""`bootc-py image push`: a stored image into a registry or a layout."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text

if TYPE_CHECKING:
    from bridge.push.report import PushReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="a stored image, as `image list` has it; with --format ostree also a ref or a commit",
    )
    parser.add_argument(
        "destination",
        metavar="DEST",
        help="quay.io/a/b:tag, docker://…, oci:DIR[:TAG] or oci-archive:FILE[:TAG]",
    )
    shared.add_repository(parser)
    add_compression(parser)
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=_push)


def add_compression(parser: argparse._ActionsContainer) -> None:
    """Add `--compression` and `--compression-level`."""
    parser.add_argument(
        "--format",
        choices=("oci", "ostree"),
        default="oci",
        help="oci: the layers that were pulled; ostree: its commit, as rpm-ostree and bootc import "
        "it bit for bit (default: %(default)s)",
    )
    parser.add_argument(
        "--compression",
        choices=("gzip", "zstd", "zstd:chunked", "none"),
        default="zstd:chunked",
        help="of the layers (default: %(default)s)",
    )
    parser.add_argument(
        "--compression-level", type=int, metavar="N", help="default: that of the compression"
    )


def _push(options: argparse.Namespace) -> int:
    from bridge.push.compress import Compression
    from bridge.push.encapsulate import encapsulate, source_named
    from bridge.push.push import push

    destination = shared.image_reference(options.destination)
    network = shared.network_options(options)
    compression, level = Compression(options.compression), options.compression_level
    with shared.open_repository(options) as repo, shared.progress(options) as progress:
        if options.format == "ostree":
            report = encapsulate(
                repo,
                source_named(repo, options.image),
                destination,
                compression=compression,
                level=level,
                network=network,
                progress=progress,
            )
        else:
            report = push(
                repo,
                shared.image_reference(options.image),
                destination,
                compression=compression,
                level=level,
                network=network,
                progress=progress,
            )
    if options.json:
        print(json.dumps(report.to_json(), indent=2))
    elif not options.quiet:
        print(render(report, verbose=options.verbose))
    return 0


def render(report: PushReport, *, verbose: bool = False) -> str:
    """Return the report as text."""
    from bridge.registry.outcome import Outcome

    ways = ", ".join(f"{size_text(report.bytes_of(way))} {way.value}" for way in Outcome)
    requests = f" in {count_text(report.requests, 'request')}" if report.requests else ""
    if report.retries:
        requests += f", {count_text(report.retries, 'retry')}"
    rows = [
        ("image", report.reference),
        ("destination", report.destination),
        ("digest", report.digest),
        ("layers", f"{len(report.layers)} in {report.compression}: {ways}{requests}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    lines = [f"{name + ':':<12} {value}" for name, value in rows]
    if verbose:
        lines += [
            f"  {each.blob.digest}  {each.outcome.value:<8} {size_text(each.blob.size):>9}"
            for each in report.layers
        ]
    return "\n".join(lines)
