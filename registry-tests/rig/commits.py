"""Commits that the real `ostree` makes, of trees as an operating system has them."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path

from rig.peers import require
from rig.store import ostree

DATE = "2024-05-06T07:08:09Z"
REF = "os/test"
_LABEL = "security.selinux"
_NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
"""`cap_net_raw+ep`, as capabilities(7) has it on a file."""


def tree(root: Path, version: int, *, labelled: bool = True) -> None:
    """Write a tree that could boot, labelled by hand; versions share most of it."""
    noise = random.Random("stable")
    changing = random.Random(f"version {version}")
    modules = root / "usr/lib/modules/6.1.0"
    for each in (modules, root / "usr/bin", root / "usr/etc/deep", root / "usr/share/stable"):
        each.mkdir(parents=True)
    for each in ("boot", "sysroot", "var", "proc", "dev", "run", "sys", "tmp"):
        (root / each).mkdir()
    (modules / "vmlinuz").write_bytes(noise.randbytes(700_000))
    (modules / "initramfs.img").write_bytes(changing.randbytes(5_000_000))
    for number in range(40):
        (root / f"usr/share/stable/{number}").write_bytes(noise.randbytes(200_000))
    (root / "usr/share/stable/moving").write_bytes(changing.randbytes(100_000))
    (root / "usr/lib/os-release").write_text(f"ID=test\nVERSION_ID={version}\nPRETTY_NAME=Test\n")
    (root / "usr/bin/tool").write_bytes(noise.randbytes(20_000))
    (root / "usr/bin/tool").chmod(0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/also")
    (root / "usr/bin/ping").write_bytes(noise.randbytes(5_000))
    (root / "usr/bin/link").symlink_to("..//bin/tool")
    (root / "usr/bin/ünd").write_text("a name")
    (root / "usr/lib/empty").touch()
    (root / "usr/etc/deep/conf").write_text(f"{version}\n")
    (root / "usr/etc/deep/conf").chmod(0o600)
    os.chown(root / "usr/etc/deep/conf", 7, 8)
    (root / "usr/etc/hostname").write_text("host\n")
    os.setxattr(root / "usr/bin/tool", "user.component", b"tool")
    os.setxattr(root / "usr/bin/ping", "security.capability", _NET_RAW)
    for path in (root, *root.rglob("*")) if labelled else ():
        if path.name == "also":  # the same file as another name
            continue
        kind = "root_t" if path == root else f"{path.name.encode().hex()[:12]}_t"
        label = f"system_u:object_r:{kind}:s0".encode() + b"\0"
        os.setxattr(path, _LABEL, label, follow_symlinks=False)


def commit(repo: Path, root: Path, version: int, *options: str) -> str:
    """Commit the tree, bootable and with something detached; return the commit."""
    if not repo.exists():
        subprocess.run([require("ostree"), f"--repo={repo}", "init", "--mode=bare"], check=True)
    ostree(
        repo, "commit", f"--branch={REF}", f"--subject=Version {version}", "--body=Of a\ntest",
        f"--add-metadata-string=version={version}", "--add-metadata=ostree.bootable=true",
        "--add-metadata-string=rpmostree.inputhash=abc", f"--timestamp={DATE}",
        f"--add-detached-metadata-string=told={version}", f"--tree=dir={root}", *options,
    )  # fmt: skip
    return revision(repo, REF)


def revision(repo: Path, name: str) -> str:
    """The commit that a ref names."""
    return ostree(repo, "rev-parse", name).decode().strip()


def layers(repo: Path) -> set[str]:
    """The commits that the refs of layers lead to."""
    names = ostree(repo, "refs", "--list", "ostree/container/blob").decode().split()
    return {revision(repo, name) for name in names}


def same(repo: Path, other: Path, name: str) -> None:
    """Fails unless a commit is in both, with all that `ostree` says of it."""
    for what in (
        ("show", "--raw", name),
        ("show", "--print-detached-metadata-key=told", name),
        ("ls", "-R", "-C", "-X", name),
    ):
        assert ostree(repo, *what) == ostree(other, *what)


def build_on_top(layout: Path, work: Path, change: str) -> None:
    """Have buildah put a layer on the image `v` in `layout`, as `top`: what `change`, a shell
    script, does in its root directory."""
    storage = (f"--root={work / 'g'}", f"--runroot={work / 'r'}", "--storage-driver=vfs")

    def buildah(*arguments: str) -> str:
        command = [require("buildah"), *storage, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    container = buildah("from", f"oci:{layout}:v")
    subprocess.run(["sh", "-euc", change], cwd=buildah("mount", container), check=True)
    buildah("umount", container)
    buildah("commit", "--quiet", "--format=oci", container, f"oci:{layout}:top")
