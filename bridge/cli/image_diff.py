"""`bootc-py image diff`: what an update from one image to another moves and changes."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bridge.cli import options as shared
from bridge.cli.units import size_text
from bridge.errors import BridgeError, UsageError

if TYPE_CHECKING:
    from bridge.compare.report import ImageDiff
    from bridge.compare.stored import StoredImage
    from bridge.oci.reference import ImageReference

_STORED = "stored:"
_NAMED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Say what a host that has image A would move to get B, before anything is published or "
        "downloaded. Only documents and tables of contents are fetched; a layer without one is "
        "read whole."
    )
    where = "[TRANSPORT:]NAME, or stored:NAME for an image of the repository"
    parser.add_argument("before", metavar="A", help=where)
    parser.add_argument("after", metavar="B", help="likewise")
    shared.add_repository(parser)
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="default: that of this machine"
    )
    add_strategy(parser)
    parser.add_argument(
        "--max-update",
        type=shared.size,
        metavar="SIZE",
        help="fail where the strategy moves more than SIZE bytes; with k, M, G, Ki, Mi or Gi",
    )
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.add_argument("--markdown", action="store_true", help="print it for a pull request")
    parser.set_defaults(run=_diff)


def add_strategy(parser: argparse.ArgumentParser) -> None:
    """Add `--strategy` and `--no-download`."""
    parser.add_argument(
        "--strategy",
        choices=("layers", "files", "chunks"),
        default="chunks",
        help="what clients can leave out: layers that they have (podman with gzip), files too "
        "(podman with zstd:chunked), or pieces of files too (this program); default: %(default)s",
    )
    parser.add_argument(
        "--no-download",
        action="store_true",
        help="read no layer whole over the network: where one has no table of contents, only "
        "whole layers are compared",
    )


def _diff(options: argparse.Namespace) -> int:
    from bridge.compare.diff import diff
    from bridge.compare.estimate import Strategy
    from bridge.compare.image import Session

    if options.json and options.markdown:
        raise UsageError("--json and --markdown: one of them")
    with ExitStack() as stack:
        progress = stack.enter_context(shared.progress(options))
        before, after = _images(options, stack)
        session = Session(
            shared.network_options(options),
            shared.platform(options),
            download=not options.no_download,
            progress=progress,
        )
        stack.enter_context(session)
        found = diff(before, after, session, Strategy(options.strategy))
    _show(options, found)
    check(found, options.max_update)
    return 0


def _images(
    options: argparse.Namespace, stack: ExitStack
) -> tuple[ImageReference | StoredImage, ImageReference]:
    from bridge.compare.stored import StoredImage, published

    texts = options.before, options.after
    if not any(each.startswith(_STORED) for each in texts):
        return shared.image_reference(texts[0]), shared.image_reference(texts[1])
    repo = stack.enter_context(shared.open_repository(options))
    old, new = (shared.image_reference(each.removeprefix(_STORED)) for each in texts)
    before = StoredImage(repo, old) if texts[0].startswith(_STORED) else old
    return before, published(repo, new) if texts[1].startswith(_STORED) else new


def _show(options: argparse.Namespace, found: ImageDiff) -> None:
    if options.json:
        print(json.dumps(found.to_json(), indent=2))
    elif options.markdown:
        from bridge.cli.diff_markdown import render as markdown

        print(markdown(found, options.max_update), end="")
    elif not options.quiet:
        from bridge.cli.diff_text import render

        print(render(found, verbose=options.verbose))


def check(found: ImageDiff, most: int | None) -> None:
    """Raise `BridgeError` where the chosen strategy moves more than `most` bytes."""
    if most is None:
        return
    what = f"the update from {found.before.reference} to {found.after.reference}"
    strategy = found.strategy.value
    if found.chosen is None:
        raise BridgeError(
            f"{what}: what it moves with --strategy {strategy} is not known, and so is not whether "
            "--max-update allows it; leave out --no-download, or take --strategy layers"
        )
    if found.chosen.bytes <= most:
        return
    from bridge.cli.diff_text import cause_name

    largest = ", ".join(
        f"{cause_name(each)} {size_text(each.bytes)}" for each in found.causes[:_NAMED]
    )
    raise BridgeError(
        f"{what} moves {size_text(found.chosen.bytes)} with --strategy {strategy}, and "
        f"--max-update allows {size_text(most)}; the largest causes: {largest}"
    )
