"""`oci:` layout directories with one image each: reading, and changing the compression."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.images.spec import FORMATS

_COMPRESS = {"gzip": ["gzip", "-n", "-6"], "zstd": ["zstd", "-q", "-3", "-T1"]}


@dataclass(frozen=True)
class Layout:
    """An image in a layout directory."""

    path: Path
    tag: str
    digest: str
    manifest: dict[str, Any]

    @property
    def reference(self) -> str:
        """The image as skopeo and podman name it."""
        return f"oci:{self.path}:{self.tag}"

    @property
    def layers(self) -> list[dict[str, Any]]:
        return list(self.manifest["layers"])

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(
            self.blob(self.manifest["config"]["digest"]).read_bytes()
        )
        return config

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config["rootfs"]["diff_ids"])

    def blob(self, digest: str) -> Path:
        return blob_path(self.path, digest)


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps the blob `digest`."""
    return layout / "blobs" / Path(*digest.split(":"))


def read(path: Path) -> Layout:
    """The only image of the layout directory `path`."""
    (entry,) = json.loads((path / "index.json").read_bytes())["manifests"]
    manifest = json.loads(blob_path(path, entry["digest"]).read_bytes())
    tag = entry["annotations"]["org.opencontainers.image.ref.name"]
    return Layout(path, tag, entry["digest"], manifest)


def convert(source: Layout, target: Path, form: str, parent: Layout | None = None) -> Layout:
    """Writes `source`, whose layers are plain tars, to the directory `target` in `form`.

    The config stays as it is, byte for byte. Layers that `parent` has in the same form
    are linked from there and not compressed again.
    """
    for layer, diff_id in zip(source.layers, source.diff_ids, strict=True):
        if layer["mediaType"] != FORMATS["plain"] or layer["digest"] != diff_id:
            raise ValueError(f"{source.path}: layer {layer['digest']} is not a plain tar")
    (target / "blobs" / "sha256").mkdir(parents=True)
    config = source.manifest["config"]
    os.link(source.blob(config["digest"]), blob_path(target, config["digest"]))
    known = dict(zip(parent.diff_ids, parent.layers, strict=True)) if parent else {}

    def layer_in_form(diff_id: str) -> dict[str, Any]:
        if parent and diff_id in known:
            descriptor = known[diff_id]
            link = blob_path(target, descriptor["digest"])
            if not link.exists():
                os.link(parent.blob(descriptor["digest"]), link)
            return descriptor
        return _compress(source.blob(diff_id), target, form)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        layers = list(pool.map(layer_in_form, source.diff_ids))
    return write(target, source.tag, {**source.manifest, "layers": layers})


def write(path: Path, tag: str, manifest: dict[str, Any]) -> Layout:
    """Adds `manifest` under `tag` to a directory that holds its blobs: makes it a layout."""
    data = json.dumps(manifest, separators=(",", ":")).encode()
    descriptor = add_blob(path, data, "application/vnd.oci.image.manifest.v1+json")
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    (path / "index.json").write_text(json.dumps(index, separators=(",", ":")))
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return read(path)


def add_blob(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Stores `data` in `layout`; the descriptor."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = blob_path(layout, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def adopt_blob(layout: Path, file: Path, media_type: str) -> dict[str, Any]:
    """Moves `file`, which is on the same file system, into `layout`; the descriptor."""
    with file.open("rb") as stream:
        digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    path = blob_path(layout, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.chmod(0o644)
    file.rename(path)
    return {"mediaType": media_type, "digest": digest, "size": path.stat().st_size}


def _compress(tar: Path, layout: Path, form: str) -> dict[str, Any]:
    """Compresses the file `tar` into `layout`; the descriptor."""
    with tempfile.NamedTemporaryFile(dir=layout, delete=False) as output, tar.open("rb") as data:
        subprocess.run(_COMPRESS[form], stdin=data, stdout=output, check=True)
    return adopt_blob(layout, Path(output.name), FORMATS[form])
