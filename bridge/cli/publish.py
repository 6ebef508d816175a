"""`bootc-py publish`: an image to where others get it, with what belongs to it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text

if TYPE_CHECKING:
    from bridge.build.publish import PublishReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="quay.io/a/b:tag, docker://…, oci:DIR[:TAG] or oci-archive:FILE[:TAG]; with --repo or "
        "--built a stored image, as `image list` has it",
    )
    parser.add_argument(
        "destination",
        metavar="DEST",
        help="quay.io/a/b:tag, docker://…, oci:DIR[:TAG] or oci-archive:FILE[:TAG]",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--repo", metavar="DIR", help="the OSTree repository that has the image")
    group.add_argument("--built", action="store_true", help="it is one that `build` has stored")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="TAG", help="one more tag for it"
    )
    parser.add_argument(
        "--format",
        choices=("oci", "ostree"),
        default="oci",
        help="ostree: a commit encapsulated in an image (default: %(default)s)",
    )
    parser.add_argument(
        "--sbom",
        choices=("spdx", "cyclonedx", "none"),
        default="none",
        help="a bill of materials that refers to the image (default: %(default)s)",
    )
    parser.add_argument(
        "--compression",
        choices=("gzip", "zstd", "zstd:chunked", "none"),
        help="of the layers (default: as they are; of a stored image zstd:chunked)",
    )
    parser.add_argument(
        "--compression-level", type=int, metavar="N", help="default: that of the compression"
    )
    parser.add_argument("--digestfile", metavar="FILE", help="write the image's digest to FILE")
    parser.add_argument(
        "--src-creds",
        metavar="USER:PASSWORD",
        help="credentials for the image's registry (default: --creds, if it is DEST's, too)",
    )
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Publish, and print the digest or the report."""
    from contextlib import ExitStack

    from bridge.build.publish import Wanted, publish
    from bridge.build.sbom import Format
    from bridge.errors import UsageError
    from bridge.push.compress import Compression

    is_stored = options.repo is not None or options.built
    if options.compression is None and options.compression_level is not None and not is_stored:
        raise UsageError("--compression-level needs --compression: layers stay as they are")
    wanted = Wanted(
        tags=options.tag,
        format=options.format,
        compression=None if options.compression is None else Compression(options.compression),
        level=options.compression_level,
        sbom=None if options.sbom == "none" else Format(options.sbom),
    )
    image = shared.image_reference(options.image)
    destination = shared.image_reference(options.destination)
    network = shared.network_options(options)
    reading = None
    if options.src_creds is not None:
        reading = shared.network_options(
            argparse.Namespace(**{**vars(options), "creds": options.src_creds})
        )
    with ExitStack() as stack:
        opened = shared.open_builds if options.built else shared.open_repository
        repo = stack.enter_context(opened(options)) if is_stored else None
        progress = stack.enter_context(shared.progress(options))
        report = publish(
            image,
            destination,
            wanted,
            repo=repo,
            network=network,
            source_network=reading,
            progress=progress,
        )
    if options.digestfile:
        with open(options.digestfile, "w", encoding="ascii") as file:
            file.write(report.digest)
    if options.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report.digest)
        if not options.quiet:
            print(render(report), file=sys.stderr)
    return 0


def render(report: PublishReport) -> str:
    """Return the report as text."""
    from bridge.registry.outcome import Outcome

    sizes = {
        way: sum(each.blob.size for each in report.blobs if each.outcome is way) for way in Outcome
    }
    ways = ", ".join(f"{size_text(size)} {way.value}" for way, size in sizes.items())
    requests = f" in {count_text(report.requests, 'request')}" if report.requests else ""
    if report.retries:
        requests += f", {count_text(report.retries, 'retry')}"
    packed = "as they were" if report.compression is None else f"in {report.compression.value}"
    rows = [
        ("image", report.reference),
        ("destination", report.destination),
        ("tags", ", ".join(report.tags) or "none"),
        ("blobs", f"{len(report.blobs)}, layers {packed}: {ways}{requests}"),
        *(("attached", f"{each.artifact_type} {each.digest}") for each in report.attached),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    return "\n".join(f"{name + ':':<12} {value}" for name, value in rows)
