"""GRUB programs that a distribution has signed for Secure Boot, with the shim that starts them.

They cannot be made anew, so they are copied, and read their configuration from the directory of
their vendor on the EFI system partition. Where they lie in an image:

bootupd   `usr/lib/bootupd/updates/EFI`, or `usr/lib/efi/NAME/VERSION/EFI`: as on the partition.
          These are Fedora's GRUB, which has `blscfg`.
Debian    `usr/lib/shim`, `usr/lib/grub/x86_64-efi-signed`: of packages shim-signed and
          grub-efi-amd64-signed, without `blscfg`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import MalformedImage
from bridge.limits import EFI_PROGRAM_MAX
from bridge.sysroot import files

_CONFIG = "grub.cfg"
_REMOVABLE = "BOOT"
"""The directory that firmware looks into without being told to."""
_BOOTUPD = "usr/lib/bootupd/updates/EFI"
_PACKAGED = "usr/lib/efi"
_DEBIAN = {
    # uname -m: what to take, and where it goes
    "x86_64": (
        ("usr/lib/shim/shimx64.efi.signed", "BOOTX64.EFI"),
        ("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grubx64.efi"),
    ),
    "aarch64": (
        ("usr/lib/shim/shimaa64.efi.signed", "BOOTAA64.EFI"),
        ("usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed", "grubaa64.efi"),
    ),
}
_DEBIAN_VENDORS = ("debian", "ubuntu")


@dataclass(frozen=True, slots=True)
class SignedGrub:
    """What goes to the partition, by its path there, and what it is told by."""

    programs: tuple[tuple[str, bytes], ...]
    configs: tuple[str, ...]
    """Paths of its configuration."""
    blscfg: tuple[str, ...]
    """Commands that have it read boot entries; without any it needs a menu made of them."""

    def content(self, config: str) -> list[tuple[str, bytes]]:
        """Return all files for the partition, with the text of the configuration."""
        return [*self.programs, *((path, config.encode()) for path in self.configs)]


def find(root: Path, machine: str) -> SignedGrub | None:
    """Return the signed GRUB of a root directory, with its shim; None where it has none.

    No link in it is followed. Raises `MalformedImage` for programs that are too large.
    """
    try:
        top = files.open_directory(root)
    except OSError:
        return None
    try:
        return _of_bootupd(top) or _of_debian(top, machine)
    finally:
        os.close(top)


def _of_bootupd(top: int) -> SignedGrub | None:
    places = [_BOOTUPD]
    for name in files.names(top, _PACKAGED):
        places += [
            f"{_PACKAGED}/{name}/{version}/EFI"
            for version in files.names(top, f"{_PACKAGED}/{name}")
        ]
    programs: dict[str, bytes] = {}
    for place in places:
        programs |= {path: _read(top, f"{place}/{path}") for path in _below(top, place)}
    vendors = sorted({path.partition("/")[0] for path in programs} - {_REMOVABLE})
    vendors = [each for each in vendors if any(_is_grub(path, each) for path in programs)]
    if not vendors or not any(path.startswith(f"{_REMOVABLE}/") for path in programs):
        return None
    return SignedGrub(
        tuple((f"EFI/{path}", data) for path, data in sorted(programs.items())),
        tuple(f"EFI/{each}/{_CONFIG}" for each in vendors),
        ("set boot=$root", "blscfg"),
    )


def _is_grub(path: str, vendor: str) -> bool:
    return path.startswith(f"{vendor}/grub") and path.endswith(".efi")


def _of_debian(top: int, machine: str) -> SignedGrub | None:
    wanted = _DEBIAN.get(machine, ())
    if not wanted or not all(_is_file(top, path) for path, _ in wanted):
        return None
    return SignedGrub(
        tuple((f"EFI/{_REMOVABLE}/{name}", _read(top, path)) for path, name in wanted),
        tuple(f"EFI/{each}/{_CONFIG}" for each in (_REMOVABLE, *_DEBIAN_VENDORS)),
        (),
    )


def _below(top: int, place: str) -> Iterator[str]:
    """Yield the paths of regular files in the directories of a directory."""
    for directory in files.names(top, place):
        for name in files.names(top, f"{place}/{directory}"):
            if _is_file(top, f"{place}/{directory}/{name}"):
                yield f"{directory}/{name}"


def _is_file(top: int, path: str) -> bool:
    parent, _, name = path.rpartition("/")
    try:
        with files.directory(top, parent) as fd:
            status = files.lstat(fd, name)
    except OSError:
        return False
    return status is not None and stat.S_ISREG(status.st_mode)


def _read(top: int, path: str) -> bytes:
    parent, _, name = path.rpartition("/")
    try:
        with files.directory(top, parent) as fd:
            return files.read_bytes(fd, name, EFI_PROGRAM_MAX)
    except OSError as error:
        raise MalformedImage(f"/{path} cannot be read: {error.strerror}") from None
