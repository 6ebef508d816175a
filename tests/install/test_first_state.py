"""What a new root gets beside its deployment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import UsageError
from bridge.install import first_state


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


BOOT = "UUID=b /boot auto defaults 0 2\n"
ESP = "UUID=e /boot/efi vfat umask=0077,shortname=winnt,nofail,x-systemd.automount 0 2\n"
FSTAB = [
    (None, "UUID=b", "UUID=e", BOOT + ESP),
    (None, "UUID=b", None, BOOT),
    (None, None, None, None),
    ("# /boot is mounted by hand\n", "UUID=b", None, "# /boot is mounted by hand\n" + BOOT),
    ("tmpfs /tmp tmpfs", "UUID=b", None, "tmpfs /tmp tmpfs\n" + BOOT),
    ("LABEL=x /boot xfs defaults\n", "UUID=b", "UUID=e", "LABEL=x /boot xfs defaults\n" + ESP),
    ("x /boot\ny\t/boot/efi\n", "UUID=b", "UUID=e", "x /boot\ny\t/boot/efi\n"),
    ("\udcff /x\n", "UUID=b", None, "\udcff /x\n" + BOOT),
]  # fmt: skip


@pytest.mark.parametrize(("before", "boot", "esp", "after"), FSTAB)
def test_fstab(
    tmp_path: Path, tree: int, before: str | None, boot: str | None, esp: str | None, after: str
) -> None:
    path = tmp_path / "etc/fstab"
    if before is not None:
        path.write_bytes(os.fsencode(before))
    first_state.write_fstab(tree, boot, esp)
    assert (os.fsdecode(path.read_bytes()) if path.exists() else None) == after


@pytest.mark.parametrize("home", ["root", "var/roothome"])
def test_ssh_keys(tmp_path: Path, tree: int, home: str) -> None:
    if home != "root":
        (tmp_path / "root").symlink_to(home)
    first_state.write_ssh_keys(tree, "key one\n")
    assert (tmp_path / "etc/tmpfiles.d/bootc-root-ssh.conf").read_text() == (
        f"d /{home}/.ssh 0700 root root -\n"
        f"f~ /{home}/.ssh/authorized_keys 600 root root - a2V5IG9uZQo=\n"
    )
    with pytest.raises(UsageError, match="is empty"):
        first_state.write_ssh_keys(tree, " \n")
