"""What the firmware starts: a boot loader's program on the EFI system partition.

The program comes from the image, for what boots an image should be what was tested with it; where
the image has none, from this machine. It gets the path that firmware looks at without being told
to, `EFI/BOOT/BOOTX64.EFI`. The partition is filled by mtools: no vfat in the kernel is needed.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import NotFound, UsageError
from bridge.install import tools

_FIRMWARE = {
    # uname -m: (the part of GRUB's names, the name that firmware looks for, systemd-boot's name)
    "x86_64": ("x86_64-efi", "BOOTX64.EFI", "systemd-bootx64.efi"),
    "aarch64": ("arm64-efi", "BOOTAA64.EFI", "systemd-bootaa64.efi"),
    "riscv64": ("riscv64-efi", "BOOTRISCV64.EFI", "systemd-bootriscv64.efi"),
}
_GRUB_MODULES = (
    "part_gpt fat ext2 xfs btrfs search search_fs_uuid normal configfile linux echo test"
)
_GRUB_MAY = ("blscfg", "blsuki", "serial", "terminal", "efi_gop", "all_video", "gzio", "zstd")
_GRUB_BLS = ("blsuki", "blscfg")
"""Modules with the command `blscfg`: upstream's since 2.14, and Fedora's."""


@dataclass(frozen=True, slots=True)
class Grub:
    """A GRUB that can be put on the partition."""

    root: Path
    """The root directory that it is installed in."""
    modules: Path
    bls: str | None
    """The module that reads boot entries; without one it needs a menu made of them."""

    @property
    def loader(self) -> str:
        """What `bridge.sysroot.loaders` calls it."""
        return "none" if self.bls else "grub-menu"


def find_grub(roots: list[Path]) -> Grub | None:
    """Return the GRUB for EFI of the first of these root directories that has one."""
    target = _names()[0]
    for root in roots:
        modules = root / "usr/lib/grub" / target
        if not modules.joinpath("normal.mod").is_file():
            continue
        if root != Path("/") and not any(
            root.joinpath(place, "grub-mkstandalone").is_file() for place in ("usr/bin", "bin")
        ):
            continue
        bls = next((each for each in _GRUB_BLS if (modules / f"{each}.mod").is_file()), None)
        return Grub(root, modules, bls)
    return None


def find_systemd_boot(roots: list[Path]) -> Path | None:
    """Return systemd-boot's program of the first of these root directories that has it."""
    for root in roots:
        found = root / "usr/lib/systemd/boot/efi" / _names()[2]
        if found.is_file():
            return found
    return None


def grub_config(grub: Grub, boot_uuid: str, prefix: str) -> str:
    """Return what GRUB is to do: find the file system of `/boot`, and go by what lies there."""
    lines = ["set timeout=0", f"search --no-floppy --fs-uuid --set=root {boot_uuid}"]
    if grub.bls:
        lines += [f"insmod {grub.bls}", "blscfg"]
    else:
        lines.append(f"configfile {prefix}/loader/grub.cfg")
    return "\n".join(lines) + "\n"


def install_grub(grub: Grub, esp: Path, config: str) -> None:
    """Put GRUB on the empty FAT `esp`, with its configuration inside of it."""
    target, name, _ = _names()
    present = [each for each in _GRUB_MAY if (grub.modules / f"{each}.mod").is_file()]
    modules = " ".join([*_GRUB_MODULES.split(), *present])
    with tempfile.TemporaryDirectory(prefix="bootc-py-grub-") as work:
        (Path(work) / "grub.cfg").write_text(config)
        command = [
            "grub-mkstandalone", f"--format={target}", f"--modules={modules}",
            "--locales=", "--fonts=", "--themes=",
        ]  # fmt: skip
        if grub.root == Path("/"):
            output = [f"--output={work}/grub.efi", f"boot/grub/grub.cfg={work}/grub.cfg"]
            tools.run(*command, *output)
        else:
            # A deployment's files are the store's: its programs see them read-only.
            output = ["--output=/tmp/grub.efi", "boot/grub/grub.cfg=/tmp/grub.cfg"]
            tools.run(
                "unshare", "--mount", "sh", "-euc", _CHROOT, "sh", str(grub.root), work,
                *command, *output,
            )  # fmt: skip
        fill(esp, [(f"EFI/BOOT/{name}", Path(work) / "grub.efi")])


_CHROOT = """
root=$1 work=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
[ -d "$root/tmp/" ] || mount -t tmpfs tmpfs "$root/sysroot"
mount --bind "$work" "$(readlink -m "$root/tmp")"
exec chroot "$root" "$@"
"""


def fill(esp: Path, files: list[tuple[str, Path]]) -> None:
    """Copy files to their paths on the FAT `esp`, a device that is not mounted."""
    tools.need("mcopy")
    made: set[str] = set()
    for path, source in files:
        for parent in _parents(path):
            if parent not in made:
                tools.run("mmd", "-D", "s", "-i", str(esp), f"::{parent}")
                made.add(parent)
        tools.run("mcopy", "-o", "-i", str(esp), str(source), f"::{path}")


def systemd_boot_name() -> str:
    """Return the path at which firmware finds systemd-boot."""
    return f"EFI/BOOT/{_names()[1]}"


def tree_files(top: Path) -> list[tuple[str, Path]]:
    """Return all regular files below `top`, with their paths in it."""
    found = sorted(each for each in top.rglob("*") if each.is_file() and not each.is_symlink())
    return [(str(each.relative_to(top)), each) for each in found]


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])


def _names() -> tuple[str, str, str]:
    machine = platform.machine()
    try:
        return _FIRMWARE[machine]
    except KeyError:
        raise UsageError(f"no boot loader is known for {machine}; use --bootloader none") from None


def missing(what: str) -> NotFound:
    """Return the error for an image, and a machine, that have not got a boot loader."""
    packages = {"grub": "grub-efi-amd64-bin and grub-common", "systemd": "systemd-boot-efi"}
    return NotFound(
        f"neither the image nor this machine has {what} for EFI; add {packages[what]} to the "
        "image, or use --bootloader none"
    )
