"""What `upgrade --check` found, kept for `status`: in the detached metadata of the commit that is
followed, as ostree-ext keeps it."""

from __future__ import annotations

from typing import Any

from bridge import limits
from bridge.ostree import durable, variant
from bridge.ostree.repository import Repository
from bridge.ostree.variant import Variant
from bridge.sysroot import files

_PREFIX = "ostree-ext.cached."
DIGEST, _MANIFEST, CONFIG = (
    f"{_PREFIX}{each}" for each in ("manifest-digest", "manifest", "config")
)


def write(repo: Repository, commit: str, digest: str, manifest: bytes, config: bytes) -> None:
    """Keep an update that was seen; what else is in the commit's detached metadata stays."""
    metadata = detached(repo, commit)
    metadata[DIGEST] = Variant("s", digest)
    metadata[_MANIFEST] = Variant("s", manifest.decode("utf-8", "replace"))
    metadata[CONFIG] = Variant("s", config.decode("utf-8", "replace"))
    _write(repo, commit, metadata)


def forget(repo: Repository, commit: str) -> None:
    """There is no update any more."""
    metadata = detached(repo, commit)
    left = {key: value for key, value in metadata.items() if not key.startswith(_PREFIX)}
    if left != metadata:
        _write(repo, commit, left)


def detached(repo: Repository, commit: str) -> dict[str, Any]:
    """Return the commit's detached metadata; empty where it has none."""
    with files.directory(repo.fd, f"objects/{commit[:2]}") as fd:
        try:
            data = files.read_bytes(fd, f"{commit[2:]}.commitmeta", limits.METADATA_MAX)
        except FileNotFoundError:
            return {}
    found: dict[str, Any] = variant.decode("a{sv}", data)
    return found


def _write(repo: Repository, commit: str, metadata: dict[str, Any]) -> None:
    with (
        files.doing("keeping what is known of an update"),
        files.directory(repo.fd, f"objects/{commit[:2]}") as fd,
    ):
        durable.replace_file(f"{commit[2:]}.commitmeta", variant.encode("a{sv}", metadata), fd)
