"""`bootc-py image`: pull, push, list, inspect, remove, repair, prune, index,
diff, report."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli import image_diff, image_report, index, push
from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text
from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository
    from bridge.pull.images import StoredImage


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")

    pull = verbs.add_parser("pull", help="bring an image into a repository")
    pull.add_argument("image", metavar="IMAGE", help="[TRANSPORT:]NAME, such as quay.io/a/b:tag")
    shared.add_transport(pull)
    shared.add_repository(pull)
    pull.add_argument(
        "--mode",
        choices=("bare", "bare-user", "archive"),
        help="of a repository that is made (default: bare for root, else bare-user)",
    )
    pull.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="default: that of this machine"
    )
    shared.add_labels(pull)
    shared.add_transfer(pull)
    shared.add_network(pull)
    shared.add_output(pull, progress=True)
    pull.set_defaults(run=_pull)

    push.configure(verbs.add_parser("push", help="write a stored image back out"))

    listing = verbs.add_parser("list", help="list the stored images")
    shared.add_repository(listing)
    shared.add_output(listing)
    listing.set_defaults(run=_list)

    inspect = verbs.add_parser("inspect", help="show what is known of a stored image, as JSON")
    inspect.add_argument("image", metavar="IMAGE")
    shared.add_transport(inspect)
    shared.add_repository(inspect)
    shared.add_output(inspect)
    inspect.set_defaults(run=_inspect)

    remove = verbs.add_parser("remove", help="forget images; prune gives their space back")
    remove.add_argument("images", metavar="IMAGE", nargs="+")
    shared.add_transport(remove)
    shared.add_repository(remove)
    shared.add_output(remove)
    remove.set_defaults(run=_remove)

    repair = verbs.add_parser("repair", help="write the refs of images and their layers again")
    repair.add_argument("images", metavar="IMAGE", nargs="*", help="default: all")
    shared.add_transport(repair)
    shared.add_repository(repair)
    shared.add_network(repair)
    shared.add_output(repair, progress=True)
    repair.set_defaults(run=_repair)

    prune = verbs.add_parser("prune", help="delete layers and objects that nothing refers to")
    shared.add_repository(prune)
    shared.add_output(prune)
    prune.set_defaults(run=_prune)

    image_diff.configure(
        verbs.add_parser("diff", help="tell what an update from one image to another moves")
    )
    image_report.configure(
        verbs.add_parser("report", help="write a page on what the updates of a repository moved")
    )
    index.configure(
        verbs.add_parser("index", help="bring the index of what the store has up to date")
    )


def _pull(options: argparse.Namespace) -> int:
    from bridge.cli.transfer import show, show_plan
    from bridge.pull.pull import preview, pull

    reference = shared.image_reference(options.image, options.transport)
    network = shared.network_options(options)
    platform = shared.platform(options)
    depth = shared.depth(options)
    if options.plan:
        with ExitStack() as stack:
            repo = None
            if options.repo is None or (Path(options.repo) / "config").exists():
                repo = stack.enter_context(shared.open_repository(options))
            progress = stack.enter_context(shared.progress(options))
            found = preview(
                repo,
                reference,
                network=network,
                platform=platform,
                depth=depth,
                progress=progress,
            )
        show_plan(options, found)
        return 0
    with _open_or_create(options) as repo:
        with shared.progress(options) as progress:
            report = pull(
                repo,
                reference,
                network=network,
                platform=platform,
                depth=depth,
                labelled=not options.disable_selinux,
                progress=progress,
            )
        show("image pull", options, repo, report)
    return 0


def _list(options: argparse.Namespace) -> int:
    from bridge.pull.images import listing

    with shared.open_repository(options) as repo:
        found, damaged = listing(repo)
    if options.json:
        summaries = [_summary(image) for image in found]
        for each in damaged:
            known = {"reference": each.reference, "commit": each.checksum, "problem": each.problem}
            summaries.append(dict.fromkeys(_SUMMARY) | known)
        print(json.dumps(summaries, indent=2))
        return 0
    for image in found:
        created = time.strftime("%Y-%m-%d", time.gmtime(image.commit.timestamp))
        print(f"{image.reference}  {image.manifest_digest[:19]}  {created}")
    for each in damaged:
        print(f"{each.reference}  damaged: {each.problem}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from bridge.pull.images import find

    with shared.open_repository(options) as repo:
        image = find(repo, shared.image_reference(options.image, options.transport))
    document = _summary(image) | {
        "created": image.config.created,
        "os": image.config.platform.os,
        "architecture": image.config.platform.architecture,
        "labels": dict(image.config.labels),
        "layers": [
            {
                "digest": layer.digest,
                "diffId": diff_id,
                "mediaType": layer.media_type,
                "size": layer.size,
            }
            for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=False)
        ],
    }
    print(json.dumps(document, indent=2))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from bridge.pull.images import remove, require

    references = [shared.image_reference(text, options.transport) for text in options.images]
    with shared.open_repository(options) as repo:
        for reference in references:
            require(repo, reference)  # all of them or none
        for reference in references:
            remove(repo, reference)
            if not options.quiet and not options.json:
                print(f"removed {reference}")
    if options.json:
        print(json.dumps({"removed": [str(reference) for reference in references]}))
    return 0


def _repair(options: argparse.Namespace) -> int:
    from bridge.cli.repair import Healing, document
    from bridge.ostree.fsck import missing

    only = [shared.image_reference(text, options.transport) for text in options.images]
    with Healing.open(options) as healing:
        result = healing.heal(missing(healing.repo), only)
    if options.json:
        head = {"apiVersion": "bootc-py/v1", "kind": "Repair"}
        print(json.dumps(head | document(*result), indent=2))
    return healing.conclude(*result)


def _prune(options: argparse.Namespace) -> int:
    from bridge.cli.repair import Healing
    from bridge.pull.images import prune

    with Healing.open(options) as healing:
        healing.name_deployments()  # nothing else keeps their commits
        layers, result = prune(healing.repo)
    if options.json:
        print(
            json.dumps(
                {
                    "layers": layers,
                    "objects": result.objects,
                    "totalObjects": result.total,
                    "bytes": result.bytes,
                }
            )
        )
    elif not options.quiet:
        print(
            f"{count_text(layers, 'layer')} and {result.objects:,} of "
            f"{count_text(result.total, 'object')} deleted, {size_text(result.bytes)} freed"
        )
    return 0


_SUMMARY = (
    "reference",
    "manifestDigest",
    "commit",
    "contentChecksum",
    "version",
    "imageBytes",
)


def _summary(image: StoredImage) -> dict[str, Any]:
    values = (
        image.reference,
        image.manifest_digest,
        image.checksum,
        image.commit.content_checksum,
        image.version,
        image.manifest.image_bytes,
    )
    return dict(zip(_SUMMARY, values, strict=True))


def _open_or_create(options: argparse.Namespace) -> Repository:
    import os

    from bridge.ostree.repository import UNFINISHED, Repository

    if options.repo is None or (Path(options.repo) / "config").exists():
        repo = shared.open_repository(options)
        if options.mode not in (None, repo.mode):
            repo.close()
            raise UsageError(f"{repo.path} has mode {repo.mode}; leave --mode out")
        return repo
    path = Path(options.repo)
    # What a run that was cut off made has no config yet, and is gone on with.
    if path.is_dir() and {each.name for each in path.iterdir()} - UNFINISHED:
        raise UsageError(f"{path} is neither empty nor an OSTree repository")
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = options.mode or ("bare" if os.geteuid() == 0 else "bare-user")
    return Repository.create(path, mode)
