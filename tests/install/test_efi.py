"""Which boot loader there is, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import UsageError
from bridge.install import efi


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def root(path: Path, *files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


GRUB = "usr/lib/grub/x86_64-efi"
PROGRAM = "usr/bin/grub-mkstandalone"
SYSTEMD = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
FOUND = [
    ((), None),
    ((PROGRAM,), None),
    ((f"{GRUB}/normal.mod", f"{GRUB}/blsuki.mod"), None),
    ((PROGRAM, f"{GRUB}/normal.mod"), ("grub-mkstandalone", None, "grub-menu")),
    (
        (PROGRAM, f"{GRUB}/normal.mod", f"{GRUB}/blsuki.mod"),
        ("grub-mkstandalone", "blsuki", "none"),
    ),
    (
        ("usr/bin/grub2-mkstandalone", f"{GRUB}/normal.mod", f"{GRUB}/blscfg.mod"),
        ("grub2-mkstandalone", "blscfg", "none"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), FOUND)
def test_which_grub(
    tmp_path: Path, files: tuple[str, ...], expected: tuple[str, str | None, str] | None
) -> None:
    found = efi.find_grub([root(tmp_path / "image", *files)])
    assert (found and (found.program, found.bls, found.loader)) == expected


def test_the_images_own_comes_first(tmp_path: Path) -> None:
    empty = root(tmp_path / "empty")
    image = root(tmp_path / "image", PROGRAM, f"{GRUB}/normal.mod", SYSTEMD)
    other = root(tmp_path / "other", PROGRAM, f"{GRUB}/normal.mod", SYSTEMD)
    (other / SYSTEMD).write_text("another")
    for roots, expected in (([image, other], image), ([empty, other], other)):
        found = efi.find_grub(roots)
        assert found is not None and found.root == expected
        assert efi.find_systemd_boot(roots) == (expected / SYSTEMD).read_bytes()
    assert efi.find_systemd_boot([empty]) is None


@pytest.mark.parametrize("link", [SYSTEMD, "usr/lib/systemd/boot", "usr"])
def test_links_are_not_followed(tmp_path: Path, link: str) -> None:
    secret = root(tmp_path / "secret", SYSTEMD)
    image = root(tmp_path / "image")
    (image / link).parent.mkdir(parents=True, exist_ok=True)
    (image / link).symlink_to(secret / link)
    assert efi.find_systemd_boot([image]) is None


def test_what_grub_is_told(tmp_path: Path) -> None:
    reads, other = (efi.Grub(tmp_path, "grub-mkstandalone", (), bls) for bls in ("blsuki", None))
    begin = ["set timeout=0", "search --no-floppy --fs-uuid --set=root B"]
    assert efi.grub_config(reads, "B", "").splitlines() == [*begin, "insmod blsuki", "blscfg"]
    assert efi.grub_config(other, "B", "/boot").splitlines() == [
        *begin,
        "configfile /boot/loader/grub.cfg",
    ]


def test_a_machine_that_has_no_efi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(UsageError, match="no boot loader is known for s390x; use --bootloader"):
        efi.find_grub([tmp_path])
