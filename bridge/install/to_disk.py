"""An image onto a disk: partitions, file systems, the deployment, and a boot loader."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bridge.errors import UsageError
from bridge.install import disk, efi
from bridge.install.config import DEFAULT_FILESYSTEM, FILESYSTEMS
from bridge.install.partitions import Sizes
from bridge.install.to_filesystem import (
    Installed,
    OtherFileSystem,
    Wanted,
    set_loader,
    to_filesystem,
)
from bridge.pull.plan import Depth
from bridge.pull.progress import Progress
from bridge.registry.options import NetworkOptions
from bridge.sysroot.loaders import systemd_boot


def to_disk(
    path: Path,
    wanted: Wanted,
    *,
    network: NetworkOptions,
    filesystem: str | None = None,
    sizes: Sizes | None = None,
    wipe: bool = False,
    loader_root: Path | None = None,
    progress: Progress | None = None,
    depth: Depth = Depth.CHUNKS,
) -> Installed:
    """Install the image onto the disk, or into the file, at `path`; what is on it is gone then.

    `filesystem` is the root's; by default what the image asks for, else ext4. The boot loader's
    program comes from the image, or from `loader_root`, a root directory, or from this machine.

    Raises `UsageError` where the disk is in use or too small; `NotFound` where there is no boot
    loader; and what `to_filesystem` does. A disk on which this failed does not boot.
    """
    if filesystem is not None and filesystem not in FILESYSTEMS:
        raise UsageError(f"the file system {filesystem!r:.50} is not {' or '.join(FILESYSTEMS)}")
    if loader_root is not None and not loader_root.is_dir():
        raise UsageError(f"{loader_root} is no directory to take a boot loader from")
    size = disk.check(path, wipe=wipe)
    sizes = sizes or Sizes()

    def onto(kind: str, wanted: Wanted) -> Installed:
        with disk.made(path, size, sizes, kind) as made:
            installed = to_filesystem(
                made.root, _on(made, wanted), network=network, progress=progress, depth=depth
            )
            roots = [made.root / installed.tree, loader_root or Path("/")]
            _install_loader(made, roots, wanted.bootloader or installed.config.bootloader)
        return installed

    if filesystem is not None:
        return onto(filesystem, wanted)
    try:
        return onto(DEFAULT_FILESYSTEM, replace(wanted, filesystem=DEFAULT_FILESYSTEM))
    except OtherFileSystem as other:
        # What the image asks for is known only when it is here. So it is fetched once more.
        if other.asked not in FILESYSTEMS:
            raise UsageError(
                f"{other}; choose with --filesystem {' or '.join(FILESYSTEMS)}"
            ) from None
        return onto(other.asked, wanted)


def _on(made: disk.Disk, wanted: Wanted) -> Wanted:
    return replace(
        wanted,
        root_spec=_or(wanted.root_spec, f"UUID={made.root_uuid}"),
        boot_spec=_or(wanted.boot_spec, f"UUID={made.boot_uuid}"),
        esp_spec=f"UUID={made.esp_uuid}",
    )


def _or(value: str | None, default: str) -> str:
    return default if value is None else value


def _install_loader(made: disk.Disk, roots: Sequence[Path], name: str | None) -> None:
    """Put a boot loader on the EFI system partition: the one asked for, else what there is."""
    if name == "none":
        return
    grub, systemd = efi.find_grub(roots), efi.find_systemd_boot(roots)
    if name is None:
        name = "grub" if grub or not systemd else "systemd"
    if name == "grub":
        if grub is None:
            raise efi.missing("grub")
        efi.install_grub(grub, made.esp, efi.grub_config(grub.blscfg, made.boot_uuid))
        if not grub.blscfg:
            set_loader(made.root, "grub-menu")
    elif name == "systemd":
        if systemd is None:
            raise efi.missing("systemd")
        _install_systemd_boot(made, systemd)


def _install_systemd_boot(made: disk.Disk, program: bytes) -> None:
    """Fill the partition by way of a directory in its place, as if it were mounted there."""
    place = made.root / "boot" / systemd_boot.MOUNT
    target = place / efi.systemd_boot_name()
    target.parent.mkdir(parents=True)
    target.write_bytes(program)
    (place / "loader").mkdir()
    (place / "loader/loader.conf").write_text("timeout 0\n")
    set_loader(made.root, "systemd")
    efi.fill(made.esp, efi.tree_files(place))
    shutil.rmtree(place)
    place.mkdir()
