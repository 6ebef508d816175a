"""`bootc-py install`: a new machine, from an image."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.cli import options as shared

if TYPE_CHECKING:
    from bridge.install.to_filesystem import Installed, Wanted

_MIB = 1024**2


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    disk = commands.add_parser("to-disk", help="partition a disk or a file, and install onto it")
    _add_image(disk)
    disk.add_argument("disk", metavar="DEV|FILE", type=Path, help="what is on it will be gone")
    disk.add_argument(
        "--filesystem", choices=("ext4", "xfs"), help="of the root (default: as the image says)"
    )
    disk.add_argument("--root-size", type=_size, metavar="SIZE", help="default: all there is")
    disk.add_argument("--boot-size", type=_size, metavar="SIZE", help="default: 512M")
    disk.add_argument("--esp-size", type=_size, metavar="SIZE", help="default: 512M")
    disk.add_argument("--wipe", action="store_true", help="write over what is on the disk")
    disk.add_argument(
        "--bootloader", choices=("grub", "systemd", "none"), help="default: what there is"
    )
    disk.add_argument(
        "--bootloader-from",
        metavar="DIR",
        type=Path,
        help="a root directory with the boot loader, where the image has none (default: /)",
    )
    _add_common(disk)
    disk.set_defaults(run=_to_disk)

    filesystem = commands.add_parser(
        "to-filesystem", help="install into a directory where a new root is mounted"
    )
    _add_image(filesystem)
    filesystem.add_argument("root", metavar="DIR", type=Path)
    filesystem.add_argument(
        "--root-mount-spec", metavar="SPEC", help="UUID=… or LABEL=… for root=; empty: none"
    )
    filesystem.add_argument("--boot-mount-spec", metavar="SPEC", help="the same, of /boot")
    _add_common(filesystem)
    filesystem.set_defaults(run=_to_filesystem)

    show = commands.add_parser(
        "print-configuration", help="show what an image asks of its installation, as JSON"
    )
    show.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="of the image's files"
    )
    show.add_argument("-v", "--verbose", action="store_true", help="say more")
    show.set_defaults(run=_print_configuration)


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="[TRANSPORT:]NAME, such as quay.io/a/b:tag")


def _add_common(parser: argparse.ArgumentParser) -> None:
    shared.add_transport(parser)
    parser.add_argument(
        "--target-imgref", metavar="IMAGE", help="what the machine follows, if not IMAGE"
    )
    parser.add_argument(
        "--target-transport", metavar="KIND", help="of --target-imgref, as --transport"
    )
    parser.add_argument("--karg", action="append", default=[], metavar="ARG")
    parser.add_argument("--karg-delete", action="append", default=[], metavar="ARG")
    parser.add_argument(
        "--root-ssh-authorized-keys", metavar="FILE", type=Path, help="keys that root accepts"
    )
    parser.add_argument("--stateroot", metavar="NAME", help="default: default")
    shared.add_labels(parser)
    shared.add_transfer(parser, plan=False)
    shared.add_network(parser)
    shared.add_output(parser, progress=True)


def _wanted(options: argparse.Namespace) -> Wanted:
    from bridge.install.to_filesystem import Wanted

    target = options.target_imgref
    keys: Path | None = options.root_ssh_authorized_keys
    return Wanted(
        image=shared.image_reference(options.image, options.transport),
        target=None if target is None else shared.image_reference(target, options.target_transport),
        kargs=options.karg,
        karg_deletes=options.karg_delete,
        ssh_keys=None if keys is None else keys.read_text(),
        stateroot=options.stateroot,
        root_spec=getattr(options, "root_mount_spec", None),
        boot_spec=getattr(options, "boot_mount_spec", None),
        bootloader=getattr(options, "bootloader", None),
        labelled=not options.disable_selinux,
    )


def _to_disk(options: argparse.Namespace) -> int:
    from bridge.install.partitions import BOOT_SIZE, ESP_SIZE, Sizes
    from bridge.install.to_disk import to_disk
    from bridge.sysroot import files, writable

    with files.doing("mounting for ourselves"):
        writable.own_namespace()
    with _ended_by_signals(), shared.progress(options) as progress:
        installed = to_disk(
            options.disk,
            _wanted(options),
            network=shared.network_options(options),
            filesystem=options.filesystem,
            sizes=Sizes(
                options.esp_size or ESP_SIZE, options.boot_size or BOOT_SIZE, options.root_size
            ),
            wipe=options.wipe,
            loader_root=options.bootloader_from,
            progress=progress,
            depth=shared.depth(options),
        )
    return _show(options, installed, str(options.disk))


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Unmount and detach what is in use when the process is told to end, too."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, interrupt) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def _to_filesystem(options: argparse.Namespace) -> int:
    from bridge.install.to_filesystem import to_filesystem

    with shared.progress(options) as progress:
        installed = to_filesystem(
            options.root,
            _wanted(options),
            network=shared.network_options(options),
            progress=progress,
            depth=shared.depth(options),
        )
    return _show(options, installed, str(options.root))


def _show(options: argparse.Namespace, installed: Installed, where: str) -> int:
    from bridge.cli.transfer import show_report

    show_report(options, installed.report)
    if not (options.json or options.quiet):
        print(f"installed on {where}")
    return 0


def _print_configuration(options: argparse.Namespace) -> int:
    from bridge.install.config import DIRECTORY, document, merge

    texts = []
    for path in sorted((options.root / DIRECTORY).glob("*.toml")):
        texts.append((path.name, path.read_text(errors="replace")))
    print(json.dumps(document(merge(texts)), indent=2))
    return 0


def _size(text: str) -> int:
    units = {"M": _MIB, "G": 1024 * _MIB, "T": 1024**2 * _MIB}
    unit = units.get(text[-1:].upper())
    if unit is None or not text[:-1].isdecimal() or not int(text[:-1]):
        raise argparse.ArgumentTypeError(f"{text!r:.50} is not a size such as 512M or 10G")
    return int(text[:-1]) * unit
