"""What a deployed commit says of the image that it was made from.

ostree-ext leaves manifest and configuration as texts in the commit's metadata; the repository
alone is asked, never a registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import BridgeError
from bridge.oci import strict_json
from bridge.oci.model import Manifest, parse_document
from bridge.ostree.repository import Repository
from bridge.sysroot import cached_update, timestamp

_VERSION_LABELS = ("org.opencontainers.image.version", "version")
_CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """An image as `status` shows it."""

    digest: str
    """Of the manifest, not of an index that the reference may name."""
    architecture: str
    version: str | None = None
    timestamp: str | None = None
    """When it was built: RFC 3339 in UTC."""
    size: int | None = None
    """Bytes of its layers, as they lie in a registry."""
    cached_update: ImageMetadata | None = None
    """A newer image that `upgrade --check` has seen."""


Lookup = Callable[[str], ImageMetadata | None]
"""From a commit's checksum to its image; `None` when the commit is of no image."""


def from_repository(repo: Repository) -> Lookup:
    """Return a look-up in `repo`. It never fails: what cannot be read counts as no image."""

    def lookup(checksum: str) -> ImageMetadata | None:
        try:
            found = parse(repo.read_commit(checksum).metadata)
        except BridgeError:
            return None
        return found and replace(found, cached_update=_cached(repo, checksum))

    return lookup


def _cached(repo: Repository, checksum: str) -> ImageMetadata | None:
    try:
        metadata = cached_update.detached(repo, checksum)
    except (BridgeError, OSError):
        return None
    return parse(metadata, cached_update.DIGEST, cached_update.CONFIG)


def parse(
    metadata: Mapping[str, Any],
    digest_key: str = "ostree.manifest-digest",
    config_key: str = "ostree.container.image-config",
) -> ImageMetadata | None:
    """Read commit metadata; `None` without a manifest digest.

    Lenient with the configuration, which old writers left out: then nothing but the digest is
    known. Detached metadata has the same texts of a pending update under other keys.
    """
    digest = _plain(metadata.get(digest_key))
    if not isinstance(digest, str):
        return None
    try:
        config = strict_json.parse(str(_plain(metadata.get(config_key)) or "null"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        config = {}
    inner = config.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    labels = labels if isinstance(labels, dict) else {}
    version = next((labels[key] for key in _VERSION_LABELS if key in labels), None)
    created = labels.get(_CREATED) or config.get("created")
    architecture = config.get("architecture")
    return ImageMetadata(
        digest=digest,
        architecture=architecture if isinstance(architecture, str) else "unknown",
        version=version if isinstance(version, str) else None,
        timestamp=timestamp.normalise(created) if isinstance(created, str) else None,
        size=_size(metadata.get("ostree.manifest")),
    )


def _size(manifest: Any) -> int | None:
    try:
        found = parse_document(str(_plain(manifest)).encode())
    except BridgeError:
        return None
    return found.image_bytes if isinstance(found, Manifest) else None


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)
