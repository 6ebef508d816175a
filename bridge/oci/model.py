"""Values of the OCI image-spec: descriptor, manifest, index, platform, image configuration.

Parsed from the raw bytes, which stay the truth: a document is never written out again from its
parsed form, so that its digest stays what it was. Docker's schema 2 documents have the same
shape under other media types. Source: https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import platform as host_platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge import limits
from bridge.errors import MalformedImage
from bridge.oci import strict_json
from bridge.oci.digest import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
"""Of the two bytes `{}`, where a document must name a blob and there is nothing to say."""
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)

_LAYER_COMPRESSION = {
    "application/vnd.oci.image.layer.v1.tar": "none",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "none",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}


def layer_compression(media_type: str) -> str:
    """Return `none`, `gzip` or `zstd`; `MalformedImage` for a media type that is no layer's."""
    try:
        return _LAYER_COMPRESSION[media_type]
    except KeyError:
        raise MalformedImage(f"layer of unsupported media type {media_type!r:.200}") from None


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and architecture, in Go's words (`linux`, `amd64`, variant `v7`)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def host(cls) -> Platform:
        """Return the platform this process runs on."""
        machine = host_platform.machine()
        names = {
            "x86_64": ("amd64", ""),
            "aarch64": ("arm64", ""),
            "armv7l": ("arm", "v7"),
            "i686": ("386", ""),
        }
        architecture, variant = names.get(machine, (machine, ""))
        return cls("linux", architecture, variant)

    def accepts(self, other: Platform) -> bool:
        """Tell whether an image for `other` runs here. `arm64` and `arm64/v8` are one."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        if self.architecture == "arm64":
            return same and other.variant in ("", "v8")
        return same and (not other.variant or not self.variant or self.variant == other.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a document says of a blob: its type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""
    """What kind of artifact a manifest is, if it is none of an image."""
    external: bool = False
    """It is said to be elsewhere (`urls`), and need not be where the document is."""

    @classmethod
    def parse(cls, value: object) -> Descriptor:
        """Return the descriptor that a JSON value is; `MalformedImage` where it is none."""
        data = _object(value, "descriptor")
        size = data.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise MalformedImage(f"descriptor with size {size!r:.100}")
        where = data.get("platform")
        return cls(
            media_type=_text(data.get("mediaType"), "a descriptor's mediaType"),
            digest=Digest.parse(data.get("digest")),
            size=size,
            annotations=_annotations(data),
            platform=None if where is None else _platform(_object(where, "platform")),
            artifact_type=_artifact_type(data),
            external=bool(data.get("urls")),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest and the raw bytes it was parsed from."""

    raw: bytes
    media_type: str
    digest: Digest
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    subject: Descriptor | None = None
    """The manifest that this one refers to: what it signs, describes or changes."""
    artifact_type: str = ""
    """As the document has it; empty in an image's."""

    @property
    def image_bytes(self) -> int:
        """Sum of the sizes that the descriptors give, config and layers."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """An image index (Docker: manifest list) and the raw bytes it was parsed from."""

    raw: bytes
    media_type: str
    digest: Digest
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    subject: Descriptor | None = None
    artifact_type: str = ""

    def select(self, platform: Platform) -> Descriptor:
        """Return the first manifest for `platform`; `MalformedImage` names those on offer."""
        offered = [entry for entry in self.manifests if entry.platform is not None]
        for entry in offered:
            if entry.platform is not None and platform.accepts(entry.platform):
                return entry
        if len(self.manifests) == 1 and not offered:
            return self.manifests[0]
        names = ", ".join(dict.fromkeys(str(entry.platform) for entry in offered)) or "none"
        raise MalformedImage(
            f"index {self.digest} has no image for {platform}; it has: {shown(names)}"
        )


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The parts of an image configuration that a bootable image needs."""

    raw: bytes
    platform: Platform
    diff_ids: tuple[Digest, ...]
    labels: Mapping[str, str]
    created: str | None
    history: tuple[Mapping[str, Any], ...]


def parse_document(raw: bytes, media_type: str | None = None) -> Manifest | Index:
    """Parse a manifest or an index.

    `media_type` is the Content-Type it came with, when it came with one. The document's own
    `mediaType` must agree with it, and a document with both `layers` and `manifests` is refused
    (CVE-2021-41190). Raises `MalformedImage`.
    """
    if len(raw) > limits.MANIFEST_MAX:
        raise MalformedImage(f"manifest of {len(raw)} bytes; the limit is {limits.MANIFEST_MAX}")
    data = _object(_json(raw, "manifest"), "manifest")
    if data.get("schemaVersion") != 2:
        raise MalformedImage(
            f"manifest with schemaVersion {data.get('schemaVersion')!r:.50}; only 2 is supported"
        )
    declared = data.get("mediaType")
    declared = None if declared is None else _text(declared, "mediaType")
    known = MANIFEST_TYPES + INDEX_TYPES
    given = media_type.partition(";")[0].strip() if media_type else None
    if given not in known:
        given = None
    if declared is not None and given is not None and declared != given:
        raise MalformedImage(f"manifest says {declared!r:.100} but was served as {given!r}")
    kind = declared or given
    if "layers" in data and "manifests" in data:
        raise MalformedImage("document with both layers and manifests")
    if kind is None:
        kind = OCI_INDEX if "manifests" in data else OCI_MANIFEST
    digest = Digest.of(raw)
    if kind in INDEX_TYPES:
        entries = _list(data.get("manifests"), "an index's manifests")
        if len(entries) > limits.INDEX_ENTRIES_MAX:
            raise MalformedImage(f"index with {len(entries)} entries")
        manifests = tuple(Descriptor.parse(entry) for entry in entries)
        return Index(raw, kind, digest, manifests, _annotations(data), *_referring(data))
    if kind not in MANIFEST_TYPES:
        raise MalformedImage(f"document of unsupported media type {kind!r:.200}")
    layers = _list(data.get("layers"), "a manifest's layers")
    if len(layers) > limits.LAYERS_MAX:
        raise MalformedImage(f"image with {len(layers)} layers; the limit is {limits.LAYERS_MAX}")
    config = Descriptor.parse(data.get("config"))
    parsed = tuple(Descriptor.parse(layer) for layer in layers)
    return Manifest(raw, kind, digest, config, parsed, _annotations(data), *_referring(data))


def shown(text: str) -> str:
    """Return what an image says as a message may hold it: printable, and a few lines at most."""
    return "".join(char if char.isprintable() else "?" for char in text[:500])


def parse_config(raw: bytes) -> ImageConfig:
    """Parse an image configuration; `MalformedImage` when it is not one of an image."""
    data = _object(_json(raw, "image config"), "image config")
    rootfs = _object(data.get("rootfs"), "image config's rootfs")
    if rootfs.get("type") != "layers":
        raise MalformedImage(f"image config with rootfs type {rootfs.get('type')!r:.50}")
    inner = data.get("config")
    inner = {} if inner is None else _object(inner, "image config's config")
    created = data.get("created")
    history = _list(data.get("history") or [], "history")
    return ImageConfig(
        raw=raw,
        platform=_platform(data),
        diff_ids=tuple(Digest.parse(d) for d in _list(rootfs.get("diff_ids") or [], "diff_ids")),
        labels=_string_map(inner.get("Labels"), "Labels"),
        created=None if created is None else _text(created, "created"),
        history=tuple(_object(step, "history entry") for step in history),
    )


def _json(raw: bytes, what: str) -> object:
    try:
        return strict_json.parse(raw)
    except ValueError as error:
        raise MalformedImage(f"{what} is not valid JSON: {str(error)[:100]}") from None


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedImage(f"{what} is not a JSON object")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedImage(f"{what} is not a JSON array")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise MalformedImage(f"{what} is {value!r:.100}, not a text")
    return value


def _string_map(value: object, what: str) -> dict[str, str]:
    if value is None:
        return {}
    data = _object(value, what)
    if not all(isinstance(text, str) for text in data.values()):
        raise MalformedImage(f"{what} has a value that is not a text")
    return data


def _annotations(data: dict[str, Any]) -> dict[str, str]:
    return _string_map(data.get("annotations"), "annotations")


def _referring(data: dict[str, Any]) -> tuple[Descriptor | None, str]:
    subject = data.get("subject")
    return None if subject is None else Descriptor.parse(subject), _artifact_type(data)


def _artifact_type(data: dict[str, Any]) -> str:
    value = data.get("artifactType")
    return "" if value in (None, "") else _text(value, "artifactType")


def _platform(data: dict[str, Any]) -> Platform:
    return Platform(
        _text(data.get("os"), "os"),
        _text(data.get("architecture"), "architecture"),
        str(data.get("variant") or ""),
    )
