"""Resolving: what a reference names, followed to a manifest and a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import MalformedImage
from bridge.oci.digest import Digest
from bridge.oci.model import (
    CONFIG_TYPES,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    parse_config,
)
from bridge.oci.reference import ImageReference
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.source import Source

_BOOTABLE_LABELS = ("containers.bootc", "ostree.bootable")


@dataclass(frozen=True, slots=True)
class Resolved:
    """An image that a reference names: its manifest for one platform, and its configuration."""

    named: Digest
    manifest: Manifest
    config: ImageConfig
    document_bytes: int = 0
    """Bytes of the documents: an index, the manifest, the configuration."""

    def require_bootable(self, reference: ImageReference) -> None:
        """Raise `MalformedImage` unless the image says of itself that it can be booted."""
        if not any(label in self.config.labels for label in _BOOTABLE_LABELS):
            raise MalformedImage(
                f"{reference} is not a bootable image: it has neither of the labels "
                f"{' and '.join(_BOOTABLE_LABELS)}"
            )


def resolve(source: Source, platform: Platform | None, repo: Repository) -> Resolved:
    """Follow a reference to a manifest and a configuration for `platform`, all verified.

    Without a platform it is this machine's where an index gives the choice, and else any. A
    configuration that an image in `repo` has is not fetched again.
    """
    top = source.top()
    manifest = top
    if isinstance(manifest, Index):
        manifest = source.manifest(manifest.select(platform or Platform.host()))
        if isinstance(manifest, Index):
            raise MalformedImage(f"index {top.digest} lists another index for {platform}")
    if manifest.config.media_type not in CONFIG_TYPES:
        raise MalformedImage(
            f"{manifest.digest} is not an image but an artifact of type "
            f"{manifest.config.media_type!r:.200}"
        )
    raw = images.find_config(repo, manifest.config)
    try:
        config = parse_config(source.config(manifest.config) if raw is None else raw)
    except MalformedImage as error:
        raise MalformedImage(f"config {manifest.config.digest}: {error}") from None
    if platform is not None and not platform.accepts(config.platform):
        raise MalformedImage(
            f"{manifest.digest} is an image for {config.platform}, not for {platform}"
        )
    documents = (top.raw, manifest.raw) if manifest is not top else (top.raw,)
    size = sum(map(len, documents)) + manifest.config.size
    return Resolved(top.digest, manifest, config, size)
