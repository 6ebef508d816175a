"""fsck: hash every object again, and look for those that are needed but that are not there.

Needed is what the refs lead to, and what any other commit does that is there, unless it is marked
as partial: as `ostree fsck` has it. Takes no lock; what comes and goes meanwhile is no fault.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER, REREADS_MAX
from bridge.ostree import objects, refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import Reachable, reachable
from bridge.ostree.selinux import as_stored

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository

_MODE_BITS = 0o177777
"""File type and permissions; libostree takes no mode that has others."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One object that is not as it should be."""

    checksum: str
    kind: ObjectType
    reason: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.checksum}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FsckResult:
    """What was looked at and what is wrong with it; `bytes` is the payload that was hashed."""

    objects: int
    bytes: int
    refs: int
    faults: tuple[Fault, ...]
    broken_refs: dict[str, str]
    """Refs that hold no checksum, by full name (`refs/heads/...`), with what is wrong."""


def fsck(repo: Repository, on_object: Callable[[int], None] | None = None) -> FsckResult:
    """Verify all objects of the repository, and that all which refs and commits need are there.

    `on_object` is called with each object's size in bytes as it is done.
    """
    there = sorted(repo.objects(), key=lambda each: (each[0], each[1].value))
    faults: list[Fault] = []
    total = 0
    # Hashing releases the interpreter's lock, so a second thread is a second core.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        checks = pool.map(lambda each: _check(repo, *each), there, chunksize=1)
        for (checksum, kind), (size, reason) in zip(there, checks, strict=True):
            total += size
            if reason:
                faults.append(Fault(checksum, kind, reason))
            if on_object:
                on_object(size)
    faults += missing(repo)
    broken = refs.broken(repo)
    return FsckResult(
        len(there), total, len(refs.readable(repo)) + len(broken), tuple(faults), broken
    )


def check(repo: Repository, checksum: str, kind: ObjectType) -> Fault | None:
    """Verify one object; None when it is whole, or not there."""
    reason = _check(repo, checksum, kind)[1]
    return Fault(checksum, kind, reason) if reason else None


def missing(
    repo: Repository, walk: Callable[[Iterable[str]], Reachable] | None = None
) -> list[Fault]:
    """Return the objects that refs and commits need and that are not there; nothing is hashed but
    what is walked through. `walk` tells what commits need, for who knows some of it already."""
    for _ in range(REREADS_MAX):
        roots = _roots(repo)
        needed = walk(roots) if walk else reachable(repo, roots, lambda checksum, kind: None)
        there = {kind: set[str]() for kind in ObjectType}
        for checksum, kind in repo.objects():
            there[kind].add(checksum)
        faults = [
            Fault(each, kind, "missing")
            for kind, checksums in needed.items()
            for each in sorted(checksums - there[kind])
        ]
        if not faults or _roots(repo) == roots:
            break  # else a prune was under way: what is missing was perhaps no longer needed
    return faults


def _roots(repo: Repository) -> set[str]:
    commits = set(refs.readable(repo).values())
    commits.update(each for each, kind in repo.objects() if kind is ObjectType.COMMIT)
    return {each for each in commits if not is_partial(repo, each)}


def is_partial(repo: Repository, commit: str) -> bool:
    """Tell whether the commit is one of which only a part was wanted.

    libostree marks those of which its own fsck found a part missing in the same way, but for an
    `f` in the file: they are damaged.
    """
    with suppress(OSError):
        fd = os.open(f"state/{commit}.commitpartial", os.O_RDONLY | os.O_CLOEXEC, dir_fd=repo.fd)
        with open(fd, "rb") as file:
            return file.read(1) != b"f"
    return False


def _check(repo: Repository, checksum: str, kind: ObjectType) -> tuple[int, str]:
    """Return the bytes that were hashed, and what is wrong; an object that is gone is not."""
    try:
        if kind is ObjectType.FILE:
            return _check_file(repo, checksum)
        data = repo.read_metadata(checksum, kind)
        if kind is ObjectType.COMMIT:
            objects.decode_commit(data)
        elif kind is ObjectType.DIRTREE:
            objects.decode_dirtree(data)
        elif objects.decode_dirmeta(data).mode & ~_MODE_BITS:
            return len(data), "damaged, its mode is none"
        return len(data), ""
    except (DamagedRepository, OSError) as error:
        with suppress(FileNotFoundError):
            os.stat(repo.object_path(checksum, kind), dir_fd=repo.fd, follow_symlinks=False)
            return 0, f"damaged, {error}"
        return 0, ""


def _check_file(repo: Repository, checksum: str) -> tuple[int, str]:
    meta, payload = repo.open_file(checksum)
    digests = [hashlib.sha256(objects.content_header(each)) for each in as_stored(meta)]
    size = 0
    if payload is not None:
        with payload:
            while chunk := payload.read(BLOB_BUFFER):
                for digest in digests:
                    digest.update(chunk)
                size += len(chunk)
    actual = digests[0].hexdigest()
    if checksum not in (each.hexdigest() for each in digests):
        return size, f"damaged, its content hashes to {actual}"
    return size, "damaged, its mode is none" if meta.mode & ~_MODE_BITS else ""
