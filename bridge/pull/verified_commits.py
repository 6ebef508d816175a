"""Which commit a layer held, by the DiffID that the layer was verified against.

The ref of an encapsulated commit's layer leads to that very commit, as ostree-ext has it, and so
nothing of ours can stand in it. A small file in the repository's corner says it instead: written
before the ref, and none where it was changed since. It can be deleted at any time; the layer is
then fetched once more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import suppress

from bridge.errors import BridgeError
from bridge.oci.digest import Digest
from bridge.ostree import durable
from bridge.ostree.content import READ_FLAGS
from bridge.ostree.objects import is_checksum
from bridge.ostree.repository import EXTENSION, Repository
from bridge.ostree.transaction import Transaction

DIRECTORY = f"{EXTENSION}/commits"

_MAGIC = b"bootc-py commit 1\n"
_SIZE = len(_MAGIC) + 2 * 65


def write(transaction: Transaction, diff_id: Digest, commit: str) -> None:
    """Have it known, when the transaction is published, that the layer held `commit`."""
    transaction.write_beside(f"{DIRECTORY}/{_name(diff_id)}").write(_render(diff_id, commit))


def listing(repo: Repository) -> Iterator[tuple[Digest, str]]:
    """Yield the DiffIDs with their commits, which need not be there any more."""
    try:
        fd = durable.open_directory(DIRECTORY, repo.fd)
    except FileNotFoundError:
        return
    try:
        for name in sorted(os.listdir(fd)):
            with suppress(BridgeError, OSError):
                diff_id = Digest.parse(name.replace("-", ":", 1))
                commit = _read(fd, name)[len(_MAGIC) :][:64].decode("ascii", "replace")
                if is_checksum(commit) and _read(fd, name) == _render(diff_id, commit):
                    yield diff_id, commit
    finally:
        os.close(fd)


def remove_others(repo: Repository, wanted: Collection[str]) -> None:
    """Forget all but the wanted DiffIDs."""
    spared = {diff_id.replace(":", "-", 1) for diff_id in wanted}
    durable.remove_others(DIRECTORY, spared, repo.fd)


def _name(diff_id: Digest) -> str:
    return f"{diff_id.algorithm}-{diff_id.hex}"


def _render(diff_id: Digest, commit: str) -> bytes:
    check = hashlib.sha256(f"{diff_id} {commit}".encode()).hexdigest()
    return _MAGIC + f"{commit}\n{check}\n".encode()


def _read(dir_fd: int, name: str) -> bytes:
    with open(os.open(name, READ_FLAGS, dir_fd=dir_fd), "rb") as file:
        return file.read(_SIZE + 1)
