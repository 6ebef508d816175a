"""The partition table, as data."""

from __future__ import annotations

import json

import pytest

from bridge.errors import BridgeError, UsageError
from bridge.install.partitions import Partition, Sizes, parse, script
from bridge.limits import GIB, MIB


def test_what_sfdisk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert script(4 * GIB, Sizes()).splitlines() == [
        "label: gpt",
        'size=512MiB, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, name="EFI-SYSTEM"',
        'size=512MiB, type=bc13c2ff-59e6-4262-a352-b275fd6f7172, name="boot"',
        'type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name="root"',
    ]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert script(4 * GIB, Sizes(64 * MIB, 100 * MIB, 2 * GIB)).splitlines()[1:] == [
        'size=64MiB, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, name="EFI-SYSTEM"',
        'size=100MiB, type=bc13c2ff-59e6-4262-a352-b275fd6f7172, name="boot"',
        'size=2048MiB, type=b921b045-1df0-41c3-af44-4c6f280d3fae, name="root"',
    ]


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(1536 * MIB, Sizes()), (2 * GIB, Sizes(root=1 * GIB)), (0, Sizes(MIB, MIB, MIB))],
)
def test_a_disk_that_is_too_small(size: int, sizes: Sizes) -> None:
    with pytest.raises(UsageError, match=f"has {size // MIB} MiB, which is less than"):
        script(size, sizes)


def test_where_they_came_to_lie() -> None:
    table = {
        "label": "gpt",
        "sectorsize": 4096,
        "partitions": [
            {"node": "x1", "start": 256, "size": 1024, "name": "EFI-SYSTEM"},
            {"node": "x2", "start": 1280, "size": 8, "name": "boot"},
        ],
    }
    assert parse(json.dumps({"partitiontable": table})) == {
        "EFI-SYSTEM": Partition("EFI-SYSTEM", MIB, 4 * MIB),
        "boot": Partition("boot", 5 * MIB, 32768),
    }


@pytest.mark.parametrize("text", ["", "{}", '{"partitiontable": {"partitions": [{}]}}', "[]"])
def test_a_table_that_cannot_be_read(text: str) -> None:
    with pytest.raises(BridgeError, match="no partition table that can be read"):
        parse(text)
