"""GRUB's environment block next to GRUB's own editor of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.sysroot import grubenv


def edit(path: Path, *command: str) -> str:
    if shutil.which("grub-editenv") is None:
        pytest.fail("grub-editenv is missing: apt install grub-common")
    done = subprocess.run(["grub-editenv", path, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_reads_what_the_other_writes(tmp_path: Path) -> None:
    path = tmp_path / "grubenv"
    edit(path, "create")
    edit(path, "set", "saved_entry=an entry", "odd=back\\slash", "two=a\nb", "boot_counter=3")
    block = path.read_bytes()
    assert len(block) == 1024
    found = grubenv.parse(block)
    assert found[b"saved_entry"] == b"an entry" and found[b"boot_counter"] == b"3"
    path.write_bytes(grubenv.changed(block, {b"boot_counter": None, b"boot_success": b"1"}))
    assert edit(path, "list") == "saved_entry=an entry\nodd=back\\slash\ntwo=a\nb\nboot_success=1\n"
    edit(path, "unset", "boot_success")
    assert path.read_bytes() == grubenv.changed(block, {b"boot_counter": None})
