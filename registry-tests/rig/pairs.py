"""Real upgrades: two states of a distribution, as images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from rig.peers import require
from tools.images import build, cache
from tools.images import layout as oci
from tools.images.layout import Layout
from tools.images.spec import FORMATS, IMAGES, MIRROR, SOURCE_DATE_EPOCH

VERSIONS = ("v1", "v2")

_SUITE = "trixie"
_TRIXIE = f"deb {MIRROR}/debian {_SUITE} main"
_SOURCES = {
    "v1": (_TRIXIE,),
    "v2": (
        _TRIXIE,
        f"deb {MIRROR}/debian-security {_SUITE}-security main",
        f"deb {MIRROR}/debian {_SUITE}-updates main",
    ),
}
_PACKAGES = (
    "linux-image-cloud-amd64", "systemd", "openssl", "curl", "perl", "python3", "nginx-light",
    "openssh-server", "sudo", "sqlite3",
)  # fmt: skip
_RECIPE = (
    "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=output/dev",
    # A mirror that is frozen at a date is good enough.
    '--aptopt=Acquire::Check-Valid-Until "false"', f"--include={','.join(_PACKAGES)}", _SUITE,
)  # fmt: skip
_CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True)
class Pair:
    """An image before and after an upgrade, in every form of layers."""

    name: str
    forms: dict[tuple[str, str], Layout]
    """By version and form: ("v1", "plain")."""

    @property
    def repository(self) -> str:
        return f"os/{self.name}"

    def plain(self) -> dict[str, Layout]:
        """Both images, uncompressed, by REPOSITORY:TAG."""
        return {f"{self.repository}:{each}": self.forms[each, "plain"] for each in VERSIONS}


def pair(name: str) -> Pair:
    """`base` and `server` are the project's own images; `trixie` is Debian 13 in a single layer,
    before and after its security updates."""
    if name in IMAGES:
        return Pair(
            name,
            {(v, form): build.image(name, v, form) for v in VERSIONS for form in FORMATS},
        )
    key = hashlib.sha256(json.dumps([_RECIPE, _SOURCES]).encode()).hexdigest()[:12]
    place = cache.entry(f"images/{_SUITE}-{key}", _make)
    return Pair(name, {(v, form): oci.read(place / v / form) for v in VERSIONS for form in FORMATS})


def _make(directory: Path) -> None:
    require("mmdebstrap")
    for version, sources in _SOURCES.items():
        tar = directory / f"{version}.tar"
        build.run(
            *_RECIPE, str(tar), *sources,
            SOURCE_DATE_EPOCH=str(SOURCE_DATE_EPOCH), INITRD="No", TMPDIR=str(directory),
        )  # fmt: skip
        plain = _layout(directory / version / "plain", version, tar)
        for form in FORMATS:
            if form != "plain":
                oci.convert(plain, directory / version / form, form)


def _layout(path: Path, tag: str, tar: Path) -> Layout:
    """The image whose only layer is `tar`, which moves there."""
    path.mkdir(parents=True)
    layer = oci.adopt_blob(path, tar, FORMATS["plain"])
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"containers.bootc": "1", "ostree.bootable": "true"}},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": oci.add_blob(path, json.dumps(config).encode(), _CONFIG),
        "layers": [layer],
    }
    return oci.write(path, tag, manifest)
