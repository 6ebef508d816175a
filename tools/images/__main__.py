"""`python3 -m tools.images build|path|push|reproduce`: the project's OS images.

build [IMAGE...] [--version V]         builds what the cache lacks
path IMAGE VERSION [--form F]          prints IMAGE's reference, oci:DIRECTORY:TAG
push HOST:PORT [IMAGE...] [--version V]  pushes to a registry, one tag for each form
reproduce [IMAGE...] [--version V]     builds twice by `bootc-py build`, and names what differs
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from tools.images import build
from tools.images.push import publish
from tools.images.reproduce import differences, reproduce
from tools.images.spec import ALL, FORMATS, IMAGES, VERSIONS


def main() -> int:
    arguments = _parser().parse_args()
    # So that temporary directories and children go when we are ended.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if arguments.command == "path":
            print(build.image(arguments.image, arguments.version, arguments.form).reference)
        if arguments.command == "reproduce":
            return _reproduce(arguments)
        for name, version in _chosen(arguments):
            if arguments.command == "build":
                for form in FORMATS:
                    layout = build.image(name, version, form)
                    size = sum(layer["size"] for layer in layout.layers)
                    print(
                        f"{form:5} {len(layout.layers)} layers, {size:,} bytes: {layout.reference}"
                    )
            elif arguments.command == "push":
                for reference, digest in publish(name, version, arguments.registry):
                    print(f"{reference}@{digest}")
    except subprocess.CalledProcessError as error:
        print(f"error: {error.cmd[0]} failed with exit status {error.returncode}", file=sys.stderr)
        return 1
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    status = 0
    for version in [arguments.version] if arguments.version else VERSIONS:
        for pair in reproduce(arguments.images or IMAGES, version):
            print(f"{pair.name} {version}: {pair.first.digest}", flush=True)
            if not pair.same:
                status = 1
                print(f"{pair.name} {version}: {pair.second.digest} elsewhere")
                for each in differences(pair.first, pair.second):
                    print(f"{pair.name} {version}: {each}")
    return status


def _chosen(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    if arguments.command == "path":
        return []
    versions = [arguments.version] if arguments.version else list(VERSIONS)
    return [(name, version) for name in arguments.images or IMAGES for version in versions]


def _known(name: str) -> str:
    if name not in ALL:
        raise argparse.ArgumentTypeError(f"no image is named {name}: {', '.join(ALL)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "push", "reproduce"):
        command = commands.add_parser(name)
        if name == "push":
            command.add_argument("registry", metavar="HOST:PORT")
        command.add_argument(
            "images",
            nargs="*",
            type=_known,
            metavar="IMAGE",
            help=f"{', '.join(ALL)} (default: the first two)",
        )
        command.add_argument("--version", choices=VERSIONS, help="default: all")
    command = commands.add_parser("path")
    command.add_argument("image", choices=ALL)
    command.add_argument("version", choices=VERSIONS)
    command.add_argument("--form", choices=FORMATS, default="gzip")
    return parser


if __name__ == "__main__":
    sys.exit(main())
