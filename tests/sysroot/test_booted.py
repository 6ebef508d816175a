"""The sysroot of the running system, as far as it can be told without being one."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.ostree import variant
from bridge.ostree.variant import Variant
from bridge.sysroot import boot_order, writable
from bridge.sysroot import sysroot as sysroot_module
from bridge.sysroot.rollback import rollback_deployment
from bridge.sysroot.sysroot import Sysroot

from .conftest import Fake

A, B, C = "a" * 64, "b" * 64, "c" * 64


def boot(sysroot: Sysroot, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Let `sysroot` be that of the running system, with `root` as its deployment."""
    status = root.stat()
    sysroot.__dict__["is_booted"] = True
    patch.setattr(sysroot_module, "_booted_directory", lambda: (status.st_dev, status.st_ino))


def test_the_booted_deployment_is_current_wherever_it_stands(
    fake: Fake, sysroot: Sysroot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.entry(A, 3)
    root = fake.entry(B, 2)
    fake.entry(C, 1)
    boot(sysroot, root, monkeypatch)
    state = sysroot.load()
    assert [each.booted for each in state.deployments] == [False, True, False]
    assert state.current is state.booted is state.deployments[1]
    assert state.merge_deployment("default") is state.booted
    assert rollback_deployment(state) is state.deployments[0], "what is queued before it"
    with pytest.raises(BridgeError, match="booted deployment cannot be taken out"):
        boot_order.write(sysroot, state, [state.deployments[0]])


def test_a_boot_that_is_not_mounted_is_told(
    fake: Fake, sysroot: Sysroot, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(sysroot, fake.path, monkeypatch)
    (fake.path / "boot/loader").unlink()
    with pytest.raises(BridgeError, match="is /boot mounted"):
        sysroot.load()


def test_a_boot_that_does_not_know_the_running_deployment_is_left_alone(
    fake: Fake, sysroot: Sysroot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.entry(A, 1)
    boot(sysroot, fake.path, monkeypatch)
    assert sysroot.load().booted is None
    with pytest.raises(BridgeError, match="in none of the entries"):
        sysroot.load_to_change()


def test_the_booted_directory_with_and_without_composefs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    booted = tmp_path / "ostree-booted"
    monkeypatch.setattr(sysroot_module, "_BOOTED", booted)
    root = os.stat("/")
    booted.write_bytes(b"")
    assert sysroot_module._booted_directory() == (root.st_dev, root.st_ino)
    noted = {
        "composefs": Variant("b", True),
        "backing-root-device-inode": Variant("(tt)", (2049, 1234567)),
    }
    booted.write_bytes(variant.encode("a{sv}", noted))
    assert struct.pack("<QQ", 2049, 1234567) in booted.read_bytes()
    assert sysroot_module._booted_directory() == (2049, 1234567)


def test_nothing_is_mounted_where_all_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writable, "_mount", None)
    writable.make_writable([str(tmp_path), str(tmp_path / "missing")])
