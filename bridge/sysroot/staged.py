"""A staged deployment: checked out, and made what boots next only when the machine goes down.

`/run/ostree/staged-deployment` names it, a serialised `a{sv}` as libostree writes it; at shutdown
its `ostree-finalize-staged.service` merges `/etc` and writes the boot order. While
`/run/ostree/staged-deployment-locked` is there, it does not. Both go with the next boot. Source:
libostree, ostree-sysroot-deploy.c, ostree_sysroot_stage_tree_with_options.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge import limits
from bridge.errors import DamagedRepository
from bridge.ostree import durable, variant
from bridge.ostree.variant import Variant
from bridge.sysroot import bls, files, kargs
from bridge.sysroot.deployment import Deployment, parse_name

RUN = Path("/run/ostree")
STAGED = "staged-deployment"
LOCKED = "staged-deployment-locked"
_FOR_ROLLBACK = b"rollback\n"
SERVICE = "ostree-finalize-staged.service"
"""libostree\'s unit: its stopping finalises."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What the file says."""

    stateroot: str
    checksum: str
    serial: int
    bootcsum: str
    merge: tuple[str, str] | None
    """Stateroot and `CHECKSUM.SERIAL` of the deployment whose `/etc` is to be merged."""
    options: kargs.Arguments | None
    """Kernel arguments; None for those of the merge deployment."""
    extra: tuple[tuple[str, str], ...] = ()
    """Keys for the boot entry that libostree does not know."""
    locked: bool = False
    """Whether it stays as it is when the machine goes down."""

    @property
    def deployment(self) -> Deployment:
        """The deployment, without its origin, and with what is known of its boot entry."""
        entry = bls.Entry(self.extra)
        if self.options is not None:
            entry = entry.replace("options", kargs.join(self.options))
        return Deployment(self.stateroot, self.checksum, self.serial, self.bootcsum, entry)


def parse(data: bytes) -> Staged:
    """Parse the file's content; `DamagedRepository` where it is none. `locked` is not in it always:
    see `read`."""
    document = variant.decode("a{sv}", data)
    target = _deployment(document.get("target"))
    if target is None:
        raise DamagedRepository("the staged deployment has no target")
    stateroot, name, bootcsum = target
    parsed = parse_name(name)
    if parsed is None or "/" in stateroot or stateroot in ("", ".", ".."):
        where = f"{stateroot}/{name}"
        raise DamagedRepository(f"the staged deployment is named {where!r:.200}")
    merge = _deployment(document.get("merge-deployment"))
    options = document.get("kargs")
    extra = document.get("bootconfig-extra")
    locked = document.get("locked")
    return Staged(
        stateroot,
        *parsed,
        bootcsum,
        None if merge is None else merge[:2],
        kargs.append((), options.value) if _is(options, "as") else None,
        tuple(extra.value.items()) if _is(extra, "a{ss}") else (),
        _is(locked, "b") and bool(locked.value),
    )


def render(staged: Staged) -> bytes:
    """Return the file's content."""
    document = {"target": _described(staged.stateroot, staged.deployment.name, staged.bootcsum)}
    if staged.locked:
        document["locked"] = Variant("b", True)
    if staged.merge is not None:
        document["merge-deployment"] = _described(*staged.merge, "")
    if staged.options is not None:
        document["kargs"] = Variant("as", list(staged.options))
    if staged.extra:
        document["bootconfig-extra"] = Variant("a{ss}", dict(staged.extra))
    return variant.encode("a{sv}", document)


def read() -> Staged | None:
    """Return what is staged on this machine; `DamagedRepository` where that cannot be read."""
    try:
        with _opened() as run:
            found = parse(files.read_bytes(run, STAGED, limits.ORIGIN_MAX))
            # Older ones know the file only, newer ones the key as well.
            locked = found.locked or files.lstat(run, LOCKED) is not None
    except FileNotFoundError:
        return None
    return replace(found, locked=locked)


def write(staged: Staged) -> None:
    """Make it what is staged, in place of what was. Its directory is there, and whole.

    Written under a lock, so that no shutdown takes it while it should not be taken.
    """
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _opened() as run:
        if staged.locked:
            durable.replace_file(LOCKED, b"", run)
        # The file alone is the lock: libostree before 2024 does not know the key.
        durable.replace_file(STAGED, render(replace(staged, locked=False)), run)
        if not staged.locked:
            durable.remove_tree(LOCKED, run)


def lock() -> None:
    """Have what is staged stay as it is when the machine goes down."""
    with _opened() as run:
        durable.replace_file(LOCKED, b"", run)


def unlock() -> None:
    """Have what is staged finalised when the machine goes down. What else its file says stays."""
    with _opened() as run:
        document = variant.decode("a{sv}", files.read_bytes(run, STAGED, limits.ORIGIN_MAX))
        if document.pop("locked", None) is not None:
            durable.replace_file(STAGED, variant.encode("a{sv}", document), run)
        durable.remove_tree(LOCKED, run)


def hold_back() -> None:
    """Have what is staged stay as it is when the machine goes down, for the sake of a rollback.

    What was locked before is left as it is.
    """
    found = read()
    if found is not None and not found.locked:
        with _opened() as run:
            durable.replace_file(LOCKED, _FOR_ROLLBACK, run)


def let_go() -> None:
    """Take back what `hold_back` did, and no other lock."""
    if read() is None:
        return
    with _opened() as run, contextlib.suppress(FileNotFoundError):
        if files.read_bytes(run, LOCKED, limits.ORIGIN_MAX) == _FOR_ROLLBACK:
            durable.remove_tree(LOCKED, run)


def merge_of(deployment: Deployment | None) -> tuple[str, str] | None:
    """Return how the file names a merge deployment."""
    return None if deployment is None else (deployment.stateroot, deployment.name)


@contextlib.contextmanager
def _opened() -> Iterator[int]:
    run = files.open_directory(RUN)
    try:
        yield run
    finally:
        os.close(run)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Variant) and value.type == kind


def _described(stateroot: str, name: str, bootcsum: str) -> Variant:
    document = {"name": Variant("s", name), "osname": Variant("s", stateroot)}
    document["bootcsum"] = Variant("s", bootcsum)
    return Variant("a{sv}", document)


def _deployment(value: Any) -> tuple[str, str, str] | None:
    if not _is(value, "a{sv}"):
        return None
    found = []
    for key in ("osname", "name", "bootcsum"):
        text = value.value.get(key)
        if not _is(text, "s"):
            raise DamagedRepository(f"the staged deployment's file lacks {key}")
        found.append(text.value)
    return found[0], found[1], found[2]
