"""Boot loaders that need more than boot entries, on plain directories."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.machine import Machine

from bridge import limits
from bridge.errors import BridgeError, NoSpace, NotFound, UsageError
from bridge.ostree import durable
from bridge.sysroot import bls, boot_order, kargs, loaders
from bridge.sysroot.loaders import grub_menu, systemd_boot
from bridge.sysroot.rollback import rollback
from bridge.sysroot.sysroot import Sysroot

KERNELS = {name: f"ostree/default-{digit * 64}" for name, digit in zip("abc", "123", strict=True)}


def entry(name: str, place: int = 0, prefix: str = "/", options: str = "root=x rw") -> bls.Entry:
    """The boot entry of the deployment `name`, as `boot_order` composes it."""
    where = f"{prefix}{KERNELS[name]}"
    return bls.Entry(
        (
            ("title", f"OS {name} (ostree:{place})"),
            ("version", str(9 - place)),
            ("options", options),
            ("linux", f"{where}/vmlinuz-{name}"),
            ("initrd", f"{where}/initramfs-{name}.img"),
        )
    )


def order(names: str) -> list[bls.Entry]:
    return [entry(name, place) for place, name in enumerate(names)]


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """A /boot with three kernels, and an EFI system partition in it with systemd-boot only."""
    for name, directory in KERNELS.items():
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / f"vmlinuz-{name}").write_text(f"kernel {name}")
        (tmp_path / directory / f"initramfs-{name}.img").write_text(f"initrd {name}" * 99)
    (tmp_path / "efi/EFI/BOOT").mkdir(parents=True)
    (tmp_path / "efi/EFI/BOOT/BOOTX64.EFI").write_text("systemd-boot")
    (tmp_path / "efi/loader/entries").mkdir(parents=True)
    (tmp_path / "efi/loader/entries/other.conf").write_text("title Another system\n")
    return tmp_path


def bootable(boot: Path) -> list[str]:
    """The deployments on the partition whose entries have all their files, by what boots first.

    systemd-boot orders entries without a sort-key by their file names, the last first.
    """
    found = []
    esp = boot / "efi"
    for path in sorted((esp / "loader/entries").glob("ostree-*.conf"), reverse=True):
        read = bls.parse(path.read_text())
        name = (read.get("linux") or "").rpartition("-")[2]
        files = [
            esp / value.lstrip("/") for key in ("linux", "initrd") for value in read.get_all(key)
        ]
        originals = [boot / file.relative_to(esp) for file in files]
        if all(
            file.is_file() and file.read_bytes() == original.read_bytes()
            for file, original in zip(files, originals, strict=True)
        ):
            found.append(name)
        else:
            found.append(f"broken {name}")
    return found


class PowerCut(BaseException):
    pass


@dataclass
class Power:
    """Counts what changes a disk; from call number `last` on, nothing does any more."""

    last: int = 1 << 30
    calls: int = 0

    def use(self, name: str) -> None:
        self.calls += 1
        if self.calls > self.last:
            raise PowerCut(name)


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Iterator[Power]:
    power = Power()

    def counted(where: object, name: str, *, dry: bool = False) -> None:
        real: Callable[..., object] = getattr(where, name)

        def call(*arguments: object, **options: object) -> object:
            power.use(name)
            return None if dry else real(*arguments, **options)

        monkeypatch.setattr(where, name, call)

    for name in ("rename", "unlink", "rmdir", "mkdir", "ftruncate"):
        counted(os, name)
    counted(durable, "write_all")
    counted(os, "fsync", dry=True)
    counted(durable, "syncfs", dry=True)
    yield power
    power.last = 1 << 30


MOVES = [
    ("a", "ba", "a new one"),
    ("ba", "ab", "rolled back"),
    ("ba", "cb", "a third, and the first goes"),
    ("ab", "b", "one goes"),
    ("", "a", "the first of all"),
]


@pytest.mark.parametrize(("old", "new", "what"), MOVES, ids=[each[2] for each in MOVES])
def test_power_may_go_at_every_step_of_a_copy(
    boot: Path, opened: Callable[[Path], int], power: Power, old: str, new: str, what: str
) -> None:
    fd = opened(boot)
    if old:
        systemd_boot.copy(fd, order(old))
    before = boot / "before"
    shutil.copytree(boot / "efi", before)
    stops = 0
    while True:
        power.calls, power.last = 0, stops
        try:
            systemd_boot.copy(fd, order(new))
        except PowerCut:
            power.last = 1 << 30
            there = bootable(boot)
            # What boots is the old or the new default, with all its files.
            assert not old or there[0] in (old[0], new[0]), (stops, there)
            assert not [each for each in there if "broken" in each], (stops, there)
            # The next to come finishes it.
            systemd_boot.copy(fd, order(new))
            assert bootable(boot) == list(new)
            assert contents(boot / "efi") == expected(boot, new)
            shutil.rmtree(boot / "efi")
            shutil.copytree(before, boot / "efi")
            stops += 1
        else:
            break
    assert stops > 5
    assert contents(boot / "efi") == expected(boot, new)


def contents(top: Path) -> dict[str, str]:
    return {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}


def expected(boot: Path, names: str) -> dict[str, str]:
    """All that is to be on the partition: kernels, entries, and what was not ours."""
    files = {
        "EFI/BOOT/BOOTX64.EFI": "systemd-boot",
        "loader/entries/other.conf": "title Another system\n",
    }
    for place, name in enumerate(names):
        files[f"loader/entries/ostree-{len(names) - place}.conf"] = bls.render(entry(name, place))
        for file in (boot / KERNELS[name]).iterdir():
            files[f"{KERNELS[name]}/{file.name}"] = file.read_text()
    return files


def test_done_once_more_it_writes_nothing(
    boot: Path, opened: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = opened(boot)
    systemd_boot.copy(fd, order("ba"))
    monkeypatch.setattr(durable, "replace_file", lambda *_: pytest.fail("written again"))
    systemd_boot.copy(fd, order("ba"))


def test_everything_is_on_the_disk_before_the_next_needs_it(
    boot: Path, opened: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = opened(boot)
    systemd_boot.copy(fd, order("ba"))
    done: list[str] = []
    rename, unlink = os.rename, os.unlink

    def seen_rename(old: str, new: str, **options: int) -> None:
        done.append("entry" if new.endswith(".conf") else "kernel")
        rename(old, new, **options)  # type: ignore[arg-type]

    def seen_unlink(name: str, **options: int) -> None:
        done.append("entry gone" if name.endswith(".conf") else "kernel gone")
        unlink(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", seen_rename)
    monkeypatch.setattr(os, "unlink", seen_unlink)
    monkeypatch.setattr(durable, "syncfs", lambda _fd: done.append("sync"))
    systemd_boot.copy(fd, order("c"))
    steps = ["kernel", "entry", "entry gone", "kernel gone"]
    first = {each: done.index(each) for each in steps}
    assert [*sorted(steps, key=lambda each: first[each])] == steps
    for one, following in itertools.pairwise(steps):
        last = max(place for place, each in enumerate(done) if each == one)
        assert "sync" in done[last : first[following]], (one, following, done)
    assert done[-1] == "sync"


def test_no_room_is_found_before_anything_changes(
    boot: Path, opened: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = opened(boot)
    systemd_boot.copy(fd, order("a"))
    before = contents(boot / "efi")
    monkeypatch.setattr(limits, "MIB", 1 << 60)
    with pytest.raises(NoSpace, match=r"no room for vmlinuz-b of 8 bytes"):
        loaders.named("systemd").prepare(fd, fd, order("ba"))
    assert contents(boot / "efi") == before


def test_room_of_a_copy_that_was_cut_off_is_had_back(
    boot: Path, opened: Callable[[Path], int]
) -> None:
    fd = opened(boot)
    systemd_boot.copy(fd, order("a"))
    loaders.named("systemd").prepare(fd, fd, order("ba"))
    assert (boot / "efi" / KERNELS["b"]).is_dir()
    loaders.named("systemd").prepare(fd, fd, order("ca"))
    assert not (boot / "efi" / KERNELS["b"]).exists()
    assert bootable(boot) == ["a"]


@pytest.mark.parametrize("missing", ["efi", "efi/EFI"])
def test_a_partition_that_is_not_mounted_is_not_written_to(
    boot: Path, opened: Callable[[Path], int], missing: str
) -> None:
    shutil.rmtree(boot / missing)
    with pytest.raises(NotFound, match="not mounted at /boot/efi"):
        systemd_boot.copy(opened(boot), order("a"))
    assert not (boot / "efi/ostree").exists()


def test_paths_with_boot_before_them_lie_at_the_partitions_root(
    boot: Path, opened: Callable[[Path], int]
) -> None:
    systemd_boot.copy(opened(boot), [entry("a", prefix="/boot/")])
    assert contents(boot / "efi") == expected(boot, "a")


def test_nothing_is_copied_that_is_not_a_kernel_of_ostree(
    boot: Path, opened: Callable[[Path], int]
) -> None:
    for path in ("/vmlinuz", "/ostree/../../etc/x", "/ostree/a/b/c"):
        with pytest.raises(BridgeError):
            systemd_boot.copy(opened(boot), [entry("a").replace("linux", path)])
    assert bootable(boot) == []


def test_a_menu_for_grub() -> None:
    assert grub_menu.render(order("ba")) == (
        "set default=0\n"
        "set timeout=0\n"
        "menuentry 'OS b (ostree:0)' --id 'ostree-0' {\n"
        f"    linux '/{KERNELS['b']}/vmlinuz-b' 'root=x' 'rw'\n"
        f"    initrd '/{KERNELS['b']}/initramfs-b.img'\n"
        "}\n"
        "menuentry 'OS a (ostree:1)' --id 'ostree-1' {\n"
        f"    linux '/{KERNELS['a']}/vmlinuz-a' 'root=x' 'rw'\n"
        f"    initrd '/{KERNELS['a']}/initramfs-a.img'\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ('a="x y" b', "'a=x y' 'b'"),
        ("it's $HOME `x` {1..2}", "'it'\\''s' '$HOME' '`x`' '{1..2}'"),
        ("", ""),
    ],
)
def test_grub_takes_every_argument_as_it_stands(tmp_path: Path, options: str, words: str) -> None:
    text = grub_menu.render([entry("a", options=options).replace("title", "It's; } $x")])
    assert f"linux '/{KERNELS['a']}/vmlinuz-a' {words}".rstrip() in text.splitlines()[3]
    (tmp_path / "grub.cfg").write_text(text)
    if shutil.which("grub-script-check") is not None:
        subprocess.run(["grub-script-check", str(tmp_path / "grub.cfg")], check=True)


def test_the_menu_lies_beside_the_entries(boot: Path, opened: Callable[[Path], int]) -> None:
    (boot / "loader.1").mkdir()
    loaders.named("grub-menu").prepare(opened(boot), opened(boot / "loader.1"), order("a"))
    assert (boot / "loader.1/grub.cfg").read_text() == grub_menu.render(order("a"))


@pytest.mark.parametrize("there", [None, "", grub_menu.render(order("cba"))])
def test_a_menu_that_libostree_did_not_write_is_made_up_for(
    boot: Path, opened: Callable[[Path], int], there: str | None
) -> None:
    (boot / "loader.0").mkdir()
    (boot / "loader").symlink_to("loader.0")
    if there is not None:
        (boot / "loader.0/grub.cfg").write_text(there)
    loaders.named("grub-menu").publish(opened(boot), order("ba"))
    assert (boot / "loader.0/grub.cfg").read_text() == grub_menu.render(order("ba"))


def test_which_loaders_there_are() -> None:
    assert [loaders.named(each).follows_entries for each in ("none", "grub-menu", "systemd")] == [
        True,
        False,
        False,
    ]
    with pytest.raises(UsageError, match="names the boot loader 'lilo'"):
        loaders.named("lilo")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A host with systemd-boot, on its first deployment."""
    found = Machine(tmp_path, monkeypatch)
    found.switch("1")
    (tmp_path / "root/boot/efi/EFI").mkdir(parents=True)
    with Sysroot.open(tmp_path / "root", writable=True) as sysroot, sysroot.locked():
        boot_order.use_loader(sysroot, "systemd")
    return found


def booting(top: Path) -> list[str]:
    """The versions that the partition's entries boot: each link leads to a deployment."""
    found = []
    for path in sorted((top / "boot/efi/loader/entries").iterdir(), reverse=True):
        options = kargs.split(bls.parse(path.read_text()).get("options") or "")
        (link,) = (each.removeprefix("ostree=/") for each in options if each.startswith("ostree="))
        text = (top / link / "usr/lib/os-release").read_text()
        found.append(text.rpartition("VERSION_ID=")[2].strip())
    return found


@pytest.mark.parametrize("then", ["switch", "rollback"])
def test_a_loader_that_was_left_behind_is_caught_up_with(machine: Machine, then: str) -> None:
    """Power goes after /boot has the new order, and before the partition has."""
    top = machine.path / "root"
    machine.switch("2")
    assert booting(top) == ["2", "1"]

    def cut(boot_fd: int, _entries: object) -> None:
        if os.readlink("loader", dir_fd=boot_fd) != before:
            raise PowerCut

    before = os.readlink(top / "boot/loader")
    with (
        machine.patch.context() as patch,
        Sysroot.open(top, writable=True) as sysroot,
        sysroot.locked(),
    ):
        patch.setattr(systemd_boot, "copy", cut)
        state = sysroot.load_to_change()
        with pytest.raises(PowerCut):
            boot_order.write(sysroot, state, state.deployments[::-1])
    assert booting(top) == ["2", "1"]
    if then == "switch":
        machine.switch("3")
        assert booting(top) == ["3", "1"]
    else:
        with Sysroot.open(top, writable=True) as sysroot:
            rollback(sysroot)
        assert booting(top) == ["2", "1"]
    esp = top / "boot/efi"
    assert {each.name for each in (esp / "ostree").iterdir()} == {
        each.name for each in (top / "boot/ostree").iterdir()
    }
