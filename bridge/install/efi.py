"""What the firmware starts: a boot loader's program on the EFI system partition.

The program comes from the image, for what boots an image should be what was tested with it; where
the image has none, from this machine. It gets the path that firmware looks at without being told
to, `EFI/BOOT/BOOTX64.EFI`. The partition is filled by mtools: no vfat in the kernel is needed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import NotFound, UsageError
from bridge.install import signed, tools
from bridge.install.signed import SignedGrub
from bridge.limits import EFI_PROGRAM_MAX
from bridge.sysroot import files

_FIRMWARE = {
    # uname -m: (the part of GRUB's names, the name that firmware looks for, systemd-boot's name)
    "x86_64": ("x86_64-efi", "BOOTX64.EFI", "systemd-bootx64.efi"),
    "aarch64": ("arm64-efi", "BOOTAA64.EFI", "systemd-bootaa64.efi"),
    "riscv64": ("riscv64-efi", "BOOTRISCV64.EFI", "systemd-bootriscv64.efi"),
}
_GRUB_PROGRAMS = ("grub-mkstandalone", "grub2-mkstandalone")
_GRUB_MODULES = (
    "part_gpt", "fat", "ext2", "xfs", "btrfs", "search", "search_fs_uuid", "normal", "configfile",
    "linux", "echo", "test",
)  # fmt: skip
_GRUB_MAY = ("blscfg", "blsuki", "serial", "terminal", "efi_gop", "all_video", "gzio", "zstd")
_GRUB_BLS = ("blsuki", "blscfg")
"""Modules with the command `blscfg`: upstream's since 2.14, and Fedora's."""
_SYSTEMD_BOOT = "usr/lib/systemd/boot/efi"


@dataclass(frozen=True, slots=True)
class Grub:
    """A GRUB that can be put on the partition."""

    root: Path
    """The root directory that it is installed in."""
    program: str
    """What makes one file of it."""
    modules: tuple[str, ...]
    """Those that it has of the ones that are of use."""
    blscfg: tuple[str, ...]
    """Commands that have it read boot entries; without any it needs a menu made of them."""


def find_grub(roots: Sequence[Path]) -> Grub | SignedGrub | None:
    """Return the GRUB for EFI of the first of these root directories that has one.

    One that is signed is preferred: with its packages goes a wish for Secure Boot.
    """
    target = _names()[0]
    for root in roots:
        if found := signed.find(root, platform.machine()):
            return found
        program = next((each for each in _GRUB_PROGRAMS if _is_file(root, f"usr/bin/{each}")), None)
        modules = f"usr/lib/grub/{target}"
        if program and _is_file(root, f"{modules}/normal.mod"):
            present = [each for each in _GRUB_MAY if _is_file(root, f"{modules}/{each}.mod")]
            reads = next((each for each in _GRUB_BLS if each in present), None)
            blscfg = (f"insmod {reads}", "blscfg") if reads else ()
            return Grub(root, program, tuple(present), blscfg)
    return None


def find_systemd_boot(roots: Sequence[Path]) -> bytes | None:
    """Return systemd-boot's program of the first of these root directories that has it."""
    name = _names()[2]
    for root in roots:
        if _is_file(root, f"{_SYSTEMD_BOOT}/{name}"):
            with _opened(root, _SYSTEMD_BOOT) as fd:
                return files.read_bytes(fd, name, EFI_PROGRAM_MAX)
    return None


def _is_file(root: Path, path: str) -> bool:
    parent, _, name = path.rpartition("/")
    try:
        with _opened(root, parent) as fd:
            status = files.lstat(fd, name)
    except OSError:
        return False
    return status is not None and stat.S_ISREG(status.st_mode)


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    top = files.open_directory(root)
    try:
        with files.directory(top, path) as fd:
            yield fd
    finally:
        os.close(top)


def grub_config(blscfg: Sequence[str], boot_uuid: str) -> str:
    """Return what GRUB is to do: find the file system of `/boot`, and go by what lies there."""
    lines = ["set timeout=0", f"search --no-floppy --fs-uuid --set=root {boot_uuid}"]
    lines += blscfg or ["configfile /loader/grub.cfg"]
    return "\n".join(lines) + "\n"


def install_grub(grub: Grub | SignedGrub, esp: Path, config: str) -> None:
    """Put GRUB on the empty FAT `esp`, and its configuration; inside of it, if it is not signed."""
    target, name, _ = _names()
    with tempfile.TemporaryDirectory(prefix="bootc-py-grub-") as work:
        if isinstance(grub, SignedGrub):
            content = grub.content(config)
            for number, (_, data) in enumerate(content):
                (Path(work) / str(number)).write_bytes(data)
            fill(esp, [(path, Path(work) / str(n)) for n, (path, _) in enumerate(content)])
            return
        (Path(work) / "grub.cfg").write_text(config)
        command = [
            grub.program, f"--format={target}", "--output=grub.efi",
            f"--modules={' '.join([*_GRUB_MODULES, *grub.modules])}",
            "--locales=", "--fonts=", "--themes=", "boot/grub/grub.cfg=grub.cfg",
        ]  # fmt: skip
        if grub.root == Path("/"):
            tools.run("env", f"--chdir={work}", f"TMPDIR={work}", *command)
        else:
            tools.run("unshare", "--mount", "sh", "-euc", _IN_ROOT, "sh", str(grub.root), work,
                      *command)  # fmt: skip
        fill(esp, [(f"EFI/BOOT/{name}", Path(work) / "grub.efi")])


# A deployment's files are the store's: its programs see them read-only, and write to a directory
# that is mounted where one is in every deployment, or in every other root directory.
_IN_ROOT = """
root=$1 work=$2 place=/sysroot
shift 2
[ -d "$root$place" ] || place=/tmp
[ ! -L "$root$place" ] || { echo "$root$place is a link" >&2; exit 1; }
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$work" "$root$place"
export TMPDIR=$place
exec chroot "$root" sh -euc 'cd "$TMPDIR" && exec "$@"' sh "$@"
"""


def fill(esp: Path, sources: Sequence[tuple[str, Path]]) -> None:
    """Copy files to their paths on the FAT `esp`, a device that is not mounted."""
    tools.need("mcopy")
    made: set[str] = set()
    for path, source in sources:
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
