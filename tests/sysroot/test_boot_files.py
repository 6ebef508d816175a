"""Kernel, boot links and boot entries, on plain directories."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import MalformedImage
from bridge.sysroot import bls, bootentry, bootlinks, kernel
from bridge.sysroot.deployment import BootLink, Deployment

A, B = "a" * 64, "b" * 64


def make_kernel(top: Path, version: str, **files: str) -> None:
    directory = top / "usr/lib/modules" / version
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)


def test_bootcsum_is_over_kernel_initramfs_and_devicetree(
    tmp_path: Path, opened: Callable[[Path], int]
) -> None:
    make_kernel(
        tmp_path, "6.1.0", vmlinuz="V", initramfs_img="I", devicetree="D", _vmlinuz_hmac="H"
    )
    found = kernel.find(opened(tmp_path), "the image")
    assert found.version == "6.1.0"
    assert found.bootcsum == hashlib.sha256(b"VID").hexdigest()
    assert [(each.source, each.name, each.key) for each in found.files] == [
        ("vmlinuz", "vmlinuz-6.1.0", "linux"),
        ("initramfs.img", "initramfs-6.1.0.img", "initrd"),
        ("devicetree", "devicetree-6.1.0", "devicetree"),
        (".vmlinuz.hmac", ".vmlinuz-6.1.0.hmac", ""),
    ]
    assert found.directory("default") == f"ostree/default-{found.bootcsum}"
    assert kernel.find(opened(tmp_path), "the image", "known").bootcsum == "known"


def test_of_several_kernels_the_newest(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    for version in ("6.9.0", "6.10.0"):
        make_kernel(tmp_path, version, vmlinuz=version)
    make_kernel(tmp_path, "7.0.0", modules_dep="no kernel here")
    assert kernel.find(opened(tmp_path), "the image").version == "6.10.0"


@pytest.mark.parametrize("damage", ["nothing", "a link out", "a directory"])
def test_no_kernel(tmp_path: Path, opened: Callable[[Path], int], damage: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/vmlinuz").write_text("not of the image")
    tree = tmp_path / "tree"
    (tree / "usr/lib/modules").mkdir(parents=True)
    if damage == "a link out":
        (tree / "usr/lib/modules/6.1.0").symlink_to(tmp_path / "elsewhere")
    elif damage == "a directory":
        (tree / "usr/lib/modules/6.1.0/vmlinuz").mkdir(parents=True)
    with pytest.raises(MalformedImage, match="the image has no kernel"):
        kernel.find(opened(tree), "the image")


def test_install_links_and_repairs(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    make_kernel(tmp_path / "tree", "6.1.0", vmlinuz="V", initramfs_img="I")
    (tmp_path / "boot").mkdir()
    tree, boot = opened(tmp_path / "tree"), opened(tmp_path / "boot")
    found = kernel.find(tree, "the image")
    kernel.install(found, tree, boot, "default", check_content=True)
    target = tmp_path / "boot" / found.directory("default")
    source = tmp_path / "tree/usr/lib/modules/6.1.0"
    assert sorted(path.name for path in target.iterdir()) == [
        "initramfs-6.1.0.img",
        "vmlinuz-6.1.0",
    ]
    assert (target / "vmlinuz-6.1.0").samefile(source / "vmlinuz")
    assert kernel.size_in_boot(boot, found.directory("default")) > 0
    assert kernel.shortage(found, tree, boot, "default") == 0
    (target / "vmlinuz-6.1.0").unlink()
    (target / "vmlinuz-6.1.0").write_text("X")
    kernel.install(found, tree, boot, "default", check_content=False)
    assert (target / "vmlinuz-6.1.0").read_text() == "X"
    kernel.install(found, tree, boot, "default", check_content=True)
    assert (target / "vmlinuz-6.1.0").read_text() == "V"
    assert (source / "vmlinuz").read_text() == "V"


def test_links_are_numbered_per_kernel_in_boot_order(
    tmp_path: Path, opened: Callable[[Path], int]
) -> None:
    deployments = [
        Deployment("default", A, 1, "one"),
        Deployment("default", B, 0, "two"),
        Deployment("other", A, 0, "one"),
    ]
    links = bootlinks.boot_links(deployments, 1)
    assert [str(link) for link in links] == [
        "/ostree/boot.1/default/one/0",
        "/ostree/boot.1/default/two/0",
        "/ostree/boot.1/other/one/1",
    ]
    fd = opened(tmp_path)
    (tmp_path / "boot.1.0").mkdir()
    (tmp_path / "boot.1.0/stale").touch()
    bootlinks.create(fd, "boot.1.0", deployments)
    bootlinks.swap(fd, 1, 0)
    found = {
        str(path.relative_to(tmp_path)): os.readlink(path)
        for path in tmp_path.rglob("*")
        if path.is_symlink()
    }
    assert found == {
        "boot.1": "boot.1.0",
        "boot.1.0/default/one/0": f"../../../deploy/default/deploy/{A}.1",
        "boot.1.0/default/two/0": f"../../../deploy/default/deploy/{B}.0",
        "boot.1.0/other/one/1": f"../../../deploy/other/deploy/{A}.0",
    }
    for name in ("boot.0.0", "boot.0.1", "boot.1.1"):
        (tmp_path / name).mkdir()
    (tmp_path / "boot.0").symlink_to("boot.0.1")
    bootlinks.remove_others(fd, 1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boot.1", "boot.1.0"]


def test_compose_keeps_what_others_put_into_the_entry() -> None:
    entry = bls.parse(
        "title old\noptions rw ostree=/ostree/boot.0/default/abc/0 quiet\n"
        "initrd /old\ninitrd /ostree/initramfs-overlays/x.img\nfdtdir /old\nx-key kept\n"
    )
    files = (
        kernel.BootFile("vmlinuz", "vmlinuz-6", 1, "linux"),
        kernel.BootFile("initramfs.img", "initramfs-6.img", 1, "initrd"),
    )
    found = bootentry.compose(
        Deployment("default", A, 0, "abc", entry),
        kernel.Kernel("6", files, "abc"),
        BootLink(1, "default", "abc", 0),
        "New title",
        3,
        "/boot/",
    )
    assert bls.render(found) == (
        "title New title\nversion 3\n"
        "options rw quiet ostree=/ostree/boot.1/default/abc/0\n"
        "linux /boot/ostree/default-abc/vmlinuz-6\n"
        "initrd /boot/ostree/default-abc/initramfs-6.img\n"
        "initrd /ostree/initramfs-overlays/x.img\n"
        "fdtdir /old\nx-key kept\n"
    )


@pytest.mark.parametrize(
    ("os_release", "version", "show", "expected"),
    [
        ('PRETTY_NAME="Fake OS 1"\n', None, False, "Fake OS 1 (ostree:2)"),
        ("ID=fake\n", "2.0", False, "fake 2.0 (ostree:2)"),
        ("PRETTY_NAME='Fake 2.0'\n", "2.0", True, "Fake 2.0 (ostree:default:2)"),
        ('# x\nID="unclosed\nPRETTY_NAME=Fake\n', None, False, "Fake (ostree:2)"),
        ('PRETTY_NAME="two\\\tlines"\n', None, False, "two\\ lines (ostree:2)"),
    ],
)
def test_title(
    tmp_path: Path,
    opened: Callable[[Path], int],
    os_release: str,
    version: str | None,
    show: bool,
    expected: str,
) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text(os_release)
    deployment = Deployment("default", A, 0, "abc")
    assert bootentry.title(opened(tmp_path), deployment, 2, version, show) == expected


def test_title_of_a_tree_without_a_name(tmp_path: Path, opened: Callable[[Path], int]) -> None:
    with pytest.raises(MalformedImage, match="no PRETTY_NAME or ID"):
        bootentry.title(opened(tmp_path), Deployment("default", A, 0, "abc"), 0, None, False)


@pytest.mark.parametrize(
    ("name", "version", "title"),
    [
        ("Os", "1", "Os 1 (ostree:default:0)"),
        ("Os 1", "1", "Os 1 (ostree:default:0)"),
        ("Os", None, "Os (ostree:default:0)"),
        ("Os", "1\noptions init=/evil", "Os 1 options init=/evil (ostree:default:0)"),
        ("O\0s\x1b[2J\u2028", "1\r", "O s [2J 1 (ostree:default:0)"),
    ],
)
def test_a_title_is_one_line_whatever_the_image_says(
    name: str, version: str | None, title: str
) -> None:
    assert bootentry.compose_title(name, version, "default", 0) == title
