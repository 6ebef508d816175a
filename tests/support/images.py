"""OCI images out of Python values: entries to tar, tar to layers, layers to layouts on disk."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from bridge.oci.digest import Digest
from bridge.oci.model import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Platform

LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPES = {"none": LAYER, "gzip": f"{LAYER}+gzip", "zstd": f"{LAYER}+zstd"}
BOOTABLE = {"containers.bootc": "1"}


@dataclass(frozen=True)
class Member:
    """An entry of a layer. `kind` is tarfile's type byte."""

    path: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""
    xattrs: Mapping[str, str] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)


def file(path: str, data: bytes | str = b"", mode: int = 0o644, **more: Any) -> Member:
    return Member(path, data=data.encode() if isinstance(data, str) else data, mode=mode, **more)


def directory(path: str, mode: int = 0o755, **more: Any) -> Member:
    return Member(path, tarfile.DIRTYPE, mode=mode, **more)


def symlink(path: str, target: str, **more: Any) -> Member:
    return Member(path, tarfile.SYMTYPE, mode=0o777, target=target, **more)


def hardlink(path: str, target: str) -> Member:
    return Member(path, tarfile.LNKTYPE, target=target)


def char(path: str, major: int = 0, minor: int = 0) -> Member:
    return Member(path, tarfile.CHRTYPE, device=(major, minor))


def whiteout(path: str) -> Member:
    parent, _, name = path.rpartition("/")
    return file(f"{parent}/.wh.{name}" if parent else f".wh.{name}", mode=0)


def opaque(path: str) -> Member:
    return file(f"{path}/.wh..wh..opq" if path else ".wh..wh..opq", mode=0)


def tar(members: Sequence[Member]) -> bytes:
    """Return a pax archive; the paths stand in it as they are given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.path)
            info.type = member.kind
            info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
            info.linkname = member.target
            info.devmajor, info.devminor = member.device
            info.pax_headers = {f"SCHILY.xattr.{k}": v for k, v in member.xattrs.items()}
            info.size = len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return out.getvalue()


def compress(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor().compress(data)
    return data


@dataclass
class Image:
    """A manifest, or an index, and all blobs by digest: a test may change any of them."""

    manifest: bytes
    blobs: dict[str, bytes]
    media_type: str = OCI_MANIFEST

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.manifest)
        return document

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in self.document["layers"]]

    @property
    def size(self) -> int:
        document = self.document
        sizes: int = document["config"]["size"] + sum(each["size"] for each in document["layers"])
        return sizes

    def changed(self, **members: Any) -> Image:
        """Return the image with other members in its manifest."""
        return Image(dumps(self.document | members), dict(self.blobs), self.media_type)


def image(
    *layers: Sequence[Member] | bytes,
    compression: str | Sequence[str] = "gzip",
    labels: Mapping[str, str] | None = None,
    created: str | None = "2024-05-06T07:08:09Z",
    platform: Platform | None = None,
    diff_ids: Sequence[str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Return an image of layers that are entries or, as bytes, uncompressed tar streams."""
    platform = platform or Platform.host()
    kinds = [compression] * len(layers) if isinstance(compression, str) else compression
    streams = [layer if isinstance(layer, bytes) else tar(layer) for layer in layers]
    packed = [compress(each, kind) for each, kind in zip(streams, kinds, strict=True)]
    config = {
        "created": created,
        "os": platform.os,
        "architecture": platform.architecture,
        "config": {"Labels": dict(BOOTABLE if labels is None else labels)},
        "rootfs": {
            "type": "layers",
            "diff_ids": [Digest.of(each) for each in streams] if diff_ids is None else diff_ids,
        },
    }
    if created is None:
        del config["created"]
    if platform.variant:
        config["variant"] = platform.variant
    raw_config = dumps(config)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(raw_config, OCI_CONFIG),
        "layers": [
            descriptor(each, MEDIA_TYPES[kind]) for each, kind in zip(packed, kinds, strict=True)
        ],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    blobs = {str(Digest.of(each)): each for each in (raw_config, *packed)}
    return Image(dumps(manifest), blobs)


def index(*images: tuple[Image, Platform | None]) -> Image:
    """Return an index of images, each with the platform that it says the image is for."""
    entries = []
    blobs: dict[str, bytes] = {}
    for each, platform in images:
        entry = descriptor(each.manifest, each.media_type)
        if platform is not None:
            entry["platform"] = {"os": platform.os, "architecture": platform.architecture}
        entries.append(entry)
        blobs |= {**each.blobs, str(each.digest): each.manifest}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Image(dumps(document), blobs, OCI_INDEX)


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def dumps(document: Any) -> bytes:
    return json.dumps(document).encode()


def layout_files(images: Mapping[str, Image]) -> dict[str, bytes]:
    """Return the files of a layout that holds `images` by tag."""
    entries = [
        descriptor(each.manifest, each.media_type)
        | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, each in images.items()
    ]
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": dumps({"schemaVersion": 2, "manifests": entries}),
    }
    for each in images.values():
        for digest, data in {**each.blobs, str(each.digest): each.manifest}.items():
            files[f"blobs/{digest.replace(':', '/')}"] = data
    return files


def write_layout(path: Path, images: Image | Mapping[str, Image]) -> Path:
    """Write a layout directory; an image alone is tagged `latest`."""
    for name, data in layout_files(_tagged(images)).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_archive(path: Path, images: Image | Mapping[str, Image]) -> Path:
    """Write a layout as an uncompressed tar archive."""
    files = layout_files(_tagged(images))
    path.write_bytes(tar([file(name, data) for name, data in files.items()]))
    return path


def _tagged(images: Image | Mapping[str, Image]) -> Mapping[str, Image]:
    return {"latest": images} if isinstance(images, Image) else images
