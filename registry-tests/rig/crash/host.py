"""A sysroot as a boot loader and the kernel command line see it, read without bootc-py's help."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rig.peers import require

_OSTREE_ARGUMENT = re.compile(r"ostree=(/ostree/boot\.[01]/\S+)")
# The two sets of links and entries take turns: which of them it is does not matter.
_TURN = re.compile(r"\b(loader|boot)\.[01](\.[01])?\b|\b(refs/heads/ostree)/[01]/[01]\b")
# A lock's file is empty, and nobody's lock; who takes that lock next removes it.
_NOTHING = ("ostree/lock", "extensions/bootc-py/downloads")
_STATUS = re.compile(r"^[* ] \S+ ([0-9a-f]{64}\.[0-9]+)", re.MULTILINE)


@dataclass(frozen=True)
class Boot:
    """One boot entry, with all that it leads to hashed."""

    entry: str
    deployment: str
    tree: str
    origin: str
    kernel: tuple[str, ...]


def boots(sysroot: Path, *, shallow: bool = False) -> list[Boot]:
    """What can be booted, the default first; raises where an entry leads to nothing.

    With `shallow` files with several links are not read: they are objects, which fsck reads.
    """
    if not (sysroot / "boot/loader").is_symlink():
        return []
    entries = [_keys(path) for path in (sysroot / "boot/loader/entries").glob("*.conf")]
    entries.sort(key=lambda keys: int(keys["version"]), reverse=True)
    return [_boot(sysroot, keys, shallow) for keys in entries]


def names(sysroot: Path) -> list[str]:
    """The deployments that `ostree admin` sees, in its order."""
    done = subprocess.run(
        [require("ostree"), "admin", "status", f"--sysroot={sysroot}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return _STATUS.findall(done.stdout)


def paths(top: Path) -> set[str]:
    """What is there, by path; of what takes turns, one name for both. A lock's file and the empty
    directory for downloads count for nothing."""
    found = set()
    for directory, below, files in os.walk(top):
        for name in (*below, *files):
            path = os.path.relpath(os.path.join(directory, name), top)
            found.add(_either_turn(path))
    return {path for path in found if not path.endswith(_NOTHING)}


def fingerprint(top: Path, *, shallow: bool = False) -> str:
    """A hash over every path below `top`: type, mode, owner, xattrs, content or target."""
    digest = hashlib.sha256()
    for line in _describe(top, shallow):
        digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _either_turn(text: str) -> str:
    return _TURN.sub(lambda match: f"{match[1] or match[3]}", text)


def _describe(top: Path, shallow: bool) -> Iterator[str]:
    for directory, below, files in os.walk(top):
        below.sort()
        for path in (directory, *sorted(os.path.join(directory, name) for name in files)):
            yield f"{os.path.relpath(path, top)} {_describe_one(path, shallow)}"
        for link in (f"{directory}/{name}" for name in below):
            if os.path.islink(link):
                yield f"{os.path.relpath(link, top)} {_describe_one(link, shallow)}"


def _describe_one(path: str, shallow: bool) -> str:
    status = os.lstat(path)
    content = ""
    if stat.S_ISREG(status.st_mode):
        is_object = shallow and status.st_nlink > 1
        content = str(status.st_size) if is_object else _digest(Path(path))
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    keys = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = [(key, os.getxattr(path, key, follow_symlinks=False)) for key in keys]
    return f"{status.st_mode:o} {status.st_uid} {status.st_gid} {xattrs} {content}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keys(entry: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in entry.read_text().splitlines())


def _boot(sysroot: Path, keys: dict[str, str], shallow: bool) -> Boot:
    argument = _OSTREE_ARGUMENT.search(keys["options"])
    assert argument, keys
    tree = (sysroot / argument[1].lstrip("/")).resolve(strict=True)
    kernel = [sysroot / "boot" / keys[key].removeprefix("/boot").lstrip("/")
              for key in ("linux", "initrd") if key in keys]  # fmt: skip
    return Boot(
        _either_turn(str(sorted(keys.items()))),
        tree.name,
        fingerprint(tree, shallow=shallow),
        tree.with_name(f"{tree.name}.origin").read_text(),
        tuple(_digest(path) for path in kernel),
    )
