"""fsck: hash every object again, and look for those that refs lead to but that are not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.errors import DamagedRepository
from bridge.limits import BLOB_BUFFER
from bridge.ostree import objects, refs
from bridge.ostree.objects import ObjectType
from bridge.ostree.reachable import reachable

if TYPE_CHECKING:
    from bridge.ostree.repository import Repository


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


def fsck(repo: Repository, on_object: Callable[[int], None] | None = None) -> FsckResult:
    """Verify all objects of the repository, and that all which refs need are there.

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
    known = {kind: set[str]() for kind in ObjectType}
    for checksum, kind in there:
        known[kind].add(checksum)
    roots = refs.roots(repo)
    needed = reachable(repo, set(roots.values()), on_missing=lambda checksum, kind: None)
    for kind, checksums in needed.items():
        faults += [Fault(each, kind, "missing") for each in sorted(checksums - known[kind])]
    return FsckResult(len(there), total, len(roots), tuple(faults))


def _check(repo: Repository, checksum: str, kind: ObjectType) -> tuple[int, str]:
    try:
        if kind is not ObjectType.FILE:
            data = repo.read_metadata(checksum, kind)
            decode = {
                ObjectType.COMMIT: objects.decode_commit,
                ObjectType.DIRTREE: objects.decode_dirtree,
                ObjectType.DIRMETA: objects.decode_dirmeta,
            }[kind]
            decode(data)
            return len(data), ""
        meta, payload = repo.open_file(checksum)
        digest = hashlib.sha256(objects.content_header(meta))
        size = 0
        if payload is not None:
            with payload:
                while chunk := payload.read(BLOB_BUFFER):
                    digest.update(chunk)
                    size += len(chunk)
        actual = digest.hexdigest()
        return size, "" if actual == checksum else f"damaged, its content hashes to {actual}"
    except (DamagedRepository, OSError) as error:
        return 0, f"damaged, {error}"
