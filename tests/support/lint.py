"""Roots, initramfs and images to lint, made of Python values."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bridge.lint.model import Finding
from bridge.lint.registry import LINTS
from bridge.lint.subject import Subject

Tree = Mapping[str, str | bytes | None]
"""Paths to a file's content, to `-> TARGET` of a link, or to None for a directory."""
Look = Callable[..., Subject]

GOOD: Tree = {
    **dict.fromkeys(("dev", "proc", "sys", "run", "tmp", "var", "boot", "sysroot", "etc")),
    "ostree": "-> sysroot/ostree",
    "usr/lib/modules/6.1.0/vmlinuz": "a kernel",
    "usr/lib/ostree/prepare-root.conf": "[composefs]\nenabled = yes\n",
}
"""Nothing is wrong with it."""


def build(top: Path, tree: Tree) -> Path:
    """Make a tree of files; the directories on their way come by themselves."""
    top.mkdir(exist_ok=True)
    for path, content in tree.items():
        place = os.fsencode(top) + b"/" + os.fsencode(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if content is None:
            os.makedirs(place, exist_ok=True)
        elif isinstance(content, str) and content.startswith("-> "):
            os.symlink(os.fsencode(content.removeprefix("-> ")), place)
        else:
            with open(place, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
    return top


def check(name: str, subject: Subject) -> list[Finding]:
    """Return what one lint finds."""
    lint = next(each for each in LINTS if each.name == name)
    assert lint.not_for(subject) == ""
    return list(lint.check(subject))


def paths(findings: list[Finding]) -> list[str]:
    """Return where, and what is to be known of each: `PATH` or `PATH (DETAIL)`."""
    return [each.path + (f" ({each.detail})" if each.detail else "") for each in findings]


def cpio_entry(
    name: str | bytes,
    data: bytes = b"",
    *,
    inode: int = 0,
    mode: int = 0o100644,
    links: int = 1,
    mtime: int = 0,
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"070701",
    size: int | None = None,
) -> bytes:
    """Return a member of an archive in the new ASCII form."""
    raw = (name.encode() if isinstance(name, str) else name) + b"\0"
    length = len(data) if size is None else size
    numbers = (inode, mode, 0, 0, links, mtime, length, *device, 0, 0, len(raw), 0)
    head = magic + b"".join(b"%08x" % number for number in numbers) + raw
    return _padded(head) + _padded(data)


def cpio(*entries: bytes) -> bytes:
    """Return an archive, which ends as cpio has it end: with zeros up to 512 bytes."""
    whole = b"".join(entries) + cpio_entry("TRAILER!!!")
    return whole + bytes(-len(whole) % 512)


def files(tree: Mapping[str, bytes], *, mtime: int = 0) -> bytes:
    """Return an archive of files as a reproducible tool writes it, directories on the way too."""
    names = set(tree)
    for name in tree:
        while name := name.rpartition("/")[0]:
            names.add(name)
    return cpio(
        *(
            cpio_entry(name, tree[name], inode=number, mtime=mtime)
            if name in tree
            else cpio_entry(name, inode=number, mode=0o040755, links=2, mtime=mtime)
            for number, name in enumerate(sorted(names))
        )
    )


def tar_of(entries: Sequence[tuple[str, bytes, int]]) -> bytes:
    """Return a layer of files: path, content, time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data, mtime in entries:
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
