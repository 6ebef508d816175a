"""Images that failed on this host: none of them is staged again without being asked for.

A text in the repository's corner, one manifest digest a line, oldest first. The deployments
themselves may be long gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from bridge import limits
from bridge.errors import MalformedImage
from bridge.oci.digest import Digest
from bridge.ostree import durable
from bridge.ostree.repository import EXTENSION, Repository
from bridge.sysroot import files

_NAME = "failed-images"


def parse(text: str) -> tuple[str, ...]:
    """Return the digests in `text`; lines that hold none are left out."""
    return tuple(line for line in text.splitlines() if _is_digest(line))


def load(repo: Repository) -> tuple[str, ...]:
    """Return the manifest digests of the images that failed, oldest first."""
    with files.doing("reading which images failed"):
        try:
            data = files.read_bytes(repo.fd, f"{EXTENSION}/{_NAME}", limits.FAILED_IMAGES_SIZE)
        except FileNotFoundError:
            return ()
    return parse(data.decode("utf-8", "replace"))


def add(repo: Repository, digests: Iterable[str]) -> None:
    """Remember images; of all that ever failed, the last `limits.FAILED_IMAGES`.

    The sysroot's lock is held, as for `remove`.
    """
    new = tuple(dict.fromkeys(digests))
    if new:
        kept = [each for each in load(repo) if each not in new]
        _write(repo, [*kept, *new][-limits.FAILED_IMAGES :])


def remove(repo: Repository, digests: Iterable[str]) -> None:
    """Forget images; those that are not there are no error."""
    present, gone = load(repo), set(digests)
    if not gone.isdisjoint(present):
        _write(repo, [each for each in present if each not in gone])


def _write(repo: Repository, digests: list[str]) -> None:
    with files.doing("noting which images failed"):
        fd = durable.make_directories(EXTENSION, repo.fd)
        try:
            durable.replace_file(_NAME, "".join(f"{each}\n" for each in digests).encode(), fd)
        finally:
            os.close(fd)


def _is_digest(text: str) -> bool:
    try:
        Digest.parse(text)
    except MalformedImage:
        return False
    return True
