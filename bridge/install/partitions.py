"""The partition table of a disk: what is wanted, and where it came to lie.

GPT with an EFI system partition, `/boot` and the root, of the types that systemd's Discoverable
Partitions Specification gives them. sfdisk writes it, and tells where each partition is.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass

from bridge.errors import BridgeError, UsageError
from bridge.limits import MIB

ESP_SIZE = 512 * MIB
BOOT_SIZE = 512 * MIB
ROOT_LEAST = 512 * MIB
_EDGES = 4 * MIB
"""What the table itself takes at both ends, with alignment."""

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BOOT_TYPE = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
_ROOT_TYPES = {
    "x86_64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "aarch64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "riscv64": "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    "ppc64le": "c31c45e6-3f39-412e-80fb-4809c4980599",
    "s390x": "5eead9a9-fe09-4a1e-a1d7-520d00531306",
}
_LINUX_DATA = "0fc63daf-8483-4772-8e79-3d69d8477de4"


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as it lies on the disk, in bytes."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What to give each, in bytes; the root without a size gets the rest."""

    esp: int = ESP_SIZE
    boot: int = BOOT_SIZE
    root: int | None = None


def script(disk_size: int, sizes: Sizes) -> str:
    """Return what sfdisk is to be told; `UsageError` where the disk is too small."""
    needed = sizes.esp + sizes.boot + (sizes.root or ROOT_LEAST) + _EDGES
    if disk_size < needed:
        raise UsageError(
            f"the disk has {disk_size // MIB} MiB, which is less than the {needed // MIB} MiB "
            "that its partitions need"
        )
    root = _ROOT_TYPES.get(platform.machine(), _LINUX_DATA)
    rest = "" if sizes.root is None else f"size={sizes.root // MIB}MiB, "
    return "\n".join(
        (
            "label: gpt",
            f'size={sizes.esp // MIB}MiB, type={ESP_TYPE}, name="EFI-SYSTEM"',
            f'size={sizes.boot // MIB}MiB, type={BOOT_TYPE}, name="boot"',
            f'{rest}type={root}, name="root"',
            "",
        )
    )


def parse(text: str) -> dict[str, Partition]:
    """Return the partitions by their names, from what `sfdisk --json` says."""
    try:
        table = json.loads(text)["partitiontable"]
        sector = int(table.get("sectorsize", 512))
        found = [
            Partition(each["name"], each["start"] * sector, each["size"] * sector)
            for each in table["partitions"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BridgeError(f"sfdisk gave no partition table that can be read: {error}") from None
    return {each.name: each for each in found}
