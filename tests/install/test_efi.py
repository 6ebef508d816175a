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
    ((PROGRAM, f"{GRUB}/normal.mod"), ("grub-mkstandalone", ())),
    (
        (PROGRAM, f"{GRUB}/normal.mod", f"{GRUB}/blsuki.mod"),
        ("grub-mkstandalone", ("insmod blsuki", "blscfg")),
    ),
    (
        ("usr/bin/grub2-mkstandalone", f"{GRUB}/normal.mod", f"{GRUB}/blscfg.mod"),
        ("grub2-mkstandalone", ("insmod blscfg", "blscfg")),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), FOUND)
def test_which_grub(
    tmp_path: Path, files: tuple[str, ...], expected: tuple[str, tuple[str, ...]] | None
) -> None:
    found = efi.find_grub([root(tmp_path / "image", *files)])
    assert isinstance(found, efi.Grub | None)
    assert (found and (found.program, found.blscfg)) == expected


def test_the_images_own_comes_first(tmp_path: Path) -> None:
    empty = root(tmp_path / "empty")
    image = root(tmp_path / "image", PROGRAM, f"{GRUB}/normal.mod", SYSTEMD)
    other = root(tmp_path / "other", PROGRAM, f"{GRUB}/normal.mod", SYSTEMD)
    (other / SYSTEMD).write_text("another")
    for roots, expected in (([image, other], image), ([empty, other], other)):
        found = efi.find_grub(roots)
        assert isinstance(found, efi.Grub) and found.root == expected
        assert efi.find_systemd_boot(roots) == (expected / SYSTEMD).read_bytes()
    assert efi.find_systemd_boot([empty]) is None


@pytest.mark.parametrize("link", [SYSTEMD, "usr/lib/systemd/boot", "usr"])
def test_links_are_not_followed(tmp_path: Path, link: str) -> None:
    secret = root(tmp_path / "secret", SYSTEMD)
    image = root(tmp_path / "image")
    (image / link).parent.mkdir(parents=True, exist_ok=True)
    (image / link).symlink_to(secret / link)
    assert efi.find_systemd_boot([image]) is None


def test_what_grub_is_told() -> None:
    begin = ["set timeout=0", "search --no-floppy --fs-uuid --set=root B"]
    for commands in (("insmod blsuki", "blscfg"), ("set boot=$root", "blscfg")):
        assert efi.grub_config(commands, "B").splitlines() == [*begin, *commands]
    assert efi.grub_config((), "B").splitlines() == [*begin, "configfile /loader/grub.cfg"]


UPDATES = "usr/lib/bootupd/updates/EFI"
FEDORA = ("BOOT/BOOTX64.EFI", "BOOT/fbx64.efi", "fedora/grubx64.efi", "fedora/shimx64.efi")
SHIM = "usr/lib/shim/shimx64.efi.signed"
SIGNED = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"


@pytest.mark.parametrize("split", [False, True])
def test_a_signed_grub_as_bootupd_has_it(tmp_path: Path, split: bool) -> None:
    """All in one tree, or that of each package in its own."""
    places = {
        name: f"usr/lib/efi/{'grub2/2.12' if 'grub' in name else 'shim/15.8'}/EFI/{name}"
        if split
        else f"{UPDATES}/{name}"
        for name in FEDORA
    }
    image = root(tmp_path / "image", *places.values(), PROGRAM, f"{GRUB}/normal.mod")
    found = efi.find_grub([image])
    assert isinstance(found, efi.SignedGrub)
    assert found.blscfg == ("set boot=$root", "blscfg")
    assert dict(found.content("told")) == {
        **{f"EFI/{name}": place.encode() for name, place in places.items()},
        "EFI/fedora/grub.cfg": b"told",
    }


def test_a_signed_grub_as_debian_has_it(tmp_path: Path) -> None:
    found = efi.find_grub([root(tmp_path / "image", SHIM, SIGNED)])
    assert isinstance(found, efi.SignedGrub)
    assert found.blscfg == ()
    assert dict(found.content("told")) == {
        "EFI/BOOT/BOOTX64.EFI": SHIM.encode(),
        "EFI/BOOT/grubx64.efi": SIGNED.encode(),
        "EFI/BOOT/grub.cfg": b"told",
        "EFI/debian/grub.cfg": b"told",
        "EFI/ubuntu/grub.cfg": b"told",
    }


@pytest.mark.parametrize(
    "files",
    [
        (SHIM,),
        (SIGNED,),
        (f"{UPDATES}/BOOT/BOOTX64.EFI",),
        (f"{UPDATES}/fedora/grubx64.efi",),
        (f"{UPDATES}/BOOT/BOOTX64.EFI", f"{UPDATES}/fedora/shimx64.efi"),
    ],
)
def test_half_of_a_signed_grub_is_none(tmp_path: Path, files: tuple[str, ...]) -> None:
    assert efi.find_grub([root(tmp_path / "image", *files)]) is None


def test_a_signed_grub_that_is_a_link_is_none(tmp_path: Path) -> None:
    image = root(tmp_path / "image", SHIM)
    (image / SIGNED).parent.mkdir(parents=True)
    (image / SIGNED).symlink_to(root(tmp_path / "secret", SIGNED) / SIGNED)
    assert efi.find_grub([image]) is None


def test_a_machine_that_has_no_efi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(UsageError, match="no boot loader is known for s390x; use --bootloader"):
        efi.find_grub([tmp_path])
