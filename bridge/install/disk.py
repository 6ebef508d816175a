"""A disk being made: partitions, file systems, and those mounted while they are filled.

Each partition is reached through a loop device of its own, by its place on the disk. So a file
does as well as a device, and it does not matter whether the kernel knows the partitions.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BridgeError, UsageError
from bridge.install import tools
from bridge.install.partitions import Partition, Sizes, parse, script


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk whose file systems are made, and mounted."""

    root: Path
    """Where the root is mounted, with `/boot` in it."""
    esp: Path
    """The device of the EFI system partition, with an empty FAT."""
    root_uuid: str
    boot_uuid: str
    esp_uuid: str


def check(path: Path, *, wipe: bool) -> int:
    """Return the size of the disk in bytes; `UsageError` when it may not be written over."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UsageError(
            f"{path} is not there; for a new file: truncate --size 10G {path}"
        ) from None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise UsageError(f"{path} is neither a file nor a block device")
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
    used = tools.run("wipefs", "--noheadings", "--output", "TYPE", str(path)).split()
    if used and not wipe:
        kinds = ", ".join(sorted(set(used)))
        raise UsageError(f"{path} is in use ({kinds}); --wipe writes over it")
    if stat.S_ISBLK(status.st_mode):
        try:
            # Refused by the kernel while it, or a partition of it, is mounted or part of something.
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            raise UsageError(f"{path} cannot be had: {error.strerror}; is it mounted?") from None
    return size


@contextmanager
def made(path: Path, size: int, sizes: Sizes, filesystem: str) -> Iterator[Disk]:
    """Partition the disk at `path`, make its file systems, and mount root and boot meanwhile.

    Whatever happens, nothing stays mounted and no loop device attached. When it ends well, all is
    on the disk.
    """
    tools.need(
        "sfdisk", "losetup", "mkfs.vfat", "mkfs.ext4", f"mkfs.{filesystem}", "mount", "blkid"
    )
    table = script(size, sizes)
    tools.run("wipefs", "--all", "--quiet", str(path))
    tools.run("sfdisk", "--quiet", "--wipe", "always", "--no-reread", "--no-tell-kernel",
              str(path), stdin=table)  # fmt: skip
    found = parse(tools.run("sfdisk", "--json", str(path)))
    with ExitStack() as stack:
        devices = {
            name: stack.enter_context(_attached(path, found[name]))
            for name in ("EFI-SYSTEM", "boot", "root")
        }
        tools.run("mkfs.vfat", "-F", "32", "-n", "EFI-SYSTEM", devices["EFI-SYSTEM"])
        _mkfs("ext4", devices["boot"], "boot")
        _mkfs(filesystem, devices["root"], "root")
        uuids = {name: _uuid(device) for name, device in devices.items()}
        root = stack.enter_context(_mount_point())
        stack.enter_context(_mounted(devices["root"], root))
        (root / "boot").mkdir(mode=0o755)
        stack.enter_context(_mounted(devices["boot"], root / "boot"))
        yield Disk(
            root, Path(devices["EFI-SYSTEM"]), uuids["root"], uuids["boot"], uuids["EFI-SYSTEM"]
        )
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    if path.is_block_device():
        # Where the kernel does not look at it again now, it does when it starts.
        with contextlib.suppress(BridgeError):
            tools.run("blockdev", "--rereadpt", str(path))


@contextmanager
def _mount_point() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="bootc-py-install-"))
    try:
        yield place
    finally:
        # Never with what is in it: that would be the new system, were it still mounted.
        with contextlib.suppress(OSError):
            place.rmdir()


def _mkfs(kind: str, device: str, label: str) -> None:
    if kind == "ext4":
        # GRUB before 2.12 does not read a file system with these two.
        features = "^metadata_csum_seed,^orphan_file" if label == "boot" else "verity"
        words = ["mkfs.ext4", "-q", "-F", "-L", label, "-O", features]
        try:
            tools.run(*words, device)
        except BridgeError:
            tools.run("mkfs.ext4", "-q", "-F", "-L", label, device)  # an older mkfs knows less
    else:
        tools.run(f"mkfs.{kind}", "-q", "-f", "-L", label, device)


def _uuid(device: str) -> str:
    found = tools.run("blkid", "--probe", "--match-tag", "UUID", "--output", "value", device)
    return found.strip()


@contextmanager
def _attached(path: Path, partition: Partition) -> Iterator[str]:
    device = tools.run(
        "losetup", "--find", "--show", "--nooverlap",
        "--offset", str(partition.start), "--sizelimit", str(partition.size), str(path),
    ).strip()  # fmt: skip
    # Detached by now, it stays for as long as it is open or mounted: whatever ends this process.
    try:
        in_use = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        tools.run("losetup", "--detach", device)
    try:
        yield device
    finally:
        os.close(in_use)


@contextmanager
def _mounted(device: str, place: Path) -> Iterator[None]:
    tools.run("mount", device, str(place))
    try:
        yield
    finally:
        tools.run("umount", str(place))
