"""Images installed onto disks in files, judged by the tools of those who made the formats.

Needs root, loop devices, and the programs that an installation needs.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig import disk as disks
from rig import efi_loaders, qemu
from rig.command import PLAIN_HTTP, bootc_py
from rig.peers import require
from rig.registry import Registry
from support.images import BOOTABLE, Member, directory, file, image, symlink, write_layout

from bridge.sysroot import bls
from tools.images.layout import Layout

Images = dict[tuple[str, str, str], Layout]
MODULES = "usr/lib/modules/6.1.0"
GPT_TYPES = {
    "EFI-SYSTEM": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "boot": "BC13C2FF-59E6-4262-A352-B275FD6F7172",
    "root": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
}
KEYS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0 root@example\n"


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [require(str(command[0])), *map(str, command[1:])], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No mount, directory or loop device stays, whatever happened."""
    work = tmp_path / "tmp"
    work.mkdir()
    monkeypatch.setenv("TMPDIR", str(work))
    yield
    assert not list(work.iterdir())
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    for line in run(
        "losetup", "--list", "--noheadings", "--output", "AUTOCLEAR,BACK-FILE"
    ).splitlines():
        # Those that are detached go as soon as nobody's mount namespace has them.
        assert str(tmp_path) not in line or line.split()[0] == "1"


def blank(path: Path, mebibytes: int = 4096) -> Path:
    with path.open("wb") as target:
        target.truncate(mebibytes << 20)
    return path


def small(path: Path, *more: Member, **labels: str) -> str:
    """A small image that can be deployed, in a layout; its name."""
    made = image(
        [
            file("usr/lib/os-release", "ID=small\nPRETTY_NAME=Small\n"),
            file(f"{MODULES}/vmlinuz", "kernel" * 999),
            file(f"{MODULES}/initramfs.img", "initrd" * 999),
            file("etc/hosts", "127.0.0.1 localhost\n"),
            *(directory(name) for name in ("boot", "sysroot", "var", "root")),
            *more,
        ],
        labels=BOOTABLE | labels,
    )
    write_layout(path, made)
    return f"oci:{path}"


class Installed:
    """A disk with its root mounted, /boot in it."""

    def __init__(self, disk: Path, root: Path) -> None:
        self.disk, self.root = disk, root

    @property
    def tree(self) -> Path:
        (found,) = self.root.glob("ostree/deploy/*/deploy/*.0")
        return found

    @property
    def entry(self) -> bls.Entry:
        (found,) = self.root.glob("boot/loader/entries/*.conf")
        return bls.parse(found.read_text())

    @property
    def kargs(self) -> list[str]:
        return (self.entry.get("options") or "").split()

    def text(self, path: str) -> str:
        return (self.tree / path).read_text()

    def uuid(self, name: str) -> str:
        with qemu.attached(self.disk, qemu.partitions(self.disk)[name]) as device:
            return run("blkid", "--probe", "-s", "UUID", "-o", "value", device).strip()

    def admin_status(self) -> str:
        return run("ostree", "admin", "status", f"--sysroot={self.root}")


@contextmanager
def opened(disk: Path) -> Iterator[Installed]:
    """The disk's file systems: checked first, then mounted."""
    found = qemu.partitions(disk)
    root = disk.with_name("mounted")
    root.mkdir(exist_ok=True)
    with ExitStack() as stack:
        devices = {
            name: stack.enter_context(qemu.attached(disk, part)) for name, part in found.items()
        }
        run("fsck.vfat", "-n", devices["EFI-SYSTEM"])
        run("e2fsck", "-fn", devices["boot"])
        kind = run("blkid", "--probe", "-s", "TYPE", "-o", "value", devices["root"]).strip()
        run(*({"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}[kind]), devices["root"])
        stack.enter_context(disks.mounted(root, devices["root"]))
        stack.enter_context(disks.mounted(root / "boot", devices["boot"]))
        yield Installed(disk, root)


def on_esp(disk: Path, work: Path) -> Path:
    """A copy of all that is on the EFI system partition."""
    target = work / "esp"
    target.mkdir()
    start = qemu.partitions(disk)["EFI-SYSTEM"].start
    run("mcopy", "-s", "-n", "-i", f"{disk}@@{start}", "::", target)
    return target


def install(*arguments: str | Path) -> dict[str, Any]:
    done = bootc_py("install", *arguments, "--json")
    assert done.code == 0, done.err
    document: dict[str, Any] = done.json
    return document


def test_a_real_image_from_a_registry_onto_ext4_with_systemd_boot(
    images: Images, registry: Registry, scratch: Path
) -> None:
    disk = blank(scratch / "disk.img")
    (scratch / "keys").write_text(KEYS)
    layout = images["base", "v1", "gzip"]
    target = "registry.example.com/os/base:stable"
    report = install(
        "to-disk", f"{registry.host}/os/base:v1", disk, PLAIN_HTTP, "--bootloader", "systemd",
        "--bootloader-from", efi_loaders.root("forky"), "--target-imgref", target,
        "--karg=console=ttyS0", "--karg=quiet", "--root-ssh-authorized-keys", scratch / "keys",
    )  # fmt: skip
    assert report["image"]["manifestDigest"] == layout.digest

    table = json.loads(run("sfdisk", "--json", disk))["partitiontable"]
    assert table["label"] == "gpt"
    assert {each["name"]: each["type"] for each in table["partitions"]} == GPT_TYPES
    sizes = [each["size"] * 512 >> 20 for each in table["partitions"]]
    assert sizes[:2] == [512, 512] and sizes[2] >= 4096 - 1024 - 4
    assert run("sfdisk", "--verify", disk)

    with opened(disk) as made:
        commit = report["deployment"]["checksum"]
        assert f"default {commit}.0" in made.admin_status()
        run("ostree", "fsck", f"--repo={made.root}/ostree/repo", "--quiet")
        assert made.kargs[:4] == [
            f"root=UUID={made.uuid('root')}", "rw", "console=ttyS0", "quiet",
        ]  # fmt: skip
        assert made.text("etc/fstab").splitlines()[-2:] == [
            f"UUID={made.uuid('boot')} /boot auto defaults 0 2",
            f"UUID={made.uuid('EFI-SYSTEM')} /boot/efi vfat "
            "umask=0077,shortname=winnt,nofail,x-systemd.automount 0 2",
        ]
        home = os.readlink(made.tree / "root") if (made.tree / "root").is_symlink() else "root"
        encoded = base64.b64encode(KEYS.encode()).decode()
        assert made.text("etc/tmpfiles.d/bootc-root-ssh.conf") == (
            f"d /{home}/.ssh 0700 root root -\n"
            f"f~ /{home}/.ssh/authorized_keys 600 root root - {encoded}\n"
        )
        aleph = json.loads((made.root / ".bootc-aleph.json").read_text())
        assert aleph["digest"] == layout.digest and target in aleph["target-image"]
        assert aleph["image"] == f"{registry.host}/os/base:v1"
        status = bootc_py("status", "--sysroot", made.root, "--format", "json").json
        assert status["spec"]["image"] == {"image": target, "transport": "registry"}
        assert not list((made.root / "boot/efi").iterdir())
        listed = bootc_py("image", "list", "--sysroot", made.root, "--json").json
        assert [each["reference"] for each in listed] == [f"docker://{target}"]

        # What boots is on the partition, as it is in /boot.
        esp = on_esp(disk, scratch)
        name = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
        program = (efi_loaders.root("forky") / name).read_bytes()
        assert (esp / "EFI/BOOT/BOOTX64.EFI").read_bytes() == program
        (copied,) = (esp / "loader/entries").iterdir()
        assert bls.parse(copied.read_text()) == made.entry
        for key in ("linux", "initrd"):
            path = (made.entry.get(key) or "").lstrip("/")
            assert (esp / path).read_bytes() == (made.root / "boot" / path).read_bytes() != b""


def test_the_same_from_a_layout_onto_xfs_with_grub(images: Images, scratch: Path) -> None:
    disk = blank(scratch / "disk.img")
    layout = images["base", "v1", "gzip"]
    report = install(
        "to-disk", f"oci:{layout.path}", disk, "--filesystem", "xfs",
        "--bootloader-from", efi_loaders.root("forky"),
    )  # fmt: skip
    with opened(disk) as made:
        commit = report["deployment"]["checksum"]
        assert f"default {commit}.0" in made.admin_status()
        run("ostree", "fsck", f"--repo={made.root}/ostree/repo", "--quiet")
        uuid = made.uuid("boot")
        assert not (made.root / "boot/loader/grub.cfg").exists()
    program = (on_esp(disk, scratch) / "EFI/BOOT/BOOTX64.EFI").read_bytes()
    assert program[:2] == b"MZ"
    for text in (f"search --no-floppy --fs-uuid --set=root {uuid}", "insmod blsuki", "blscfg"):
        assert text.encode() in program


def test_a_signed_grub_that_cannot_read_entries_gets_a_menu(tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk.img")
    loaders = efi_loaders.root("bookworm")
    install(
        "to-disk", small(tmp_path / "layout"), disk, "--bootloader-from", loaders,
        "--karg", 'a="x y"',
    )  # fmt: skip
    esp = on_esp(disk, tmp_path)
    for name, source in (
        ("BOOTX64.EFI", "shim/shim"),
        ("grubx64.efi", "grub/x86_64-efi-signed/grub"),
    ):
        program = (loaders / f"usr/lib/{source}x64.efi.signed").read_bytes()
        assert (esp / "EFI/BOOT" / name).read_bytes() == program
    told = (esp / "EFI/debian/grub.cfg").read_text()
    assert told.splitlines()[-1] == "configfile /loader/grub.cfg"
    with opened(disk) as made:
        first = made.root / "boot/loader/grub.cfg"
        linux = made.entry.get("linux") or ""
        assert f"linux '{linux}' 'root=UUID={made.uuid('root')}' 'rw' 'a=x y' 'ostree=" in (
            first.read_text()
        )
        # It flips with the entries.
        write_layout(
            tmp_path / "layout",
            image([file("usr/lib/os-release", "ID=small\nPRETTY_NAME=Second\n"),
                   file(f"{MODULES}/vmlinuz", "other kernel")]),
        )  # fmt: skip
        done = bootc_py("upgrade", "--sysroot", made.root)
        assert done.code == 0, done.err
        second = (made.root / "boot/loader/grub.cfg").read_text()
        titles = [line for line in second.splitlines() if line.startswith("menuentry")]
        assert [title.split("'")[1] for title in titles] == [
            "Second (ostree:0)",
            "Small (ostree:1)",
        ]
        run("grub-script-check", made.root / "boot/loader/grub.cfg")


def test_what_the_image_asks_for(tmp_path: Path) -> None:
    """Its root's file system by default, its kernel arguments; the user's come last."""
    disk = blank(tmp_path / "disk.img", 2048)
    drop_ins = {
        "10-first": 'root-fs-type = "ext4"\nkargs = ["one", "two"]\n',
        "20-second": 'kargs = ["three"]\n[install.filesystem.root]\ntype = "xfs"\n',
        "30-elsewhere": 'match-architectures = ["s390x"]\nkargs = ["no"]\n',
    }
    layout = small(
        tmp_path / "layout",
        *(
            file(f"usr/lib/bootc/install/{name}.toml", f"[install]\n{text}")
            for name, text in drop_ins.items()
        ),
    )
    install("to-disk", layout, disk, "--bootloader", "none", "--karg", "four",
            "--karg-delete", "two")  # fmt: skip
    with opened(disk) as made:
        assert run("findmnt", "-no", "FSTYPE", made.root).strip() == "xfs"
        assert made.kargs[2:-1] == ["one", "three", "four"]
        shown = bootc_py("install", "print-configuration", "--root", made.tree)
        assert json.loads(shown.out) == {
            "filesystem": {"root": {"type": "xfs"}},
            "kargs": ["one", "two", "three"],
        }


@pytest.mark.parametrize("selinux", [True, False])
def test_into_a_file_system(tmp_path: Path, selinux: bool) -> None:
    layout = small(tmp_path / "layout", file("etc/fstab", "LABEL=x /boot ext4 defaults 0 0"))
    with disks.ext4(tmp_path / "root", 64) as root:
        more = () if selinux else ("--disable-selinux",)
        install("to-filesystem", layout, root, "--karg=quiet", "--stateroot=mine", *more)
        made = Installed(tmp_path / "root.img", root)
        uuid = run("findmnt", "-no", "UUID", root).strip()
        assert made.kargs[:3] == [f"root=UUID={uuid}", "rw", "quiet"]
        # The image's own line for /boot stays.
        assert made.text("etc/fstab") == "LABEL=x /boot ext4 defaults 0 0"
        assert "mine " in made.admin_status()
        again = bootc_py("install", "to-filesystem", layout, root)
        assert again.code == 2 and "has a system already" in again.error
        assert bootc_py("switch", layout, "--sysroot", root).code == 0


def test_a_try_that_failed_can_be_made_again(tmp_path: Path) -> None:
    """What it left in the directory is used, and is in nobody's way."""
    bad = small(tmp_path / "bad", file("usr/lib/bootc/install/x.toml", "[install]\nunknown = 1\n"))
    with disks.ext4(tmp_path / "root", 64) as root:
        failed = bootc_py("install", "to-filesystem", bad, root)
        assert failed.code == 7 and "the key 'unknown' is not known" in failed.error
        install("to-filesystem", small(tmp_path / "good"), root)


REFUSED: list[tuple[str, Sequence[str], int, str]] = [
    ("no loader", ("--bootloader=systemd",), 4, "neither the image nor this machine has systemd"),
    ("size", ("--root-size=9G",), 2, "the disk has 2048 MiB, which is less than"),
    (
        "no directory",
        ("--bootloader-from=/none",),
        2,
        "/none is no directory to take a boot loader",
    ),
    ("no size", ("--root-size=9",), 2, "'9' is not a size such as 512M"),
    ("no image", (), 4, "no-such-layout"),
]


@pytest.mark.parametrize(("what", "options", "code", "text"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(tmp_path: Path, what: str, options: Sequence[str], code: int, text: str) -> None:
    disk = blank(tmp_path / "disk.img", 2048)
    name = "oci:no-such-layout" if what == "no image" else small(tmp_path / "layout")
    if what == "no loader" and Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi").exists():
        (tmp_path / "empty").mkdir()
        options = (*options, f"--bootloader-from={tmp_path / 'empty'}")
    done = bootc_py("install", "to-disk", name, disk, *options)
    assert (done.code, text in done.error) == (code, True), done.err


def start(disk: Path) -> bytes:
    with disk.open("rb") as opened_disk:
        return opened_disk.read(1 << 20)


def test_a_disk_in_use_is_written_over_only_when_told_so(tmp_path: Path) -> None:
    layout = small(tmp_path / "layout")
    disk = blank(tmp_path / "disk.img", 2048)
    run("mkfs.ext4", "-q", "-F", disk)
    before = start(disk)
    done = bootc_py("install", "to-disk", layout, disk, "--bootloader=none")
    assert done.code == 2 and "is in use (ext4); --wipe writes over it" in done.error
    assert start(disk) == before
    install("to-disk", layout, disk, "--bootloader=none", "--wipe")
    with opened(disk) as made:
        assert "default " in made.admin_status()
    done = bootc_py("install", "to-disk", layout, disk, "--bootloader=none")
    assert done.code == 2 and "--wipe" in done.error
    missing = bootc_py("install", "to-disk", layout, tmp_path / "none.img")
    assert missing.code == 2 and "truncate --size 10G" in missing.error


def test_onto_a_device(tmp_path: Path) -> None:
    """A loop device, of which the kernel does not know the partitions."""
    disk = blank(tmp_path / "disk.img", 2048)
    device = run("losetup", "--find", "--show", disk).strip()
    try:
        install("to-disk", small(tmp_path / "layout"), device, "--bootloader=none")
    finally:
        run("losetup", "--detach", device)
    with opened(disk) as made:
        assert "default " in made.admin_status()


def test_a_device_that_is_mounted_is_left_alone(tmp_path: Path) -> None:
    layout = small(tmp_path / "layout")
    with disks.ext4(tmp_path / "mounted", 2048) as place:
        device = run("findmnt", "-no", "SOURCE", place).strip()
        (place / "mine").write_text("mine")
        done = bootc_py("install", "to-disk", layout, device, "--bootloader=none", "--wipe")
        assert done.code == 2 and "is it mounted?" in done.error
        assert (place / "mine").read_text() == "mine"


def test_told_to_end_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """By a registry that never answers it is known when its file systems are mounted."""
    disk = blank(tmp_path / "disk.img", 2048)
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"127.0.0.1:{server.getsockname()[1]}/os/x:v1"
        with subprocess.Popen(
            [sys.executable, "-m", "bridge", "install", "to-disk", name, str(disk), PLAIN_HTTP],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            connection, _ = server.accept()
            with connection:
                assert run("losetup", "--associated", disk)
                process.terminate()
                _, said = process.communicate()
    assert process.returncode == 130 and said.splitlines()[-1].startswith("error: interrupted")


def test_links_in_an_image_lead_nowhere_else(tmp_path: Path) -> None:
    """A boot loader's program that is a link to a file of this machine is none."""
    (tmp_path / "secret").write_text("secret")
    layout = small(
        tmp_path / "layout",
        symlink("usr/lib/systemd/boot/efi/systemd-bootx64.efi", str(tmp_path / "secret")),
    )
    (tmp_path / "empty").mkdir()
    done = bootc_py("install", "to-disk", layout, blank(tmp_path / "disk.img", 2048),
                    "--bootloader=systemd", f"--bootloader-from={tmp_path / 'empty'}")  # fmt: skip
    assert done.code != 0 and "systemd" in done.error
