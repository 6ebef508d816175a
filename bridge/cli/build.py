"""`bootc-py build`: an OS image from a Containerfile."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from bridge.cli import lint, push
from bridge.cli import options as shared
from bridge.cli.units import count_text, size_text
from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge.build.build import BuildReport, Finishing
    from bridge.build.buildah import Steps
    from bridge.lint.subject import Subject
    from bridge.push.report import PushReport

_REPEATED = {
    "build-arg": ("NAME=VALUE", "a build argument"),
    "build-context": ("NAME=PLACE", "another context"),
    "secret": ("id=ID,src=FILE", "a secret for the steps that mount it"),
    "ssh": ("NAME", "an agent's socket or key for the steps that mount it"),
    "volume": ("HOST:CONTAINER[:OPTIONS]", "a directory for the steps, such as a cache"),
    "cap-add": ("CAPABILITY", "a capability for the steps"),
    "device": ("DEVICE", "a device for the steps"),
    "security-opt": ("OPTION", "a security option for the steps"),
}
_SINGLE = {
    "target": ("STAGE", "build this stage, not the last one"),
    "isolation": ("KIND", "how the steps are kept apart: oci, rootless or chroot"),
    "network": ("MODE", "the network that the steps have"),
    "platform": ("OS/ARCH[/VARIANT]", "default: that of this machine"),
    "pull": ("POLICY", "of base images: always, missing, never or newer"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("context", metavar="CONTEXT", nargs="?", default=".")
    parser.add_argument(
        "-t",
        "--tag",
        metavar="REF",
        required=True,
        help="what the image is stored as; oci:DIR[:TAG] and oci-archive:FILE[:TAG] are written",
    )
    parser.add_argument("-f", "--file", metavar="FILE", help="default: CONTEXT's Containerfile")
    steps = parser.add_argument_group("steps, which buildah runs")
    for name, (value, text) in _REPEATED.items():
        steps.add_argument(f"--{name}", metavar=value, action="append", default=[], help=text)
    for name, (value, text) in _SINGLE.items():
        steps.add_argument(f"--{name}", metavar=value, help=text)
    steps.add_argument("--no-cache", action="store_true", help="use no steps of earlier builds")
    steps.add_argument(
        "--buildah", metavar="OPTION", action="append", default=[], help="any other option of its"
    )
    image = parser.add_argument_group("the image")
    image.add_argument(
        "--label", metavar="NAME=VALUE", action="append", default=[], help="a label more"
    )
    image.add_argument("--version", metavar="VERSION", help="the image's own version")
    image.add_argument(
        "--timestamp",
        type=_seconds,
        metavar="SECONDS",
        help="when it says it was made, since 1970 (default: SOURCE_DATE_EPOCH, else now)",
    )
    image.add_argument(
        "--max-layers", type=_layers, metavar="N", default=64, help="default: %(default)s"
    )
    image.add_argument(
        "--previous",
        metavar="REF",
        help="the image before this one: its layers are kept where they can be; only its manifest "
        "is read",
    )
    image.add_argument("--no-lint", action="store_true", help="do not look for what is wrong in it")
    image.add_argument(
        "--skip", metavar="NAME", action="append", default=[], help="leave out this lint"
    )
    image.add_argument("--fatal-warnings", action="store_true", help="fail at warnings too")
    image.add_argument(
        "--push", action="store_true", help="push it to the registry that REF names, too"
    )
    push.add_compression(image)
    shared.add_builds(parser)
    shared.add_network(parser)
    shared.add_output(parser, progress=True)
    parser.set_defaults(run=_build)


def _layers(text: str) -> int:
    from bridge import limits

    if not text.isdecimal() or not 2 <= int(text) <= limits.LAYERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 to {limits.LAYERS_MAX}")
    return int(text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds since 1970")
    return int(text)


def _build(options: argparse.Namespace) -> int:
    from bridge.build.build import build
    from bridge.lint.run import check_names
    from bridge.oci.reference import Transport
    from bridge.push.compress import Compression
    from bridge.push.push import push as push_image

    reference = shared.image_reference(options.tag)
    in_registry = reference.transport is Transport.REGISTRY
    if options.push and not in_registry:
        raise UsageError(f"--push: {reference} is written in any case")
    check_names(options.skip)
    network = shared.network_options(options)
    steps, finishing = _steps(options), _finishing(options)
    pushed: PushReport | None = None
    with shared.open_builds(options) as repo, shared.progress(options) as progress:
        report = build(
            repo,
            reference,
            steps,
            finishing,
            check=None if options.no_lint else partial(_check, options),
            network=network,
            progress=progress,
        )
        if options.push or not in_registry:
            pushed = push_image(
                repo,
                reference,
                reference,
                compression=Compression(options.compression),
                level=options.compression_level,
                network=network,
                progress=progress,
            )
    if options.json:
        print(json.dumps(_document(report, pushed), indent=2))
    elif not options.quiet:
        print(_text(report, pushed))
    return 0


def _check(options: argparse.Namespace, subject: Subject) -> None:
    """Lint what was built; what is found goes where messages go. `BridgeError` where it fails."""
    from bridge.lint.run import run

    report = run(subject, options.skip)
    with contextlib.redirect_stdout(sys.stderr):
        lint.show(report, quiet=options.quiet)
    lint.require(report, fatal_warnings=options.fatal_warnings)


def _steps(options: argparse.Namespace) -> Steps:
    from bridge.build.buildah import Steps

    more = [
        f"--{name}={value}"
        for name in _REPEATED
        for value in getattr(options, name.replace("-", "_"))
    ]
    more += [f"--{name}={found}" for name in _SINGLE if (found := getattr(options, name))]
    for name in ("authfile", "cert_dir", "creds"):
        if (found := getattr(options, name)) is not None:
            more.append(f"--{name.replace('_', '-')}={found}")
    if options.tls_verify is not None:
        more.append(f"--tls-verify={str(options.tls_verify).lower()}")
    if options.no_cache:
        more.append("--no-cache")
    if options.quiet:
        more.append("--quiet")
    return Steps(options.context, options.file, (*more, *options.buildah))


def _finishing(options: argparse.Namespace) -> Finishing:
    from bridge.build.build import Finishing
    from bridge.oci.epoch import source_date_epoch

    labels = {}
    for each in options.label:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise UsageError(f"--label {each!r}: it is NAME=VALUE")
        labels[name] = value
    if options.version is not None:
        labels["org.opencontainers.image.version"] = options.version
    return Finishing(
        epoch=source_date_epoch() if options.timestamp is None else options.timestamp,
        labels=labels,
        max_layers=options.max_layers,
        previous=None if options.previous is None else shared.image_reference(options.previous),
    )


def _document(report: BuildReport, pushed: PushReport | None) -> dict[str, Any]:
    return {
        "apiVersion": "bootc-py/v1",
        "kind": "BuildReport",
        "image": {
            "reference": report.reference,
            "digest": report.digest,
            "commit": report.commit,
        },
        "layers": [
            {"components": [each.name for each in group], "size": sum(e.size for e in group)}
            for group in report.groups
        ],
        "keptLayers": report.kept,
        "pushed": None if pushed is None else pushed.to_json(),
        "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
    }


def _text(report: BuildReport, pushed: PushReport | None) -> str:
    size = sum(each.size for group in report.groups for each in group)
    kept = f", {report.kept} as in the previous image" if report.kept else ""
    steps = ", ".join(f"{name} {value:.1f}" for name, value in report.seconds.items())
    rows = [
        ("image", report.reference),
        ("digest", report.digest),
        ("layers", f"{count_text(len(report.groups), 'layer')}, {size_text(size)}{kept}"),
        ("seconds", steps),
    ]
    text = "\n".join(f"{name + ':':<12} {value}" for name, value in rows)
    return text if pushed is None else f"{text}\n{push.render(pushed)}"
